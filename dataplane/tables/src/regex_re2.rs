//! Regular expressions with the meaning RE2 gives them, matched in linear time.
//!
//! Envoy matches with RE2; the `regex` crate shares RE2's automata and most of its syntax. The pattern is rewritten
//! where both accept a text but read it differently: Perl classes and `\b` are ASCII in RE2, and a bracket
//! expression has no nesting and no set operations there.
//!
//! The crate keeps scratch space for its lazily built automata in a pool inside each expression: the first thread that
//! matches gets its own without synchronisation, others take one from sharded stacks. Expressions on the request
//! path are the one place where shards can meet; a table without them shares nothing.

use std::fmt;

use crate::limits::{
    REGEX_CACHE_BYTES_MAX, REGEX_PATTERN_BYTES_MAX, REGEX_PROGRAM_BYTES_MAX, REGEX_REPEAT_MAX,
};
use crate::strings::Str;

/// A regular expression that must match a whole value. Source: `envoy.type.matcher.v3.RegexMatcher`.
#[derive(Clone)]
pub struct Regex {
    source: Str,
    program: regex::bytes::Regex,
}

/// Why a pattern is not accepted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RegexError {
    /// Longer than [`REGEX_PATTERN_BYTES_MAX`].
    #[error("regular expression of {0} bytes is longer than {REGEX_PATTERN_BYTES_MAX}")]
    TooLong(usize),
    /// A construct RE2 does not know, or a repetition above [`REGEX_REPEAT_MAX`].
    #[error("{0}")]
    NotRe2(String),
    /// Not well formed, or larger than [`REGEX_PROGRAM_BYTES_MAX`] when compiled.
    #[error("{0}")]
    Invalid(String),
}

impl Regex {
    /// Compiles `pattern` to match whole values.
    pub fn whole(source: Str) -> Result<Regex, RegexError> {
        let program = build(&format!(r"\A(?:{})\z", to_rust_syntax(&source)?))?;
        Ok(Regex { source, program })
    }

    /// Compiles `pattern` to be searched for, as substitutions do.
    pub fn search(source: Str) -> Result<Regex, RegexError> {
        let program = build(&to_rust_syntax(&source)?)?;
        Ok(Regex { source, program })
    }

    /// Whether `value` matches.
    pub fn matches(&self, value: &[u8]) -> bool {
        self.program.is_match(value)
    }

    /// The pattern as configured.
    pub fn source(&self) -> &str {
        &self.source
    }

    pub(crate) fn program(&self) -> &regex::bytes::Regex {
        &self.program
    }
}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.source)
    }
}

fn build(pattern: &str) -> Result<regex::bytes::Regex, RegexError> {
    regex::bytes::RegexBuilder::new(pattern)
        .size_limit(REGEX_PROGRAM_BYTES_MAX)
        .dfa_size_limit(REGEX_CACHE_BYTES_MAX)
        .build()
        .map_err(|error| RegexError::Invalid(one_line(&error)))
}

fn one_line(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(limit) => {
            format!("regular expression needs more than {limit} bytes when compiled")
        }
        other => {
            let text = other.to_string();
            let reason = text.rsplit("error: ").next().unwrap_or(&text).trim();
            format!("regular expression does not parse: {reason}")
        }
    }
}

/// Rewrites RE2 syntax into the `regex` crate's, keeping the meaning.
fn to_rust_syntax(pattern: &str) -> Result<String, RegexError> {
    if pattern.len() > REGEX_PATTERN_BYTES_MAX {
        return Err(RegexError::TooLong(pattern.len()));
    }
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        rest = match c {
            '\\' => escape(rest, &mut out)?,
            '[' => class(rest, &mut out)?,
            '{' => repetition(rest, &mut out)?,
            '(' => group(rest, &mut out)?,
            _ => {
                out.push(c);
                &rest[c.len_utf8()..]
            }
        };
    }
    Ok(out)
}

