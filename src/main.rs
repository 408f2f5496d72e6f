//! The `doorcast` command.

fn main() {}
