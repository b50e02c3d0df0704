//! What names may look like. One pattern each, for the check and for the schema.

use std::sync::OnceLock;

use regex::Regex;

/// The kinds of names in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// The pipeline's own: part of group, transactional and member ids, whose separator is a dot.
    Application,
    /// A source or record output.
    Plain,
    /// An aggregate, a check, a table or a column: needs no quotes in SQL.
    Identifier,
    /// A top-level field of a JSON record.
    Field,
    /// A Kafka topic.
    Topic,
    /// A Kafka topic in which `{source}` stands for the source's name.
    TopicOfSource,
    /// A librdkafka setting.
    Setting,
}

impl Name {
    /// A regular expression, the same in Rust and in ECMA-262.
    pub fn pattern(self) -> &'static str {
        match self {
            Name::Application | Name::Plain => "^[a-z0-9][a-z0-9_-]{0,62}$",
            Name::Identifier => "^[a-z_][a-z0-9_]{0,62}$",
            Name::Field => "^[^\\x00-\\x1f\\x7f]{1,128}$",
            Name::Topic => "^[a-zA-Z0-9._-]{1,249}$",
            Name::TopicOfSource => "^([a-zA-Z0-9._-]|\\{source\\}){1,249}$",
            Name::Setting => "^[a-z][a-z0-9._]{0,127}$",
        }
    }

    /// The same in words.
    pub fn rule(self) -> &'static str {
        match self {
            Name::Application | Name::Plain => {
                "lower-case letters, digits, `_` and `-`, a letter or digit first, at most 63"
            }
            Name::Identifier => "lower-case letters, digits and `_`, no digit first, at most 63",
            Name::Field => "1 to 128 characters, none of them a control character",
            Name::Topic => "letters, digits, `.`, `_` and `-`, at most 249",
            Name::TopicOfSource => "letters, digits, `.`, `_`, `-` and {source}, at most 249",
            Name::Setting => "lower-case letters, digits, `.` and `_`",
        }
    }

    pub fn allows(self, text: &str) -> bool {
        let pattern = COMPILED[self as usize].get_or_init(|| Regex::new(self.pattern()).ok());
        pattern.as_ref().is_some_and(|pattern| pattern.is_match(text))
    }
}

static COMPILED: [OnceLock<Option<Regex>>; Name::Setting as usize + 1] =
    [const { OnceLock::new() }; Name::Setting as usize + 1];

#[cfg(test)]
mod tests {
    use super::Name;

    #[test]
    fn names_are_held_to_their_patterns() {
        for (name, good, bad) in [
            (Name::Application, "web-analytics", "web.analytics"),
            (Name::Application, "0", "-a"),
            (Name::Identifier, "_page_views", "Page"),
            (Name::Identifier, "a", "1a"),
            (Name::Field, "event time", ""),
            (Name::Topic, "a.B-c_1", "a b"),
            (Name::TopicOfSource, "{source}.late", "{sink}.late"),
            (Name::Setting, "bootstrap.servers", "Bootstrap"),
        ] {
            assert!(name.allows(good), "{name:?} {good}");
            assert!(!name.allows(bad), "{name:?} {bad}");
            assert!(!name.allows("a\n"), "{name:?}");
        }
        assert!(!Name::Identifier.allows(&"a".repeat(64)));
    }
}
