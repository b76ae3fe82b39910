//! Host names: completion of short names, wildcard comparison, most specific match.
//!
//! Hosts are kept in lower case. A wildcard is `*` alone or `*.` followed by a suffix; anything else is compared
//! literally. Source: Istio API, `VirtualService.hosts`, `Destination.host`, `DestinationRule.host`.

use std::net::IpAddr;

/// Completes a short name the way Istio does: relative to the namespace of the *rule* that mentions it.
///
/// A name without a dot becomes `<name>.<namespace>.svc.<cluster domain>`; wildcards, IP addresses and names that
/// contain a dot are only lower-cased. With an empty `cluster_domain` the result is `<name>.<namespace>`.
pub fn resolve_short_name(host: &str, namespace: &str, cluster_domain: &str) -> String {
    let host = host.to_ascii_lowercase();
    if host.contains('*') || host.contains('.') || host.parse::<IpAddr>().is_ok() {
        return host;
    }
    match (namespace.is_empty(), cluster_domain.is_empty()) {
        (true, _) => host,
        (false, true) => format!("{host}.{namespace}"),
        (false, false) => format!("{host}.{namespace}.svc.{cluster_domain}"),
    }
}

/// Whether the host is `*` or starts with a wildcard label.
pub fn is_wildcard(host: &str) -> bool {
    host.starts_with('*')
}

/// Whether the two names can denote a common host; either side may be a wildcard.
pub fn overlaps(a: &str, b: &str) -> bool {
    match (a.strip_prefix('*'), b.strip_prefix('*')) {
        (Some(a), Some(b)) => a.ends_with(b) || b.ends_with(a),
        (Some(suffix), None) => b.ends_with(suffix),
        (None, Some(suffix)) => a.ends_with(suffix),
        (None, None) => a == b,
    }
}

/// Whether every host that `inner` denotes is denoted by `outer` too. A wildcard is never inside an exact name.
pub fn is_subset_of(inner: &str, outer: &str) -> bool {
    match (inner.strip_prefix('*'), outer.strip_prefix('*')) {
        (Some(inner), Some(outer)) => inner.ends_with(outer),
        (None, Some(suffix)) => inner.ends_with(suffix),
        (Some(_), None) => false,
        (None, None) => inner == outer,
    }
}

/// The more specific of two overlapping names: exact before wildcard, the longer wildcard before the shorter.
pub fn more_specific<'a>(a: &'a str, b: &'a str) -> &'a str {
    if is_subset_of(a, b) { a } else { b }
}

/// Orders host patterns from the most to the least specific: exact names first, then wildcards by falling length,
/// ties by name.
pub fn by_specificity(a: &str, b: &str) -> std::cmp::Ordering {
    is_wildcard(a).cmp(&is_wildcard(b)).then(b.len().cmp(&a.len())).then(a.cmp(b))
}

/// Finds the most specific pattern that covers `host` by asking `lookup` for the exact name, then for each wildcard
/// from the longest suffix down to `*`.
pub fn most_specific<T>(host: &str, mut lookup: impl FnMut(&str) -> Option<T>) -> Option<T> {
    if let Some(found) = lookup(host) {
        return Some(found);
    }
    // For a wildcard the suffix itself was asked for above; begin one label further right.
    let mut rest = host.strip_prefix("*.").unwrap_or(host);
    while let Some((_, suffix)) = rest.split_once('.') {
        if let Some(found) = lookup(&format!("*.{suffix}")) {
            return Some(found);
        }
        rest = suffix;
    }
    lookup("*")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_name_is_completed_in_the_namespace_of_the_rule() {
        assert_eq!(resolve_short_name("Reviews", "shop", "cluster.local"), "reviews.shop.svc.cluster.local");
        assert_eq!(resolve_short_name("reviews", "shop", ""), "reviews.shop");
    }

    #[test]
    fn name_with_a_dot_wildcard_or_address_is_taken_literally() {
        for host in ["reviews.prod", "*", "*.com", "10.0.0.1", "::1"] {
            assert_eq!(resolve_short_name(host, "shop", "cluster.local"), host);
        }
    }

    #[test]
    fn wildcard_needs_at_least_one_more_label() {
        assert!(overlaps("*.foo.com", "a.foo.com"));
        assert!(!overlaps("*.foo.com", "foo.com"));
        assert!(overlaps("*.com", "*.foo.com"));
        assert!(!overlaps("*.org", "*.foo.com"));
    }

    #[test]
    fn a_wildcard_is_never_inside_an_exact_name() {
        assert!(is_subset_of("a.foo.com", "*.com"));
        assert!(is_subset_of("*.foo.com", "*.com"));
        assert!(!is_subset_of("*.com", "*.foo.com"));
        assert!(!is_subset_of("*.com", "a.com"));
        assert_eq!(more_specific("*.com", "a.com"), "a.com");
    }

    #[test]
    fn exact_host_wins_over_the_longest_wildcard() {
        let known = ["a.b.com", "*.b.com", "*.com", "*"];
        let find = |known: &[&'static str], host: &str| {
            most_specific(host, |h| known.iter().find(|k| **k == h).copied())
        };
        assert_eq!(find(&known, "a.b.com"), Some("a.b.com"));
        assert_eq!(find(&known, "x.b.com"), Some("*.b.com"));
        assert_eq!(find(&known, "*.b.com"), Some("*.b.com"));
        assert_eq!(find(&known, "*.c.com"), Some("*.com"));
        assert_eq!(find(&known, "org"), Some("*"));
        assert_eq!(find(&known[..3], "org"), None);
    }
}
