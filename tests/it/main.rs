//! Integration tests on real servers, real sockets and a real browser.

mod binlog;
mod browser;
mod character_sets;
mod deadline;
mod demo;
mod failures;
mod follow;
mod http;
mod row_types;
mod servers;
