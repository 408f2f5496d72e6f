-- Takes the demo's table away, with all its rows.
DROP TABLE `vdooropen`;
