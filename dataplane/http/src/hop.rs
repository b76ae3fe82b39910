//! Hop-by-hop fields: what a proxy takes out before a message goes on (RFC 9110 §7.6.1).

use crate::fields::Fields;
use crate::head::{RequestHead, ResponseHead, Version};

/// Removes hop-by-hop fields from a request: Connection and the fields it lists, Keep-Alive,
/// Proxy-Connection, Upgrade; TE is replaced by `TE: trailers` when that was offered.
///
/// With `keep_upgrade`, Upgrade stays and Connection becomes `upgrade`. Fields in
/// [`NEVER_LISTED`] stay even when Connection lists them: whoever could make a proxy drop those
/// could change what the next hop believes about the message.
pub fn strip_request(head: &mut RequestHead, keep_upgrade: bool) {
    let offers_trailers = head
        .fields()
        .get_all("te")
        .any(|te| list_elements(te).any(|e| coding_name(e).eq_ignore_ascii_case(b"trailers")));
    strip(head.fields_mut(), keep_upgrade);
    let fields = head.fields_mut();
    if offers_trailers {
        // Only shortens what was there; cannot exceed the edit limit.
        let _ = fields.set("TE", b"trailers");
    } else {
        fields.remove("te");
    }
}

/// Removes Referer when it occurs twice or is no plain reference: an absolute URL with a fragment
/// or user information, or a relative one with a fragment or a colon in its first segment.
/// Compat: Envoy removes these before routing, so that no filter and no log sees them.
pub fn remove_bad_referer(head: &mut RequestHead) {
    let mut values = head.fields().get_all("referer");
    let Some(first) = values.next() else { return };
    let bad = values.next().is_some() || !is_plain_reference(first);
    drop(values);
    if bad {
        head.fields_mut().remove("referer");
    }
}

fn is_plain_reference(referer: &[u8]) -> bool {
    if referer.contains(&b'#') {
        return false;
    }
    let http = ["http://", "https://"].into_iter().find_map(|scheme| {
        let (start, rest) = referer.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme.as_bytes()).then_some(rest)
    });
    match http {
        Some(rest) => {
            let authority = rest.split(|b| matches!(b, b'/' | b'?')).next().unwrap_or(rest);
            !authority.is_empty() && !authority.contains(&b'@')
        }
        None => {
            let first_segment = referer.split(|b| *b == b'/').next().unwrap_or(referer);
            !first_segment.contains(&b':')
        }
    }
}

/// Removes hop-by-hop fields from a response; see [`strip_request`].
pub fn strip_response(head: &mut ResponseHead, keep_upgrade: bool) {
    strip(head.fields_mut(), keep_upgrade);
}

/// Fields that are end-to-end, or that this crate itself answers for, whatever Connection says.
pub const NEVER_LISTED: [&str; 8] = [
    "host",
    "content-length",
    "transfer-encoding",
    "te",
    "authorization",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
];

fn strip(fields: &mut Fields, keep_upgrade: bool) {
    // Most messages carry none of these.
    let any = fields.iter().any(|(name, _)| is_hop_by_hop(name));
    if !any {
        return;
    }
    if fields.contains("connection") {
        remove_listed(fields, keep_upgrade);
    }
    if keep_upgrade && fields.contains("upgrade") {
        fields.retain(|name, _| {
            !is_hop_by_hop(name) || name.eq_ignore_ascii_case(b"upgrade") || is(name, "connection")
        });
        let _ = fields.set("Connection", b"upgrade");
    } else {
        fields.retain(|name, _| !is_hop_by_hop(name));
    }
}

fn is(name: &[u8], other: &str) -> bool {
    name.eq_ignore_ascii_case(other.as_bytes())
}

fn is_hop_by_hop(name: &[u8]) -> bool {
    match name.len() {
        7 => is(name, "upgrade"),
        10 => is(name, "connection") || is(name, "keep-alive"),
        16 => is(name, "proxy-connection"),
        _ => false,
    }
}

fn remove_listed(fields: &mut Fields, keep_upgrade: bool) {
    // The lists are copied out because they live in the section that is edited; messages that
    // list anything but connection options are rare.
    let mut listed: Vec<u8> = Vec::new();
    for option in fields.get_all("connection").flat_map(list_elements) {
        let known =
            is(option, "close") || is(option, "keep-alive") || (keep_upgrade && is(option, "upgrade"));
        if !known && !NEVER_LISTED.iter().any(|n| is(option, n)) {
            listed.extend_from_slice(option);
            listed.push(b',');
        }
    }
    if !listed.is_empty() {
        fields.retain(|name, _| !list_elements(&listed).any(|l| l.eq_ignore_ascii_case(name)));
    }
}

impl RequestHead {
    /// The protocol this request wants to switch to: the Upgrade field, when Connection lists `upgrade`. Of HTTP/2
    /// only an extended CONNECT has them, which is held as the request of HTTP/1.1 that asks for the same.
    pub fn upgrade(&self) -> Option<&[u8]> {
        if self.version() == Version::Http10 {
            return None;
        }
        let upgrade = self.fields().get("upgrade")?;
        let asked = self.fields().get_all("connection").any(|value| list_contains(value, "upgrade"));
        asked.then_some(upgrade)
    }

    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110 §10.1.1;
    /// ignored from HTTP/1.0 clients and without a body).
    pub fn expects_continue(&self) -> bool {
        use crate::framing::BodyLength;
        self.version() != Version::Http10
            && matches!(self.framing().body, BodyLength::Length(1..) | BodyLength::Chunked)
            && self.fields().get_all("expect").any(|value| list_contains(value, "100-continue"))
    }
}

