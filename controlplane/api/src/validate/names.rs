//! Names as Kubernetes and DNS allow them.

/// RFC 1123 label: lower-case letters, digits and inner `-`, 1 to 63 characters.
pub fn is_dns_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
        && bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
}

/// RFC 1123 subdomain: dotted labels, 1 to 253 characters (labels may be longer than 63 here, as in
/// Kubernetes' object names).
pub fn is_dns_subdomain(text: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=253).contains(&text.len())
        && text.split('.').all(|label| {
            let bytes = label.as_bytes();
            bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
                && bytes.first().is_some_and(alphanumeric)
                && bytes.last().is_some_and(alphanumeric)
        })
}

/// Longest DNS name. Source: RFC 1035 §2.3.4.
const DOMAIN_BYTES_MAX: usize = 255;

/// Longest regular expression. Source: Istio's webhook.
const REGEX_BYTES_MAX: usize = 1024;

/// A DNS label with capitals allowed, as Istio has it for names of its own (namespaces, subsets).
pub(crate) fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

/// A full domain name; a single trailing dot is allowed.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn domain(text: &str) -> Result<(), String> {
    bounded(text)?;
    labels(text)
}

/// A domain name whose first label may be `*` or start with it.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn wildcard_domain(text: &str) -> Result<(), String> {
    bounded(text)?;
    let (first, rest) = match text.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (text, None),
    };
    let after_star = first.strip_prefix('*').map(|after| after.strip_prefix('-').unwrap_or(after));
    let first_is_good = match after_star {
        Some("") => first == "*",
        Some(after) => is_label(after),
        None => is_label(first),
    };
    if !first_is_good {
        return Err(format!("`{text}` is not a domain name (label `{first}`)"));
    }
    rest.map_or(Ok(()), labels)
}

/// True for `*foo.com`: only `*` alone and `*.foo.com` are wildcards.
pub(crate) fn is_partial_wildcard(host: &str) -> bool {
    host.contains('*') && host != "*" && !host.starts_with("*.")
}

fn bounded(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("an empty domain name".to_owned());
    }
    if text.len() > DOMAIN_BYTES_MAX {
        return Err(format!("a domain name of {} characters; {DOMAIN_BYTES_MAX} are allowed", text.len()));
    }
    Ok(())
}

fn labels(text: &str) -> Result<(), String> {
    let parts: Vec<&str> = text.split('.').collect();
    let count = parts.len();
    if parts.last().is_some_and(|top| !top.is_empty() && top.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(format!("`{text}` is not a domain name (its last label is a number)"));
    }
    for (index, label) in parts.into_iter().enumerate() {
        let trailing_dot = index > 0 && index + 1 == count && label.is_empty();
        if !trailing_dot && !is_label(label) {
            return Err(format!("`{text}` is not a domain name (label `{label}`)"));
        }
    }
    Ok(())
}

/// True for an IPv4 or IPv6 address.
pub(crate) fn is_ip(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok()
}

/// True for an address or a block such as `10.0.0.0/8`.
pub(crate) fn is_ip_or_block(text: &str) -> bool {
    match text.split_once('/') {
        None => is_ip(text),
        Some((address, bits)) => {
            let bits_max = match address.parse::<std::net::IpAddr>() {
                Ok(std::net::IpAddr::V4(_)) => 32,
                Ok(std::net::IpAddr::V6(_)) => 128,
                Err(_) => return false,
            };
            bits.parse::<u8>().is_ok_and(|bits| bits <= bits_max) && !bits.starts_with('+')
        }
    }
}

/// A regular expression within RE2's language.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn regex(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("an empty regular expression".to_owned());
    }
    if text.len() > REGEX_BYTES_MAX {
        return Err(format!("a regular expression of {} bytes; {REGEX_BYTES_MAX} are allowed", text.len()));
    }
    match regex::Regex::new(text) {
        Ok(_) => Ok(()),
        Err(error) => {
            // The last line of the library's message names the fault; the others draw it.
            let message = error.to_string();
            let fault = message.lines().last().unwrap_or_default().trim_start_matches("error: ");
            Err(format!("not an RE2 regular expression: {fault}"))
        }
    }
}

/// True when two hosts, each possibly a wildcard, have a name in common. Source: Istio host matching.
pub(crate) fn hosts_overlap(left: &str, right: &str) -> bool {
    match (left.strip_prefix('*'), right.strip_prefix('*')) {
        (Some(left), Some(right)) => left.ends_with(right) || right.ends_with(left),
        (Some(suffix), None) => right.ends_with(suffix),
        (None, Some(suffix)) => left.ends_with(suffix),
        (None, None) => left == right,
    }
}

/// True when every name that `inner` covers is covered by `outer`.
pub(crate) fn is_host_within(inner: &str, outer: &str) -> bool {
    match (inner.strip_prefix('*'), outer.strip_prefix('*')) {
        (Some(inner), Some(outer)) => inner.ends_with(outer),
        (None, Some(suffix)) => inner.ends_with(suffix),
        (None, None) => inner == outer,
        (Some(_), None) => false,
    }
}

/// True for an HTTP field name. Source: RFC 9110 §5.6.2 without the characters Istio leaves out.
pub(crate) fn is_header_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.!#$&'*+^`|~%".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stand_in_the_first_label_only() {
        for good in ["*", "*.foo.com", "foo.com", "a", "*-x.foo.com", "foo.com.", "FOO.com"] {
            assert_eq!(wildcard_domain(good), Ok(()), "{good}");
        }
        for bad in ["", "foo.*.com", "a*.com", "*.", "-a.com", "a..b", "a_b.com", "10.0.0.1"] {
            assert!(wildcard_domain(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_contain_and_overlap_by_suffix() {
        assert!(is_host_within("a.foo.com", "*.foo.com") && is_host_within("*.a.foo.com", "*.foo.com"));
        assert!(!is_host_within("foo.com", "*.foo.com") && !is_host_within("*.foo.com", "a.foo.com"));
        assert!(hosts_overlap("*.foo.com", "*.com") && hosts_overlap("*", "x") && !hosts_overlap("a", "b"));
    }

    #[test]
    fn blocks_have_a_prefix_length_within_the_address() {
        for good in ["10.0.0.0/8", "::/0", "1.2.3.4", "::1"] {
            assert!(is_ip_or_block(good), "{good}");
        }
        for bad in ["10.0.0.0/33", "10.0.0.0/", "x/8", "::/129", "10.0.0.0/+8"] {
            assert!(!is_ip_or_block(bad), "{bad}");
        }
    }

    #[test]
    fn what_re2_lacks_is_refused() {
        assert_eq!(regex("^/a(b|c)*$"), Ok(()));
        for bad in ["", "(?=a)", r"(a)\1", "["] {
            assert!(regex(bad).is_err(), "{bad}");
        }
    }
}
