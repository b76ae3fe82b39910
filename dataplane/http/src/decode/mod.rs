//! Heads: bytes in, [`RequestHead`](crate::RequestHead) or [`ResponseHead`](crate::ResponseHead) out.
//!
//! `lines` collects a head into its arena and enforces line ends and size; `parse` lets httparse
//! find the parts; `lengths` reads the framing fields; `request` and `response` put it together.

pub(crate) mod lengths;
pub(crate) mod lines;
pub(crate) mod parse;
mod request;
mod response;
#[cfg(test)]
mod tests;

pub use request::RequestDecoder;
pub use response::{ResponseDecoder, ResponseOptions, ResponseTo};

pub(crate) use request::span_in;

use crate::limits::{FIELDS_MAX, REQUEST_HEAD_BYTES_MAX};

/// What a call of `decode` achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All input was taken into the head's arena; give back the read buffer and feed more bytes.
    NeedMore,
    /// The head is complete. `consumed` bytes of this call's input belong to it; body bytes or a
    /// pipelined message follow from there.
    Complete {
        /// Bytes of the input that were used.
        consumed: usize,
    },
}

/// What to do with request fields whose name contains an underscore.
/// Source: Envoy `headers_with_underscores_action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum UnderscoreNames {
    /// Pass on.
    #[default]
    Allow,
    /// Refuse the request with 400.
    Reject,
    /// Remove the field.
    Drop,
}

/// What a request decoder accepts; from the HTTP connection manager's configuration.
#[derive(Clone, Copy, Debug)]
pub struct RequestOptions {
    /// Longest head in bytes. Envoy `max_request_headers_kb` × 1024.
    pub head_bytes_max: usize,
    /// Most fields, at most [`FIELDS_CEILING`](crate::limits::FIELDS_CEILING). Envoy `max_headers_count`.
    pub fields_max: usize,
    /// Accept methods that are not registered. Envoy `allow_custom_methods`.
    pub custom_methods: bool,
    /// Treatment of names with underscores.
    pub underscores: UnderscoreNames,
}

impl Default for RequestOptions {
    fn default() -> Self {
        Self {
            head_bytes_max: REQUEST_HEAD_BYTES_MAX,
            fields_max: FIELDS_MAX,
            custom_methods: false,
            underscores: UnderscoreNames::Allow,
        }
    }
}
