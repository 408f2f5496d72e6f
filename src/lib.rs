//! doorcast follows the INSERTs of one MySQL or MariaDB table through the binlog, turns each row
//! into JSON and pushes it to browsers.
//!
//! ```text
//!              binlog (order, promptness)
//! MySQL  ─────────────────────────────────▶ tail ──┐
//! MariaDB                                          ├─▶ follow ──▶ feed ──▶ http
//!        ◀──────── SELECT by key ────────── table ─┘      │
//!                                                         ▼
//!                                                   checkpoint file
//! ```
//!
//! Modules in reading order, with what each must not know:
//!
//! - [`id`]: event ids. Knows nothing else.
//! - [`row`]: a row as JSON, from a binlog image or a SELECT. Does no I/O.
//! - [`link`]: connections to the server and what kind of server it is. Knows no table.
//! - [`table`]: the schema, and rows by key. Knows no binlog.
//! - [`tail`]: the binlog, one committed transaction at a time. Knows no client and no feed.
//! - [`checkpoint`]: the position file. Knows no server.
//! - [`feed`]: the bounded ring of rows, its cursors, gaps, and the door to older rows. Knows
//!   neither MySQL nor HTTP.
//! - [`follow`]: joins tail and table to feed and checkpoint. Knows no client.
//! - [`status`]: what the process is doing, in words and numbers. Written by `follow`, read by `http`.
//! - [`http`]: SSE, long poll, the old page, status, pages. Knows neither MySQL nor the checkpoint.
//! - [`options`]: command line, environment and file.
//! - [`demo`]: a private server with swipes, to try it all out.

pub mod checkpoint;
pub mod demo;
pub mod feed;
pub mod follow;
pub mod http;
pub mod id;
pub mod link;
pub mod options;
pub mod row;
pub mod status;
pub mod table;
pub mod tail;
