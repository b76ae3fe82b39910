//! A request's hash, for clusters that balance by it. The same request gets the same number as from Envoy, and so goes
//! to the same endpoint.
//!
//! Source: `envoy.config.route.v3.RouteAction.HashPolicy`; Envoy's `HashPolicyImpl` and `HashUtil::xxHash64`.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use ringsail_http::RequestHead;
use ringsail_tables::request::{query_parameter, split_path};
use ringsail_tables::route::{HashCookie, HashPolicy, HashSource};
use twox_hash::XxHash64;

/// What is hashed of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The client, by `x-forwarded-for` where that is believed.
    pub client: Option<SocketAddr>,
    /// The socket's other end.
    pub peer: Option<SocketAddr>,
    /// Our end.
    pub local: Option<SocketAddr>,
}

/// The hash of a request; `None` when no policy finds anything to hash. A cookie made for the client is handed to
/// `set_cookie` as the value of a `set-cookie` header.
pub fn of_request(
    policies: &[HashPolicy],
    request: &RequestHead,
    ends: Ends,
    mut set_cookie: impl FnMut(String),
) -> Option<u64> {
    let mut hash: Option<u64> = None;
    for policy in policies {
        let new = match &policy.source {
            HashSource::Header { name, rewrite } => {
                let mut values: Vec<String> = match name.as_str() {
                    ":path" => vec![String::from_utf8_lossy(request.path()).into_owned()],
                    ":authority" | "host" => request.authority().map(lossy).into_iter().collect(),
                    ":method" => vec![lossy(request.method_name())],
                    _ => request.fields().get_all(name).map(lossy).collect(),
                };
                if let Some(rewrite) = rewrite {
                    for value in &mut values {
                        let mut out = String::new();
                        rewrite.replace(value, &mut out);
                        *value = out;
                    }
                }
                // The order of fields does not matter.
                values.sort_unstable();
                let chain = |seed, value: &String| XxHash64::oneshot(seed, value.as_bytes());
                (!values.is_empty()).then(|| values.iter().fold(0, chain))
            }
            HashSource::Cookie(cookie) => match cookie_value(request, &cookie.name) {
                Some(value) => Some(of_bytes(&value)),
                None if cookie.ttl.is_some() => {
                    let value = cookie_for(ends);
                    set_cookie(written(cookie, &value));
                    Some(of_bytes(value.as_bytes()))
                }
                None => None,
            },
            HashSource::SourceIp => ends.client.map(|client| of_address(client.ip())),
            HashSource::QueryParameter(name) => {
                let path = std::str::from_utf8(request.path()).unwrap_or_default();
                query_parameter(split_path(path).query, name).map(|value| of_bytes(value.as_bytes()))
            }
        };
        if let Some(new) = new {
            // The turn keeps equal policies from cancelling each other out.
            hash = Some(hash.map_or(0, |old| old.rotate_left(1)) ^ new);
        }
        if policy.terminal && hash.is_some() {
            break;
        }
    }
    hash
}

/// The hash of a client's address, also for connections that are relayed.
pub fn of_address(ip: IpAddr) -> u64 {
    of_bytes(ip.to_canonical().to_string().as_bytes())
}

fn of_bytes(bytes: &[u8]) -> u64 {
    XxHash64::oneshot(0, bytes)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The value of a cookie that is there and not empty, without its quotes.
fn cookie_value(request: &RequestHead, name: &str) -> Option<Vec<u8>> {
    for field in request.fields().get_all("cookie") {
        for pair in field.split(|byte| *byte == b';') {
            let pair = pair.trim_ascii();
            let Some(at) = pair.iter().position(|byte| *byte == b'=') else { continue };
            if &pair[..at] == name.as_bytes() {
                let value = &pair[at + 1..];
                let bare =
                    value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value);
                return (!bare.is_empty()).then(|| bare.to_vec());
            }
        }
    }
    None
}

/// The cookie of a client that has none. The same for all requests of a connection, so that those in flight together
/// get the same one.
fn cookie_for(ends: Ends) -> String {
    let mut text = String::new();
    for end in [ends.peer, ends.local].into_iter().flatten() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{end}");
    }
    format!("{:016x}", of_bytes(text.as_bytes()))
}

fn written(cookie: &HashCookie, value: &str) -> String {
    let mut text = format!("{}=\"{value}\"", cookie.name.as_str());
    if let Some(seconds) = cookie.ttl.map(|ttl| ttl.as_secs()).filter(|seconds| *seconds > 0) {
        let _ = write!(text, "; Max-Age={seconds}");
    }
    if !cookie.path.is_empty() {
        let _ = write!(text, "; Path={}", cookie.path.as_str());
    }
    for (name, value) in &cookie.attributes {
        let _ = write!(text, "; {}", name.as_str());
        if !value.is_empty() {
            let _ = write!(text, "={}", value.as_str());
        }
    }
    text.push_str("; HttpOnly");
    text
}
