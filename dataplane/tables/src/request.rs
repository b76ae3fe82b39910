//! The request as lookups see it.

use crate::limits::JOINED_HEADER_STACK_BYTES;
use crate::metadata::Value;
use crate::route::HashPolicy;

/// A request head, seen through the few questions a lookup asks. Implemented by the engine over its own head type.
///
/// The authority and path are the ones *after* the connection manager's normalisation.
pub trait Request {
    /// Method, e.g. `GET`.
    fn method(&self) -> &str;
    /// `:authority` or `Host`, with its port if it has one.
    fn authority(&self) -> &str;
    /// Path with query, as on the wire; empty for CONNECT without a path.
    fn path(&self) -> &str;
    /// `:scheme`; for HTTP/1 what the connection manager derived.
    fn scheme(&self) -> &str;
    /// The `nth` (from 0) value of the field `name` (lower case), in order of appearance.
    fn header(&self, name: &str, nth: usize) -> Option<&[u8]>;
    /// Its hash by a route's policies; `None` when they find nothing to hash, or where nobody can tell.
    fn hash(&self, _policies: &[HashPolicy]) -> Option<u64> {
        None
    }
    /// Dynamic metadata that filters wrote under a name space.
    fn metadata(&self, _namespace: &str) -> Option<&Value> {
        None
    }
}

/// Asks `judge` about the value of field `name`: pseudo headers and `host` by their meaning, several values joined
/// by commas. `None` when there is no such field.
pub(crate) fn with_header<T>(
    request: &(impl Request + ?Sized),
    name: &str,
    judge: impl FnOnce(&[u8]) -> T,
) -> Option<T> {
    let pseudo = match name {
        ":method" => request.method(),
        ":authority" | "host" => request.authority(),
        ":path" => request.path(),
        ":scheme" => request.scheme(),
        _ => return with_plain_header(request, name, judge),
    };
    (!pseudo.is_empty()).then(|| judge(pseudo.as_bytes()))
}

/// Asks `judge` about each value of field `name`, until one passes. `None` when there is no such field.
///
/// Compat: Envoy's header conditions look at the fields of a name one by one; what several say together is no value.
pub(crate) fn any_header(
    request: &(impl Request + ?Sized),
    name: &str,
    judge: impl Fn(&[u8]) -> bool,
) -> Option<bool> {
    if name.starts_with(':') || name == "host" {
        return with_header(request, name, judge);
    }
    let mut passes = judge(request.header(name, 0)?);
    let mut nth = 1;
    while !passes && let Some(value) = request.header(name, nth) {
        passes = judge(value);
        nth += 1;
    }
    Some(passes)
}

fn with_plain_header<T>(
    request: &(impl Request + ?Sized),
    name: &str,
    judge: impl FnOnce(&[u8]) -> T,
) -> Option<T> {
    let first = request.header(name, 0)?;
    let Some(second) = request.header(name, 1) else { return Some(judge(first)) };

    let values = || (2..).map_while(|nth| request.header(name, nth));
    let len = first.len() + 1 + second.len() + values().map(|v| v.len() + 1).sum::<usize>();
    if len > JOINED_HEADER_STACK_BYTES {
        let mut joined = Vec::with_capacity(len);
        joined.extend_from_slice(first);
        for value in std::iter::once(second).chain(values()) {
            joined.push(b',');
            joined.extend_from_slice(value);
        }
        return Some(judge(&joined));
    }
    let mut joined = [0; JOINED_HEADER_STACK_BYTES];
    joined[..first.len()].copy_from_slice(first);
    let mut end = first.len();
    for value in std::iter::once(second).chain(values()) {
        joined[end] = b',';
        joined[end + 1..end + 1 + value.len()].copy_from_slice(value);
        end += 1 + value.len();
    }
    Some(judge(&joined[..end]))
}

/// A path split at its query and fragment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SplitPath<'a> {
    /// Everything before `?` and `#`.
    pub path: &'a str,
    /// What follows `?`, without it and without the fragment. `None` when there is no `?`.
    pub query: Option<&'a str>,
}

/// Splits `:path`. Route matching, prefix rewriting and regex rewriting look at the path alone.
pub fn split_path(target: &str) -> SplitPath<'_> {
    let target = match memchr::memchr(b'#', target.as_bytes()) {
        Some(at) => &target[..at],
        None => target,
    };
    match memchr::memchr(b'?', target.as_bytes()) {
        Some(at) => SplitPath { path: &target[..at], query: Some(&target[at + 1..]) },
        None => SplitPath { path: target, query: None },
    }
}

/// The first value of query parameter `name`, still percent-encoded, as Envoy matches it. A parameter without `=`
/// has an empty value.
pub fn query_parameter<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    query?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}

