//! Whether a statement inserts into the followed table, and is certain to: which table it is for, and where its rows
//! come from. The rows themselves are not read.

use super::statement::{Names, Words, name_at};

/// What an INSERT, a REPLACE or a LOAD DATA does for the followed table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// It is for another table, or is another kind of statement.
    Other,
    /// It is for the followed table, and may have inserted nothing.
    Perhaps,
    /// It is for the followed table, and was logged since it inserted a row.
    Certain,
}

/// The target of a statement, and whether it is certain to have inserted no more than one row.
pub(super) fn target(query: &[u8], names: Names<'_>) -> (Target, bool) {
    let mut words = Words(query);
    let mut certain = matches!(words.next().as_deref(), Some("INSERT" | "REPLACE"));
    if !certain {
        return (Target::Other, false);
    }
    let name = loop {
        let before = words.0;
        match words.next().as_deref() {
            Some("INTO" | "LOW_PRIORITY" | "HIGH_PRIORITY" | "DELAYED") => {}
            Some("IGNORE") => certain = false,
            _ => break before,
        }
    };
    let (name, rest) = name_at(past_comments(name));
    if !names.found_in(name) {
        return (Target::Other, false);
    }
    let mut words = Words(past_parentheses(rest.trim_ascii_start()));
    let source = words.next();
    let is_set = source.as_deref() == Some("SET");
    let has_values = matches!(source.as_deref(), Some("VALUES" | "VALUE"));
    // ON DUPLICATE KEY UPDATE; the word may be a value, too.
    certain &= (is_set || has_values) && !has_word(query, "DUPLICATE");
    let target = if certain { Target::Certain } else { Target::Perhaps };
    (target, is_set || has_values && is_one_row(words.0))
}

/// Whether there is nothing but one row behind VALUES. A comment, or what a session's SQL mode reads otherwise, may make
/// it look like more.
fn is_one_row(values: &[u8]) -> bool {
    let values = values.trim_ascii_start();
    if [&b"/*"[..], b"#", b"--"].iter().any(|comment| has(values, comment)) {
        return false;
    }
    let (mut depth, mut quote, mut escaped) = (0_usize, None, false);
    let end = values.iter().position(|byte| {
        match (quote, byte) {
            (Some(_), _) if escaped => escaped = false,
            (Some(b'\'' | b'"'), b'\\') => escaped = true,
            (Some(open), _) if open == *byte => quote = None,
            (None, b'\'' | b'"' | b'`') => quote = Some(*byte),
            (None, b'(') => depth += 1,
            (None, b')') => depth = depth.saturating_sub(1),
            _ => {}
        }
        quote.is_none() && depth == 0
    });
    let rest = end.and_then(|end| values.get(end + 1..)).map(<[u8]>::trim_ascii);
    values.starts_with(b"(") && rest.is_some_and(|rest| matches!(rest, b"" | b";"))
}

/// The target of a LOAD DATA, by the part of its text behind the name of the file.
pub(super) fn target_of_load(behind_the_file: &[u8], names: Names<'_>) -> Target {
    let mut words = Words(behind_the_file);
    if !words.by_ref().take(3).any(|word| word == "TABLE") {
        return Target::Perhaps;
    }
    let (name, rest) = name_at(past_comments(words.0));
    match names.found_in(name) {
        false => Target::Other,
        true if has_word(behind_the_file, "IGNORE") || has_word(rest, "IGNORE") => Target::Perhaps,
        true => Target::Certain,
    }
}

/// Whether it is a REPLACE.
pub(super) fn replaces(query: &[u8]) -> bool {
    Words(query).next().as_deref() == Some("REPLACE")
}

/// Whether it is a DELETE, or may be one.
pub(super) fn deletes(query: &[u8]) -> bool {
    matches!(Words(query).next().as_deref(), Some("DELETE" | "WITH"))
}

