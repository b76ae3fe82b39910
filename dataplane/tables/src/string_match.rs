//! Matching of strings: `envoy.type.matcher.v3.StringMatcher` and its regular expressions.

use crate::regex_re2::Regex;
use crate::strings::Str;

/// A compiled string matcher. `ignore_case` folds ASCII only, as Envoy does.
#[derive(Clone, Debug)]
pub enum StringMatch {
    /// The whole value.
    Exact(Str),
    /// The whole value, ASCII case folded.
    ExactIgnoreCase(Str),
    /// A prefix.
    Prefix(Str),
    /// A prefix, ASCII case folded.
    PrefixIgnoreCase(Str),
    /// A suffix.
    Suffix(Str),
    /// A suffix, ASCII case folded.
    SuffixIgnoreCase(Str),
    /// A part.
    Contains(Str),
    /// A part, ASCII case folded.
    ContainsIgnoreCase(Str),
    /// The whole value by a regular expression.
    Regex(Regex),
}

impl StringMatch {
    /// Whether `value` matches.
    pub fn matches(&self, value: &[u8]) -> bool {
        match self {
            StringMatch::Exact(want) => value == want.as_bytes(),
            StringMatch::ExactIgnoreCase(want) => value.eq_ignore_ascii_case(want.as_bytes()),
            StringMatch::Prefix(want) => value.starts_with(want.as_bytes()),
            StringMatch::PrefixIgnoreCase(want) => starts_ignoring_case(value, want.as_bytes()),
            StringMatch::Suffix(want) => value.ends_with(want.as_bytes()),
            StringMatch::SuffixIgnoreCase(want) => {
                let want = want.as_bytes();
                value.len() >= want.len() && value[value.len() - want.len()..].eq_ignore_ascii_case(want)
            }
            StringMatch::Contains(want) => memchr::memmem::find(value, want.as_bytes()).is_some(),
            StringMatch::ContainsIgnoreCase(want) => contains_ignoring_case(value, want.as_bytes()),
            StringMatch::Regex(regex) => regex.matches(value),
        }
    }
}

/// Whether `value` starts with `want`, ASCII case folded.
pub(crate) fn starts_ignoring_case(value: &[u8], want: &[u8]) -> bool {
    value.len() >= want.len() && value[..want.len()].eq_ignore_ascii_case(want)
}

fn contains_ignoring_case(value: &[u8], want: &[u8]) -> bool {
    want.is_empty() || value.windows(want.len()).any(|part| part.eq_ignore_ascii_case(want))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_matches_its_part_of_the_value() {
        let s = Str::new;
        for (matcher, yes, no) in [
            (StringMatch::Exact(s("abc")), "abc", "Abc"),
            (StringMatch::ExactIgnoreCase(s("abc")), "ABC", "abcd"),
            (StringMatch::Prefix(s("ab")), "abc", "xab"),
            (StringMatch::PrefixIgnoreCase(s("ab")), "ABc", "a"),
            (StringMatch::Suffix(s("bc")), "abc", "bcd"),
            (StringMatch::SuffixIgnoreCase(s("bc")), "aBC", "c"),
            (StringMatch::Contains(s("b")), "abc", "aBc"),
            (StringMatch::ContainsIgnoreCase(s("Bc")), "abC", "ab"),
        ] {
            assert!(matcher.matches(yes.as_bytes()), "{matcher:?} {yes}");
            assert!(!matcher.matches(no.as_bytes()), "{matcher:?} {no}");
        }
    }
}
