//! Templates: texts with placeholders.

/// The placeholders that there are, for people.
pub(super) const PLACEHOLDERS: &str = "{name}, {title}, {greeting}, {door}";

/// What the placeholders stand for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Values<'a> {
    pub(super) name: &'a str,
    pub(super) title: &'a str,
    pub(super) greeting: &'a str,
    pub(super) door: &'a str,
}

impl<'a> Values<'a> {
    fn of(&self, placeholder: &str) -> Option<&'a str> {
        match placeholder {
            "name" => Some(self.name),
            "title" => Some(self.title),
            "greeting" => Some(self.greeting),
            "door" => Some(self.door),
            _ => None,
        }
    }
}

/// The text with its placeholders filled in, once: a name that holds braces stays as it is. Braces
/// around anything else stay, too.
pub(super) fn render(template: &str, values: Values<'_>) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, from)) = rest.split_once('{') {
        text += before;
        let value = from.split_once('}').and_then(|(name, after)| Some((values.of(name)?, after)));
        match value {
            Some((value, after)) => {
                text += value;
                rest = after;
            }
            None => {
                text.push('{');
                rest = from;
            }
        }
    }
    text + rest
}

/// Where, in characters from 1, braces stand around something that is no placeholder.
pub(super) fn unknown(template: &str) -> Option<usize> {
    let none = Values { name: "", title: "", greeting: "", door: "" };
    let mut rest = template;
    while let Some((_, from)) = rest.split_once('{') {
        let (name, after) = from.split_once('}')?;
        if none.of(name).is_none() {
            let before = template.len() - from.len();
            return template.get(..before).map(|before| before.chars().count());
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: Values<'_> = Values { name: "{title}", title: "博士", greeting: "早上好", door: "3" };

    #[test]
    fn fills_in_each_placeholder_once() {
        for (template, text) in [
            ("{greeting}，{name}{title}", "早上好，{title}博士"),
            ("door {door}", "door 3"),
            ("{{name}}", "{{title}}"),
            ("{nmae} {", "{nmae} {"),
            ("{{door}", "{3"),
            ("", ""),
        ] {
            assert_eq!(render(template, VALUES), text);
        }
    }

    #[test]
    fn tells_where_a_placeholder_is_unknown() {
        for (template, at) in
            [("{name}", None), ("早 {nmae}", Some(3)), ("{door} {x} {", Some(8)), ("{", None)]
        {
            assert_eq!(unknown(template), at, "{template}");
        }
    }
}
