//! Aggregated discovery without I/O: what a proxy and a control plane say to each other on one stream, and when.
//!
//! Both variants of the protocol are behind one interface. *State of the world*: each request names everything the
//! client wants, a response to a wildcard subscription holds everything there is. *Delta* (incremental): both sides
//! send differences. [`client::Client`] and [`server::Server`] take messages and return messages; who owns a
//! connection moves them. Source: <https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol>, and istiod's
//! behavior where it differs.
//!
//! ```text
//!   client                                        server
//!     subscribe ─────────────────────────────▶ Heard.respond
//!     Update ◀──────────────────────── push (nonce 1)
//!     accept / reject(nonce 1) ──────────────▶ Heard.answer = Ack | Nack
//! ```

pub mod client;
pub mod server;

use std::collections::BTreeSet;
use std::sync::Arc;

use prost_types::Any;

use crate::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use crate::type_url;

/// Which of the two protocols a stream speaks. The method name of the stream decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// `StreamAggregatedResources`.
    StateOfTheWorld,
    /// `DeltaAggregatedResources`.
    Delta,
}

/// What a client sends.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// On a stream of [`Variant::StateOfTheWorld`].
    StateOfTheWorld(DiscoveryRequest),
    /// On a stream of [`Variant::Delta`].
    Delta(DeltaDiscoveryRequest),
}

/// What a server sends.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// On a stream of [`Variant::StateOfTheWorld`].
    StateOfTheWorld(DiscoveryResponse),
    /// On a stream of [`Variant::Delta`].
    Delta(DeltaDiscoveryResponse),
}

impl Response {
    /// The type of the resources in it.
    pub fn type_url(&self) -> &str {
        match self {
            Response::StateOfTheWorld(response) => &response.type_url,
            Response::Delta(response) => &response.type_url,
        }
    }

    /// The nonce that the client's answer carries.
    pub fn nonce(&self) -> &str {
        match self {
            Response::StateOfTheWorld(response) => &response.nonce,
            Response::Delta(response) => &response.nonce,
        }
    }
}

/// A named resource at a version.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// Unique within its type.
    pub name: Arc<str>,
    /// Equal versions mean equal bodies. Empty when the server does not version single resources, as istiod does not.
    pub version: Arc<str>,
    /// The packed message, exactly as received or as it is to be sent.
    pub body: Any,
}

/// What a client wants of a type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Everything the server has for this client.
    pub wildcard: bool,
    /// These names, besides.
    pub names: BTreeSet<String>,
}

impl Interest {
    /// Everything the server has.
    pub fn everything() -> Interest {
        Interest { wildcard: true, names: BTreeSet::new() }
    }

    /// Just these names.
    pub fn names<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Interest {
        Interest { wildcard: false, names: names.into_iter().map(Into::into).collect() }
    }

    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        !self.wildcard && self.names.is_empty()
    }

    /// Whether a resource of this name is wanted.
    pub fn covers(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }
}

/// The name by which a subscription means "everything".
pub const WILDCARD: &str = "*";

/// Whether a state-of-the-world response of this type is complete, so that what it lacks is gone. For every other
/// type a response holds what changed or was asked for, and nothing is ever removed by leaving it out.
/// Source: xDS protocol, "how the client specifies what resources to return".
pub fn is_complete_in_state_of_the_world(type_url: &str) -> bool {
    matches!(type_url, type_url::LISTENER | type_url::CLUSTER)
}

/// Cuts a text to at most `bytes_max` bytes without splitting a character.
fn cut(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let mut end = bytes_max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests;
