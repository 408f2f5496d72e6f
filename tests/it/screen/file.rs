//! The people file as it changes.