/// Text with its percent escapes replaced by what they stand for; others stay, and what is not UTF-8 is replaced.
pub fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// `host` without a port, for `ignore_port_in_host_matching` and `:authority` rewriting.
/// A bracketed IPv6 literal keeps its brackets; text after the last colon that is no number is no port.
pub fn without_port(authority: &str) -> &str {
    match port_start(authority) {
        Some(at) => &authority[..at],
        None => authority,
    }
}

/// Index of the colon before the port.
pub(crate) fn port_start(authority: &str) -> Option<usize> {
    let colon = authority.rfind(':')?;
    // An IPv6 literal's own colons are inside brackets.
    if authority[colon..].contains(']') {
        return None;
    }
    let port = &authority[colon + 1..];
    let numeric = !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    (numeric && port.parse::<u32>().is_ok_and(|port| port <= 65_535)).then_some(colon)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fields(&'static [(&'static str, &'static str)]);

    impl Request for Fields {
        fn method(&self) -> &str {
            "GET"
        }
        fn authority(&self) -> &str {
            "a.example"
        }
        fn path(&self) -> &str {
            "/"
        }
        fn scheme(&self) -> &str {
            ""
        }
        fn header(&self, name: &str, nth: usize) -> Option<&[u8]> {
            self.0.iter().filter(|(n, _)| *n == name).nth(nth).map(|(_, v)| v.as_bytes())
        }
    }

    fn value(request: &impl Request, name: &str) -> Option<Vec<u8>> {
        with_header(request, name, <[u8]>::to_vec)
    }

    #[test]
    fn repeated_fields_are_joined_by_commas() {
        let request = Fields(&[("a", "1"), ("b", "x"), ("a", "2"), ("a", "")]);
        assert_eq!(value(&request, "a"), Some(b"1,2,".to_vec()));
        assert_eq!(value(&request, "b"), Some(b"x".to_vec()));
        assert_eq!(value(&request, "c"), None);
    }

    #[test]
    fn conditions_look_at_repeated_fields_one_by_one() {
        let request = Fields(&[("a", "1"), ("b", "x"), ("a", "2")]);
        let any = |name: &str, wanted: &[u8]| any_header(&request, name, |value| value == wanted);
        assert_eq!((any("a", b"1"), any("a", b"2"), any("a", b"1,2")), (Some(true), Some(true), Some(false)));
        assert_eq!(
            (any("c", b""), any("host", b"a.example"), any(":method", b"PUT")),
            (None, Some(true), Some(false))
        );
    }

    #[test]
    fn long_repeated_fields_are_joined_too() {
        const LONG: &str = "0123456789012345678901234567890123456789012345678901234567890123456789";
        static MANY: [(&str, &str); 12] = [("a", LONG); 12];
        assert_eq!(value(&Fields(&MANY), "a").unwrap(), [LONG; 12].join(",").into_bytes());
    }

    #[test]
    fn pseudo_headers_and_host_are_fields() {
        let request = Fields(&[]);
        assert_eq!(value(&request, ":method"), Some(b"GET".to_vec()));
        assert_eq!(value(&request, "host"), Some(b"a.example".to_vec()));
        assert_eq!(value(&request, ":scheme"), None);
    }

    #[test]
    fn a_fragment_is_neither_path_nor_query() {
        assert_eq!(split_path("/a?b#c"), SplitPath { path: "/a", query: Some("b") });
        assert_eq!(split_path("/a#b?c"), SplitPath { path: "/a", query: None });
    }

    #[test]
    fn only_a_number_after_the_last_colon_is_a_port() {
        for (authority, host) in [
            ("a:80", "a"),
            ("a", "a"),
            ("a:", "a:"),
            ("a:b", "a:b"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("a:99999", "a:99999"),
        ] {
            assert_eq!(without_port(authority), host);
        }
    }

    #[test]
    fn percent_escapes_are_replaced_where_they_are_whole() {
        for (text, decoded) in
            [("a%20b", "a b"), ("%41%", "A%"), ("%4", "%4"), ("%zz+", "%zz+"), ("%c3%a9", "é")]
        {
            assert_eq!(percent_decoded(text), decoded);
        }
    }

    #[test]
    fn the_first_of_equal_query_parameters_counts() {
        assert_eq!(query_parameter(Some("a=1&b&a=2"), "a"), Some("1"));
        assert_eq!(query_parameter(Some("a=1&b&a=2"), "b"), Some(""));
        assert_eq!(query_parameter(Some("a=1"), "c"), None);
        assert_eq!(query_parameter(None, "a"), None);
    }
}
