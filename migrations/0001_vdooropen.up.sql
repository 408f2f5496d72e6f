-- The demo's table: one row for each card swipe. An access-control system brings its own; then
-- this file is not needed.
CREATE TABLE `vdooropen` (
  `vid`    int(11)  NOT NULL AUTO_INCREMENT COMMENT 'the key, and the cursor',
  `doorno` int(11)  NOT NULL COMMENT 'which door',
  `rfsim`  char(16) NOT NULL COMMENT 'card id: personal data',
  `optime` char(15) NOT NULL COMMENT 'time of the swipe, as the controller wrote it',
  `ynopen` char(1)  NOT NULL COMMENT 'did the door open: Y or N',
  PRIMARY KEY (`vid`),
  UNIQUE KEY `vdooropen_I0` (`vid`),
  KEY `vdooropen_i1` (`doorno`, `rfsim`)
) ENGINE=InnoDB;