/// An escape outside brackets; `rest` starts at the backslash.
fn escape<'a>(rest: &'a str, out: &mut String) -> Result<&'a str, RegexError> {
    let body = &rest[1..];
    let Some(c) = body.chars().next() else {
        return Err(RegexError::NotRe2("regular expression ends in a backslash".to_owned()));
    };
    let after = &body[c.len_utf8()..];
    match c {
        'd' => out.push_str("[0-9]"),
        'D' => out.push_str("[^0-9]"),
        'w' => out.push_str("[0-9A-Za-z_]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        's' => out.push_str(r"[\t\n\x0C\r ]"),
        'S' => out.push_str(r"[^\t\n\x0C\r ]"),
        'b' => out.push_str(r"(?-u:\b)"),
        // The crate has no ASCII `\B` outside byte mode; a position is one or the other.
        'B' => out.push_str(r"(?-u:\B)"),
        'C' => out.push_str("(?s-u:.)"),
        'Q' => {
            let (literal, after) = after.split_once(r"\E").unwrap_or((after, ""));
            out.push_str(&regex::escape(literal));
            return Ok(after);
        }
        'E' => {}
        _ => return plain_escape(c, after, out),
    }
    Ok(after)
}

/// Escapes that mean the same inside and outside brackets and in both dialects.
fn plain_escape<'a>(c: char, after: &'a str, out: &mut String) -> Result<&'a str, RegexError> {
    match c {
        'a' | 'f' | 'n' | 'r' | 't' | 'v' | 'A' | 'z' | 'x' | 'p' | 'P' => {
            out.push('\\');
            out.push(c);
            Ok(after)
        }
        '0'..='7' => {
            let digits = after.bytes().take(2).take_while(|b| (b'0'..=b'7').contains(b)).count();
            // RE2 reads \1 … \7 with one digit as a back-reference, which it refuses.
            if c != '0' && digits == 0 {
                return Err(RegexError::NotRe2(format!("back-reference \\{c} is not supported")));
            }
            let octal = format!("{c}{}", &after[..digits]);
            let value = u32::from_str_radix(&octal, 8).map_err(|e| RegexError::NotRe2(e.to_string()))?;
            out.push_str(&format!(r"\x{{{value:X}}}"));
            Ok(&after[digits..])
        }
        c if c.is_ascii_punctuation() => {
            out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
            Ok(after)
        }
        c => Err(RegexError::NotRe2(format!("escape \\{c} is not supported"))),
    }
}

/// A bracket expression; `rest` starts at `[`.
fn class<'a>(rest: &'a str, out: &mut String) -> Result<&'a str, RegexError> {
    let mut rest = &rest[1..];
    out.push('[');
    if let Some(after) = rest.strip_prefix('^') {
        out.push('^');
        rest = after;
    }
    let mut first = true;
    loop {
        let Some(c) = rest.chars().next() else {
            return Err(RegexError::NotRe2("bracket expression without an end".to_owned()));
        };
        let after = &rest[c.len_utf8()..];
        rest = match c {
            ']' if !first => {
                out.push(']');
                return Ok(after);
            }
            '[' if rest.starts_with("[:") && rest.contains(":]") => {
                let end = rest.find(":]").map_or(rest.len(), |at| at + 2);
                out.push_str(&rest[..end]);
                &rest[end..]
            }
            '\\' => class_escape(after, out)?,
            // Literal in RE2; nesting or set operations in the crate.
            '[' | ']' | '&' | '~' => {
                out.push('\\');
                out.push(c);
                after
            }
            // A second hyphen in a row would be a set difference in the crate.
            '-' if after.starts_with('-') => {
                out.push_str(r"\-");
                after
            }
            _ => {
                out.push(c);
                after
            }
        };
        first = false;
    }
}

fn class_escape<'a>(body: &'a str, out: &mut String) -> Result<&'a str, RegexError> {
    let Some(c) = body.chars().next() else {
        return Err(RegexError::NotRe2("bracket expression without an end".to_owned()));
    };
    let after = &body[c.len_utf8()..];
    match c {
        'd' => out.push_str("0-9"),
        'D' => out.push_str("[^0-9]"),
        'w' => out.push_str("0-9A-Za-z_"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        's' => out.push_str(r"\t\n\x0C\r\x20"),
        'S' => out.push_str(r"[^\t\n\x0C\r\x20]"),
        '-' => out.push_str(r"\-"),
        _ => return plain_escape(c, after, out),
    }
    Ok(after)
}

