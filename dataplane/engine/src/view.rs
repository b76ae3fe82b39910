//! A request head as the tables' lookups see it.

use ringsail_http::{Fields, RequestHead};
use ringsail_tables::Request;
use ringsail_tables::route::HashPolicy;

use crate::filters::hash;

/// A plaintext request.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a>(pub &'a RequestHead);

impl Request for RequestView<'_> {
    fn method(&self) -> &str {
        text(self.0.method_name())
    }

    fn authority(&self) -> &str {
        text(self.0.authority().unwrap_or_default())
    }

    fn path(&self) -> &str {
        // CONNECT has none; its target is the authority.
        if self.0.target_form() == ringsail_http::TargetForm::Authority { "" } else { text(self.0.path()) }
    }

    fn scheme(&self) -> &str {
        scheme(self.0)
    }

    fn header(&self, name: &str, nth: usize) -> Option<&[u8]> {
        nth_field(self.0.fields(), name, nth)
    }
}

/// A plaintext request that is being routed.
#[derive(Clone, Copy, Debug)]
pub struct RoutedView<'a> {
    /// The request.
    pub request: RequestView<'a>,
    /// What may be hashed of its connection.
    pub ends: hash::Ends,
}

impl Request for RoutedView<'_> {
    fn method(&self) -> &str {
        self.request.method()
    }

    fn authority(&self) -> &str {
        self.request.authority()
    }

    fn path(&self) -> &str {
        self.request.path()
    }

    fn scheme(&self) -> &str {
        self.request.scheme()
    }

    fn header(&self, name: &str, nth: usize) -> Option<&[u8]> {
        self.request.header(name, nth)
    }

    fn hash(&self, policies: &[HashPolicy]) -> Option<u64> {
        // A cookie made here goes nowhere: the client gets one when a host is picked by it.
        hash::of_request(policies, self.request.0, self.ends, |_| {})
    }
}

/// The scheme that the request names itself (HTTP/2's `:scheme`, an absolute target).
///
/// Compat: without one, Envoy takes it from `x-forwarded-proto`, which is set by now, when it names one.
pub fn scheme(head: &RequestHead) -> &'static str {
    let own = head.target_scheme();
    let named = if own.is_empty() { head.fields().get("x-forwarded-proto").unwrap_or_default() } else { own };
    if named.eq_ignore_ascii_case(b"https") { "https" } else { "http" }
}

/// The decoder accepts visible ASCII only in these parts.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// The `nth` field of a name. Unlike [`Fields::get_all`] it does not tie the result to the name.
pub fn nth_field<'a>(fields: &'a Fields, name: &str, nth: usize) -> Option<&'a [u8]> {
    let named = fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()));
    named.map(|(_, value)| value).nth(nth)
}
