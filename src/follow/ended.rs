//! Why a session or its reading ended, sorted by who can mend it.

use std::error::Error;

use crate::{
    link::LinkError,
    table::{SchemaError, TableError},
};

/// Why a session ended. There is no good end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// It may pass.
    #[error("{}", chain(.0.as_ref()))]
    Passing(Box<dyn Error + Send + Sync>),
    /// A person must act; the text names the remedy.
    #[error("{0}")]
    Person(String),
    /// A person must act, and asked that the process ends then.
    #[error("{0}")]
    Fatal(String),
}

impl From<LinkError> for Ended {
    fn from(err: LinkError) -> Self {
        match err {
            LinkError::Definite(message) => Ended::Person(message),
            passing => Ended::Passing(passing.into()),
        }
    }
}

impl From<SchemaError> for Ended {
    fn from(err: SchemaError) -> Self {
        match err {
            SchemaError::Server(_) => Ended::Passing(err.into()),
            definite => Ended::Person(definite.to_string()),
        }
    }
}

impl From<TableError> for Ended {
    fn from(err: TableError) -> Self {
        Ended::Passing(err.into())
    }
}

/// An error and its causes in one line.
pub(super) fn chain(err: &dyn Error) -> String {
    let mut text = err.to_string();
    let mut cause = err.source();
    while let Some(err) = cause {
        let more = err.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = err.source();
    }
    text
}

/// Why reading stopped.
pub(super) enum ReadError {
    /// The server does not have the position.
    Lost(String),
    /// Anything else.
    Ended(Ended),
}

impl From<Ended> for ReadError {
    fn from(ended: Ended) -> Self {
        ReadError::Ended(ended)
    }
}