impl ResponseHead {
    /// The protocol of a 101 answer.
    pub fn upgrade(&self) -> Option<&[u8]> {
        (self.status() == 101).then(|| self.fields().get("upgrade")).flatten()
    }
}

/// The elements of a comma-separated list, trimmed, empty ones skipped.
pub fn list_elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(|e| e.trim_ascii()).filter(|e| !e.is_empty())
}

/// Whether a comma-separated list has `element`, in any case.
pub fn list_contains(value: &[u8], element: &str) -> bool {
    list_elements(value).any(|e| e.eq_ignore_ascii_case(element.as_bytes()))
}

/// A list element without its parameters.
fn coding_name(element: &[u8]) -> &[u8] {
    let end = element.iter().position(|b| *b == b';').unwrap_or(element.len());
    element.get(..end).unwrap_or(element).trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RequestDecoder, RequestOptions};

    fn stripped(fields: &str, keep_upgrade: bool) -> String {
        let text = format!("GET / HTTP/1.1\r\n{}\r\n", fields.replace('\n', "\r\n"));
        let mut head = RequestHead::new();
        RequestDecoder::new(RequestOptions::default()).decode(text.as_bytes(), &mut head).unwrap();
        strip_request(&mut head, keep_upgrade);
        head.fields()
            .iter()
            .map(|(n, v)| format!("{}: {}\n", String::from_utf8_lossy(n), String::from_utf8_lossy(v)))
            .collect()
    }

    #[test]
    fn connection_and_what_it_lists_are_removed() {
        assert_eq!(
            stripped(
                "Host: x\nConnection: X-Secret, close\nX-Secret: 1\nA: 2\nKeep-Alive: 5\nProxy-Connection: x\n",
                false
            ),
            "Host: x\nA: 2\n"
        );
    }

    #[test]
    fn listing_protected_fields_does_not_remove_them() {
        let kept = "Host: x\nX-Forwarded-For: 1\nContent-Length: 0\nAuthorization: b\n";
        let list = "Connection: host, x-forwarded-for, content-length, authorization\n";
        assert_eq!(stripped(&format!("{kept}{list}"), false), kept);
    }

    #[test]
    fn te_becomes_trailers_or_goes() {
        assert_eq!(stripped("TE: gzip;q=0.5, Trailers;q=0.1\n", false), "TE: trailers\n");
        assert_eq!(stripped("TE: gzip\nA: 1\n", false), "A: 1\n");
        assert_eq!(stripped("Connection: TE\nTE: trailers\n", false), "TE: trailers\n");
    }

    #[test]
    fn upgrade_goes_unless_it_is_kept() {
        let fields = "Host: x\nConnection: keep-alive, Upgrade\nUpgrade: websocket\n";
        assert_eq!(stripped(fields, false), "Host: x\n");
        assert_eq!(stripped(fields, true), "Host: x\nConnection: upgrade\nUpgrade: websocket\n");
    }

    #[test]
    fn only_plain_referers_stay() {
        let kept = |fields: &str| {
            let text = format!("GET / HTTP/1.1\r\n{fields}\r\n");
            let mut head = RequestHead::new();
            RequestDecoder::new(RequestOptions::default()).decode(text.as_bytes(), &mut head).unwrap();
            remove_bad_referer(&mut head);
            head.fields().contains("referer")
        };
        for good in ["http://a/b?c=d:e", "HTTPS://a", "/a:b", "a", ""] {
            assert!(kept(&format!("Referer: {good}\r\n")), "{good}");
        }
        for bad in ["http://a/#b", "http://u@a/", "http://", "about:blank", "javascript:x", "#a"] {
            assert!(!kept(&format!("Referer: {bad}\r\n")), "{bad}");
        }
        assert!(!kept("Referer: /a\r\nReferer: /a\r\n"));
    }

    #[test]
    fn upgrade_needs_both_fields() {
        let ask = |fields: &str| {
            let text = format!("GET / HTTP/1.1\r\n{fields}\r\n");
            let mut head = RequestHead::new();
            RequestDecoder::new(RequestOptions::default()).decode(text.as_bytes(), &mut head).unwrap();
            head.upgrade().map(<[u8]>::to_vec)
        };
        assert_eq!(ask("Connection: a, UPGRADE\r\nUpgrade: websocket\r\n"), Some(b"websocket".to_vec()));
        assert_eq!(ask("Upgrade: websocket\r\n"), None);
        assert_eq!(ask("Connection: upgrade\r\n"), None);
    }

    #[test]
    fn expect_counts_only_with_a_body() {
        let ask = |rest: &str| {
            let text = format!("POST / HTTP/1.1\r\nExpect: 100-Continue\r\n{rest}\r\n");
            let mut head = RequestHead::new();
            RequestDecoder::new(RequestOptions::default()).decode(text.as_bytes(), &mut head).unwrap();
            head.expects_continue()
        };
        assert!(ask("Content-Length: 1\r\n"));
        assert!(ask("Transfer-Encoding: chunked\r\n"));
        assert!(!ask("Content-Length: 0\r\n"));
        assert!(!ask(""));
    }
}
