//! Conditions on the path.

use crate::regex_re2::Regex;
use crate::string_match::starts_ignoring_case;
use crate::strings::Str;

/// How a route matches the path (without query). Source: `RouteMatch.path_specifier` and `case_sensitive`.
#[derive(Clone, Debug)]
pub enum PathMatch {
    /// The whole path.
    Exact {
        /// The path.
        path: Str,
        /// Whether ASCII case is folded.
        ignore_case: bool,
    },
    /// A prefix.
    Prefix {
        /// The prefix.
        prefix: Str,
        /// Whether ASCII case is folded.
        ignore_case: bool,
    },
    /// The path itself, or everything below it: `/api` matches `/api` and `/api/v1`, not `/apis`.
    PathSeparatedPrefix {
        /// The prefix, without a slash at its end.
        prefix: Str,
        /// Whether ASCII case is folded.
        ignore_case: bool,
    },
    /// The whole path by a regular expression.
    Regex(Regex),
    /// CONNECT requests only.
    Connect,
}

impl PathMatch {
    /// Whether the path matches. A CONNECT request without a path matches [`PathMatch::Connect`] only.
    pub fn matches(&self, method: &str, path: &str) -> bool {
        if let PathMatch::Connect = self {
            return method == "CONNECT";
        }
        if path.is_empty() {
            return false;
        }
        let path = path.as_bytes();
        match self {
            PathMatch::Exact { path: want, ignore_case: false } => path == want.as_bytes(),
            PathMatch::Exact { path: want, ignore_case: true } => path.eq_ignore_ascii_case(want.as_bytes()),
            PathMatch::Prefix { prefix, ignore_case } => starts(path, prefix, *ignore_case),
            PathMatch::PathSeparatedPrefix { prefix, ignore_case } => {
                starts(path, prefix, *ignore_case) && matches!(path.get(prefix.len()), None | Some(b'/'))
            }
            PathMatch::Regex(regex) => regex.matches(path),
            PathMatch::Connect => false,
        }
    }
}

fn starts(path: &[u8], prefix: &str, ignore_case: bool) -> bool {
    if ignore_case {
        starts_ignoring_case(path, prefix.as_bytes())
    } else {
        path.starts_with(prefix.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_separated_prefix_ends_at_a_slash() {
        let api = PathMatch::PathSeparatedPrefix { prefix: Str::new("/api"), ignore_case: false };
        assert!(api.matches("GET", "/api") && api.matches("GET", "/api/v1"));
        assert!(!api.matches("GET", "/apis") && !api.matches("GET", "/ap"));
    }

    #[test]
    fn connect_has_its_own_matcher() {
        let root = PathMatch::Prefix { prefix: Str::new("/"), ignore_case: false };
        assert!(PathMatch::Connect.matches("CONNECT", ""));
        assert!(!PathMatch::Connect.matches("GET", "/"));
        assert!(!root.matches("CONNECT", ""));
    }

    #[test]
    fn case_is_folded_only_where_asked() {
        let fold = PathMatch::Exact { path: Str::new("/A"), ignore_case: true };
        let keep = PathMatch::Exact { path: Str::new("/A"), ignore_case: false };
        assert!(fold.matches("GET", "/a") && !keep.matches("GET", "/a"));
    }
}
