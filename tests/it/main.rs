//! Integration tests on real servers, real sockets and a real browser.

mod browser;
mod deadline;
mod demo;
mod failures;
mod follow;
mod http;
mod row_types;
mod servers;
mod site;
