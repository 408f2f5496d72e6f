//! `/reception/api/*`.
