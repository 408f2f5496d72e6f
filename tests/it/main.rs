//! Integration tests on real servers, real sockets and a real browser.

// Tests fail by panicking, their helpers too.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod browser;
mod failures;
mod follow;
mod http;
mod row_types;
mod servers;
mod site;
