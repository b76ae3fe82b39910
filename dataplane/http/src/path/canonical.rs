//! The normal form of a path.
//!
//! Compat: the rules are those of the URL library that Envoy's `normalize_path` uses: dot segments
//! are resolved, also in their escaped spelling; a backslash is a slash; escaped unreserved bytes
//! are unescaped; bytes that may not stand in a path are escaped; other escapes, malformed ones
//! included, stay as they are.

use super::split_query;

/// Appends the normal form of `path` to `out`; the query is copied. False when the path holds NUL,
/// escaped or not: such a request must be refused.
#[must_use]
pub fn canonicalize(path: &[u8], out: &mut Vec<u8>) -> bool {
    let begin = out.len();
    let (mut rest, query) = split_query(path);
    if !rest.first().is_some_and(|b| is_slash(*b)) {
        out.push(b'/');
    }
    while let Some((&byte, after)) = rest.split_first() {
        if let Some(after_dot) = strip_dot(rest) {
            rest = match (out.last(), dot_segment(after_dot)) {
                (Some(b'/'), Some(Dots::Current(after))) => after,
                (Some(b'/'), Some(Dots::Up(after))) => {
                    remove_last_segment(out, begin);
                    after
                }
                _ => {
                    out.push(b'.');
                    after_dot
                }
            };
            continue;
        }
        rest = after;
        match byte {
            0 => return false,
            b'\\' => out.push(b'/'),
            b'%' => match escaped_byte(after) {
                Some((0, _)) => return false,
                Some((value, after_escape)) if is_unreserved(value) => {
                    out.push(value);
                    rest = after_escape;
                }
                // The digits that follow are ordinary bytes of the path.
                _ => out.push(b'%'),
            },
            _ if must_escape(byte) => push_escaped(byte, out),
            _ => out.push(byte),
        }
    }
    out.extend_from_slice(query);
    true
}

/// Bytes that are written in escaped form.
pub(super) const fn must_escape(byte: u8) -> bool {
    matches!(byte, 0..=b' ' | b'"' | b'#' | b'<' | b'>' | b'?' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x7f..)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~')
}

fn is_slash(byte: u8) -> bool {
    matches!(byte, b'/' | b'\\')
}

/// What follows a dot or an escaped dot.
fn strip_dot(path: &[u8]) -> Option<&[u8]> {
    match path {
        [b'.', after @ ..] | [b'%', b'2', b'e' | b'E', after @ ..] => Some(after),
        _ => None,
    }
}

/// A segment of dots only, and what follows it and its slash.
enum Dots<'a> {
    /// `.`
    Current(&'a [u8]),
    /// `..`
    Up(&'a [u8]),
}

/// Whether the dot before `after_dot`, at the start of a segment, makes a dot segment.
fn dot_segment(after_dot: &[u8]) -> Option<Dots<'_>> {
    if let Some(after) = strip_segment_end(after_dot) {
        return Some(Dots::Current(after));
    }
    strip_segment_end(strip_dot(after_dot)?).map(Dots::Up)
}

fn strip_segment_end(path: &[u8]) -> Option<&[u8]> {
    match path {
        [] => Some(path),
        [first, after @ ..] if is_slash(*first) => Some(after),
        _ => None,
    }
}

/// `out` ends in a slash: cuts the segment before it, never the first slash.
fn remove_last_segment(out: &mut Vec<u8>, begin: usize) {
    out.pop();
    while out.len() > begin && out.last() != Some(&b'/') {
        out.pop();
    }
    if out.len() == begin {
        out.push(b'/');
    }
}

fn escaped_byte(digits: &[u8]) -> Option<(u8, &[u8])> {
    let (pair, after) = digits.split_at_checked(2)?;
    let [high, low] = pair else { return None };
    let value = (*high as char).to_digit(16)? * 16 + (*low as char).to_digit(16)?;
    Some((value as u8, after))
}

fn push_escaped(byte: u8, out: &mut Vec<u8>) {
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 };
    out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
}
