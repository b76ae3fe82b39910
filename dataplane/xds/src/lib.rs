//! All that crosses the wire between the planes: a subset of Envoy's v3 types and both halves of the xDS protocol.
//!
//! *What it is.* The types in `proto/` are our own files with the packages, names and numbers of Envoy's v3 API, so
//! that bytes and JSON are interchangeable with every Envoy control plane and proxy. They are compiled to committed
//! Rust by `cargo xtask codegen`. [`json`] maps them to protobuf's JSON and back. [`protocol`] holds the client and
//! the server half of aggregated discovery as state machines without I/O.
//!
//! *What it is not.* No gRPC (tonic lives in `agent` and `serve`), no meaning: what a route or cluster does is decided
//! in `tables`.
//!
//! *Where to start.* [`envoy::config`] for the resources, [`protocol::client`] for what a proxy says and when.
//!
//! *Invariants.*
//! - Fields that the subset lacks are skipped when decoding. Whoever must not lose them keeps the received bytes; the
//!   control plane never re-encodes what it did not build.
//! - Numbers are checked against the full schema by `tests/schema.rs`.
//! - Nothing here reads a clock, a socket or a file.

#[allow(missing_docs, clippy::all, rustdoc::all)]
mod generated;
pub mod json;
pub mod limits;
pub mod protocol;
pub mod type_url;

pub use generated::{envoy, google, io, istio, opentelemetry, ringsail, stats, udpa, xds};
pub use prost;

use prost::{DecodeError, Message};
use prost_types::Any;

/// The serialized descriptors of every type of this crate, as `google.protobuf.FileDescriptorSet`.
pub static DESCRIPTORS: &[u8] = include_bytes!("generated/descriptors.bin");

/// Packs a message under its type URL.
pub fn pack<M: Message + prost::Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

/// Unpacks a message whose type the caller knows from the type URL.
///
/// # Errors
/// When the type is another one, or the bytes are not such a message.
pub fn unpack<M: Message + prost::Name + Default>(any: &Any) -> Result<M, UnpackError> {
    let found = type_url::message_name(&any.type_url);
    let wanted = M::full_name();
    if found != wanted {
        return Err(UnpackError::OtherType { found: found.to_string(), wanted });
    }
    M::decode(any.value.as_slice()).map_err(|error| UnpackError::Malformed { wanted, error })
}

/// Why [`unpack`] failed.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The message has another type than the place it was found in allows.
    #[error("found a {found} where a {wanted} belongs")]
    OtherType {
        /// Message name from the type URL.
        found: String,
        /// Message name that belongs here.
        wanted: String,
    },
    /// The bytes do not follow the type's schema.
    #[error("not a valid {wanted}: {error}")]
    Malformed {
        /// Message name.
        wanted: String,
        /// What the decoder found, with the field.
        error: DecodeError,
    },
}

#[cfg(test)]
mod tests {
    use super::envoy::config::{cluster::v3::Cluster, endpoint::v3::ClusterLoadAssignment};
    use super::*;

    #[test]
    fn a_packed_message_comes_back_under_its_type_url() {
        let cluster = Cluster { name: "a".to_string(), ..Cluster::default() };
        let any = pack(&cluster);
        assert_eq!(any.type_url, type_url::CLUSTER);
        assert_eq!(unpack::<Cluster>(&any).expect("same type"), cluster);
    }

    #[test]
    fn unpacking_another_type_names_both() {
        let error = unpack::<ClusterLoadAssignment>(&pack(&Cluster::default())).expect_err("another type");
        assert_eq!(
            error.to_string(),
            "found a envoy.config.cluster.v3.Cluster where a envoy.config.endpoint.v3.ClusterLoadAssignment belongs"
        );
    }
}
