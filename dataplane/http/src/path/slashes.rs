//! Escaped and repeated slashes.

use super::split_query;

/// Appends `path` with `%2F` and `%5C` (any case) unescaped to `out`; the query is copied. True
/// when there was one.
pub fn unescape(path: &[u8], out: &mut Vec<u8>) -> bool {
    let (mut rest, query) = split_query(path);
    let mut found = false;
    while let Some(at) = memchr::memchr(b'%', rest) {
        let (before, escape) = rest.split_at(at);
        out.extend_from_slice(before);
        let (byte, after) = match escape {
            [_, b'2', b'f' | b'F', after @ ..] => (b'/', after),
            [_, b'5', b'c' | b'C', after @ ..] => (b'\\', after),
            [percent, after @ ..] => (*percent, after),
            [] => break,
        };
        found |= byte != b'%';
        out.push(byte);
        rest = after;
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(query);
    found
}

/// Replaces each run of slashes in the path by one slash; the query is left alone.
pub fn merge(path: &mut Vec<u8>) {
    let mut previous = 0;
    let mut in_query = false;
    path.retain(|&byte| {
        in_query |= byte == b'?';
        let repeated = byte == b'/' && previous == b'/' && !in_query;
        previous = byte;
        !repeated
    });
}
