//! Integration tests on real servers, real sockets and a real browser.

// Tests fail by panicking, their helpers too.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod altered;
mod binlog;
mod blocked;
mod browser;
mod character_sets;
mod clients;
mod clock;
mod damage;
mod deadline;
mod demo;
mod ending;
mod epochs;
mod failures;
mod faults_found;
mod follow;
mod fuzz;
mod gaps;
mod hall;
mod http;
mod judge;
mod large;
mod link;
mod load;
mod looks;
mod namespace;
mod older;
mod overtaken;
mod positions;
mod prepared;
mod process;
mod proxy;
mod recovery;
mod row_types;
mod scene;
mod screen;
mod screen_page;
mod second_opinion;
mod servers;
mod site;
mod standstill;
mod statements;
mod table;
mod traced;
