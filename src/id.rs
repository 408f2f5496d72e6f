//! Event ids: `<epoch>-<key>`, for instance `1-300005`.
//!
//! Owns their text form. Knows nothing of feeds, tables or clients.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

/// A row's key: any SQL integer type fits, signed or unsigned.
pub type Key = i128;

/// Counts how often the keys of the table have started over. Begins at 1.
pub type Epoch = u32;

/// The id of an event, the same after a restart, on a second instance and after a failover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventId {
    /// See [`Epoch`].
    pub epoch: Epoch,
    /// The row's key.
    pub key: Key,
}

/// The text is not `<epoch>-<key>`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an event id is <epoch>-<key>, for instance 1-300005")]
pub struct BadEventId;

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.key)
    }
}

impl Serialize for EventId {
    /// As text.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for EventId {
    type Err = BadEventId;

    /// Reads `<epoch>-<key>`. The key may be negative (`1--5`).
    ///
    /// # Errors
    /// [`BadEventId`] for any other text, and for an epoch of 0.
    fn from_str(text: &str) -> Result<Self, BadEventId> {
        let (epoch, key) = text.split_once('-').ok_or(BadEventId)?;
        let epoch = digits(epoch).ok_or(BadEventId)?.parse().map_err(|_| BadEventId)?;
        let key = parse_key(key).ok_or(BadEventId)?;
        if epoch == 0 {
            return Err(BadEventId);
        }
        Ok(EventId { epoch, key })
    }
}

/// Reads a bare key: decimal digits, perhaps behind a minus sign. `None` for anything else.
pub fn parse_key(text: &str) -> Option<Key> {
    digits(text.strip_prefix('-').unwrap_or(text))?;
    text.parse().ok()
}

/// `text` if it is 1 to 20 decimal digits, as many as any SQL integer has.
pub(crate) fn digits(text: &str) -> Option<&str> {
    let fits = (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    fits.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(Epoch, Key)>) {
        let parsed = text.parse::<EventId>().ok();
        assert_eq!(parsed.map(|id| (id.epoch, id.key)), expected, "{text:?}");
        if let Some(id) = parsed {
            assert_eq!(id.to_string(), text);
        }
    }

    #[test]
    fn reads_epoch_and_key() {
        check("1-300005", Some((1, 300005)));
        check("2--5", Some((2, -5)));
        check("1-18446744073709551615", Some((1, 18446744073709551615)));
    }

    #[test]
    fn refuses_everything_else() {
        for text in
            ["", "-", "1-", "-1", "0-1", "1", "1-x", "+1-2", "1-+2", "1- 2", "1-2-3", "4294967296-1", "1---5"]
        {
            check(text, None);
        }
        check("1-999999999999999999999999999999", None);
    }
}
