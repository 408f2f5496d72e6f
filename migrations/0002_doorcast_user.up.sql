-- The user that doorcast logs in as. Run it as an administrator, in the database of the table.
--
-- Before you do: put a password of your own in the place of CHANGE-ME, narrow '%' to the address
-- of the machine that doorcast runs on, and name your table if it is not `vdooropen`.
CREATE USER 'doorcast'@'%' IDENTIFIED BY 'CHANGE-ME';

-- To read the binlog, and to ask where it stands. Neither can be limited to one table.
GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'doorcast'@'%';

-- To read rows of the past. Nothing here lets it write.
GRANT SELECT ON `vdooropen` TO 'doorcast'@'%';