/// A brace: a repetition in the form RE2 knows, else a literal.
fn repetition<'a>(rest: &'a str, out: &mut String) -> Result<&'a str, RegexError> {
    let counts = rest[1..].split_once('}').and_then(|(inner, after)| {
        let (low, high) = inner.split_once(',').unwrap_or((inner, inner));
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        (digits(low) && (high.is_empty() || digits(high))).then_some((low, high, after))
    });
    let Some((low, high, after)) = counts else {
        out.push_str(r"\{");
        return Ok(&rest[1..]);
    };
    for count in [low, high] {
        if !count.is_empty() && count.parse::<u32>().map_or(true, |n| n > REGEX_REPEAT_MAX) {
            return Err(RegexError::NotRe2(format!("repetition count {count} is above {REGEX_REPEAT_MAX}")));
        }
    }
    out.push_str(&rest[..rest.len() - after.len()]);
    Ok(after)
}

/// An opening parenthesis: the crate's flags `x`, `u` and `R` do not exist in RE2.
fn group<'a>(rest: &'a str, out: &mut String) -> Result<&'a str, RegexError> {
    if let Some(flags) = rest.strip_prefix("(?")
        && !flags.starts_with(['P', '<'])
    {
        let end = flags.find([':', ')']).unwrap_or(flags.len());
        if !flags[..end].bytes().all(|b| b"imsU-".contains(&b)) {
            return Err(RegexError::NotRe2(format!("group (?{} is not supported", &flags[..end])));
        }
    }
    out.push('(');
    Ok(&rest[1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, value: &str) -> bool {
        Regex::whole(Str::new(pattern)).unwrap().matches(value.as_bytes())
    }

    #[test]
    fn the_whole_value_must_match() {
        assert!(check("a|b", "b"));
        assert!(!check("a|b", "ab"));
        assert!(!check("a", "a\n"));
    }

    #[test]
    fn perl_classes_are_ascii() {
        assert!(check(r"\d+", "12"));
        assert!(!check(r"\d", "٣"));
        assert!(!check(r"\w", "é"));
        assert!(check(r"[\w.]+", "a_1.b"));
        assert!(check(r"[^\s]", "é"));
    }

    #[test]
    fn brackets_have_no_set_operations() {
        assert!(check("[a&&b]", "&"));
        assert!(check("[a--b]", "a") && check("[+--]", "-"));
        assert!(check("[]a]", "]") && check("[[]", "["));
        assert!(check("[[:digit:]x]+", "1x"));
    }

    #[test]
    fn braces_that_are_no_count_are_literal() {
        assert!(check("a{2}", "aa"));
        assert!(check("a{x}", "a{x}"));
        assert!(check("{id}", "{id}"));
    }

    #[test]
    fn quoted_text_is_literal() {
        assert!(check(r"\Qa.b\E+", "a.bb"));
        assert!(!check(r"\Qa.b\E", "axb"));
    }

    #[test]
    fn what_re2_refuses_is_refused() {
        for pattern in [r"(a)\1", "(?x)a", "a{1001}", "(?=a)", "(", "[a", "*", r"\y", r"a\"] {
            assert!(Regex::whole(Str::new(pattern)).is_err(), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_that_would_explode_is_refused() {
        assert!(Regex::whole(Str::new("((a{100}){100}){100}")).is_err());
        assert!(Regex::whole(Str::new(&"a".repeat(REGEX_PATTERN_BYTES_MAX + 1))).is_err());
    }

    #[test]
    fn bytes_that_are_not_utf8_do_not_match_a_dot() {
        let any = Regex::whole(Str::new(".*")).unwrap();
        assert!(any.matches("é".as_bytes()));
        assert!(!any.matches(b"\xff"));
    }
}
