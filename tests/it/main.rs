//! Integration tests on real servers, real sockets and a real browser.

mod binlog;
mod browser;
mod character_sets;
mod clients;
mod deadline;
mod demo;
mod failures;
mod follow;
mod http;
mod load;
mod process;
mod row_types;
mod second_opinion;
mod servers;
mod site;
mod table;