fn has(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn has_word(query: &[u8], word: &str) -> bool {
    super::statement::occurrences(query, word).next().is_some()
}

fn past_comments(text: &[u8]) -> &[u8] {
    let mut words = Words(text);
    match words.next() {
        None => words.0, // a quoted name; white space and comments are gone
        Some(word) => {
            // The word itself belongs to the name.
            let end = text.len() - words.0.len();
            text.get(end - word.len()..).unwrap_or_default()
        }
    }
}

/// What stands behind a list of columns, if there is one.
fn past_parentheses(text: &[u8]) -> &[u8] {
    if !text.starts_with(b"(") {
        return text;
    }
    let mut quoted = false;
    let end = text.iter().position(|byte| {
        quoted ^= *byte == b'`';
        *byte == b')' && !quoted
    });
    end.and_then(|end| text.get(end + 1..)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Target::*, *};

    const NAMES: Names<'_> = Names { database: "access", table: "vdooropen", schema: b"access" };

    #[track_caller]
    fn check(query: &str, expected: Target) {
        assert_eq!(target(query.as_bytes(), NAMES).0, expected, "{query}");
    }

    #[test]
    fn values_are_certain() {
        check("INSERT INTO vdooropen VALUES (1)", Certain);
        check("insert vdooropen value (1)", Certain);
        check("/* app */ REPLACE LOW_PRIORITY INTO `access` . `vdooropen` SET vid = 1", Certain);
        check("INSERT INTO /* x */ vdooropen(`vid`, `a)b`)VALUES(1,2)", Certain);
        check("INSERT INTO vdooropen () VALUES ()", Certain);
    }

    #[test]
    fn what_may_insert_nothing_is_not() {
        check("INSERT IGNORE INTO vdooropen VALUES (1)", Perhaps);
        check("INSERT INTO vdooropen VALUES (1) ON DUPLICATE KEY UPDATE a = 1", Perhaps);
        check("INSERT INTO vdooropen SELECT * FROM other", Perhaps);
        check("INSERT INTO vdooropen (vid) SELECT 1 FROM `values`", Perhaps);
        check("INSERT INTO vdooropen (SELECT 1)", Perhaps);
        check("INSERT INTO vdooropen PARTITION (p0) VALUES (1)", Perhaps);
    }

    #[test]
    fn one_row_is_told_from_more() {
        let check = |behind_the_name: &str, expected: bool| {
            let query = format!("INSERT INTO vdooropen {behind_the_name}");
            assert_eq!(target(query.as_bytes(), NAMES).1, expected, "{query}");
        };
        check("SET vid = 1, rfsim = '),('", true);
        check("(vid, rfsim) VALUES (1, '),(')", true);
        check(r"VALUES (1, 'it\'s', '),(' );", true);
        check(r#"VALUES ('it''s', "),(", UPPER(CONCAT('a', "\""))) "#, true);
        check("VALUES ()", true);
        check("VALUES (1), (2)", false);
        check("VALUES (1) /* one */, (2)", false);
        check("VALUES (1 /* it's */), (2 /* it's */)", false);
        check("VALUES (1, '\\'), ('\\')", false);
        check("VALUES (1) ON DUPLICATE KEY UPDATE rfsim = 'x'", false);
        check("SELECT 1", false);
        for odd in ["VALUES", "VALUES (", "VALUES ('", "VALUES )", "VALUES (1", ""] {
            check(odd, false);
        }
    }

    #[test]
    fn other_tables_are_others() {
        check("INSERT INTO other SELECT * FROM vdooropen", Other);
        check("INSERT INTO `vdooropen2` (vdooropen) VALUES (1)", Other);
        check("INSERT INTO access2.vdooropen VALUES (1)", Other);
        check("UPDATE vdooropen SET a = 1", Other);
        check("DELETE FROM vdooropen", Other);
    }

    #[test]
    fn odd_bytes_are_no_target() {
        for query in ["", "INSERT", "INSERT INTO", "INSERT INTO `", "INSERT INTO vdooropen (`", "INSERT /*"] {
            assert_ne!(target(query.as_bytes(), NAMES).0, Certain, "{query}");
        }
    }

    #[test]
    fn loads() {
        let load = |text: &str| target_of_load(text.as_bytes(), NAMES);
        assert_eq!(load(" TABLE `vdooropen` FIELDS TERMINATED BY '\\t' (`a`)"), Certain);
        assert_eq!(
            load("' INTO TABLE access.vdooropen"),
            Perhaps,
            "the end of the name is not where it should be"
        );
        assert_eq!(load(" INTO TABLE access.vdooropen"), Certain);
        assert_eq!(load(" TABLE `vdooropen` IGNORE 1 LINES (`a`)"), Perhaps);
        assert_eq!(load(" IGNORE INTO TABLE vdooropen"), Perhaps);
        assert_eq!(load(" REPLACE INTO TABLE other (vdooropen)"), Other);
        assert_eq!(load(""), Perhaps);
    }
}
