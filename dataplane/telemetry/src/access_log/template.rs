//! Splits a format string into literal text and operator calls.

use super::error::{FormatError, FormatProblem};

/// A piece of a format string.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    Literal(&'a str),
    Call(Call<'a>),
}

/// `%NAME(parameter):length%`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call<'a> {
    /// Offset of its `%`.
    pub(super) position: usize,
    pub(super) name: &'a str,
    pub(super) parameter: Option<&'a str>,
    /// Longest value in bytes.
    pub(super) length: Option<usize>,
}

/// Splits `format`; `%%` is a percent sign.
pub(super) fn split(format: &str) -> Result<Vec<Piece<'_>>, FormatError> {
    let mut pieces = Vec::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        let (literal, from_percent) = rest.split_at(at);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        let position = format.len() - from_percent.len();
        if let Some(after) = from_percent.strip_prefix("%%") {
            pieces.push(Piece::Literal("%"));
            rest = after;
            continue;
        }
        let (call, after) = call(from_percent, position)
            .ok_or(FormatError { position, problem: FormatProblem::NoOperator })?;
        pieces.push(Piece::Call(call));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest));
    }
    Ok(pieces)
}

/// The call at the start of `text`, and what follows it.
fn call(text: &str, position: usize) -> Option<(Call<'_>, &str)> {
    let text = text.strip_prefix('%')?;
    let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let name_len = text.find(|c| !is_name(c)).filter(|len| *len > 0)?;
    let (name, rest) = text.split_at(name_len);
    let Some(inside) = rest.strip_prefix('(') else {
        let (length, rest) = end(rest)?;
        return Some((Call { position, name, parameter: None, length }, rest));
    };
    // The parameter may hold parentheses and percent signs: it ends at the first `)` after which
    // the call is complete.
    inside.match_indices(')').find_map(|(at, _)| {
        let (length, rest) = end(inside.get(at + 1..)?)?;
        Some((Call { position, name, parameter: inside.get(..at), length }, rest))
    })
}

/// `:N%` or `%`
fn end(text: &str) -> Option<(Option<usize>, &str)> {
    if let Some(rest) = text.strip_prefix('%') {
        return Some((None, rest));
    }
    let (digits, rest) = text.strip_prefix(':')?.split_once('%')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten().map(|length| (Some(length), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_have_name_parameter_and_length() {
        let call = |format| match split(format).expect(format).as_slice() {
            [Piece::Call(call)] => (call.name, call.parameter, call.length),
            other => panic!("{other:?}"),
        };
        assert_eq!(call("%PROTOCOL%"), ("PROTOCOL", None, None));
        assert_eq!(call("%REQ(A?B):7%"), ("REQ", Some("A?B"), Some(7)));
        assert_eq!(call("%START_TIME(%Y(%m) %d)%"), ("START_TIME", Some("%Y(%m) %d"), None));
        assert_eq!(call("%CEL(f(x) == ':1')%"), ("CEL", Some("f(x) == ':1'"), None));
        assert_eq!(call("%REQ()%"), ("REQ", Some(""), None));
    }

    #[test]
    fn percent_signs_are_doubled() {
        let pieces = split("100%% %A%\n").expect("valid");
        assert_eq!(pieces.len(), 5);
        assert_eq!(pieces[1], Piece::Literal("%"));
        assert_eq!(pieces[4], Piece::Literal("\n"));
    }

    #[test]
    fn a_lone_percent_sign_is_refused_with_its_place() {
        for (format, position) in
            [("a%", 1), ("%a%", 0), ("ab% c%", 2), ("%REQ(a", 0), ("%REQ(a)x%", 0), ("%A:x%", 0)]
        {
            let error = split(format).expect_err(format);
            assert_eq!((error.position, error.problem), (position, FormatProblem::NoOperator), "{format}");
        }
    }
}
