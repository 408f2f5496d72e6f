-- Takes doorcast's user away, with all its rights.
DROP USER 'doorcast'@'%';
