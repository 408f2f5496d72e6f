//! Card ids: personal data that never leaves the process in clear, and the references that do.

use std::fmt::{self, Write};

use ring::{hmac, rand::SystemRandom};

/// Bytes of a reference. Two people out of a million share one with a chance of about 10⁻¹².
const REFERENCE_BYTES: usize = 10;

/// A card id as cards are compared: trimmed, and in capitals.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Card(Box<str>);

impl Card {
    /// `None` if nothing is left of the text.
    pub fn new(text: &str) -> Option<Self> {
        let text = narrow(text);
        (!text.is_empty()).then(|| Card(text.to_uppercase().into()))
    }

    /// A few characters at both ends, never more than half: `00A1…F607`.
    pub fn mask(&self) -> String {
        let length = self.0.chars().count();
        let shown = (length / 4).min(4);
        let from: String = self.0.chars().take(shown).collect();
        let to: String = self.0.chars().skip(length - shown).collect();
        format!("{from}…{to}")
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Card {
    /// Masked, so that no log ever holds one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.mask())
    }
}

/// Makes references to cards: the same for the same card as long as the process runs, and of no use to
/// whoever wants the card.
#[derive(Debug)]
pub(super) struct Secret(hmac::Key);

impl Secret {
    pub(super) fn new() -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Secret(key.expect("the system gives random numbers"))
    }

    pub(super) fn reference(&self, card: &Card) -> Box<str> {
        let tag = hmac::sign(&self.0, card.0.as_bytes());
        hex(tag.as_ref().get(..REFERENCE_BYTES).unwrap_or_default()).into()
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What a person meant who typed a number or an id: without the spaces around it, and without the wide
/// letters and digits of a Chinese keyboard.
pub(super) fn narrow(text: &str) -> String {
    let unseen = |c: char| c.is_whitespace() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{feff}');
    let wide = |c: char| match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        '\u{3000}' => ' ',
        c => c,
    };
    text.trim_matches(unseen).chars().map(wide).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_compared_trimmed_and_in_capitals() {
        let card = Card::new("00A1B2C3D4E5F607").unwrap();
        for text in [" 00a1b2c3d4e5f607\t", "\u{feff}00A1B2C3D4E5F607\u{3000}", "００Ａ１b2c3d4e5f607"] {
            assert_eq!(Card::new(text).as_ref(), Some(&card), "{text:?}");
        }
        assert_eq!(Card::new(" \u{200b}"), None);
    }

    #[test]
    fn a_masked_card_shows_no_more_than_half() {
        for (text, mask) in
            [("00A1B2C3D4E5F607", "00A1…F607"), ("12345678", "12…78"), ("1234", "1…4"), ("123", "…")]
        {
            assert_eq!(Card::new(text).unwrap().mask(), mask);
        }
        assert_eq!(format!("{:?}", Card::new("00A1B2C3D4E5F607")), "Some(00A1…F607)");
    }

    #[test]
    fn references_are_stable_and_differ_by_secret() {
        let (one, other) = (Secret::new(), Secret::new());
        let card = Card::new("00A1B2C3D4E5F607").unwrap();
        assert_eq!(one.reference(&card), one.reference(&card));
        assert_ne!(one.reference(&card), other.reference(&card));
        assert_eq!(one.reference(&card).len(), 20);
    }
}
