//! A private server with swipes, to try it all out.

pub mod binary;
pub mod server;
