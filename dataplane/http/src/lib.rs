//! HTTP/1.1 as a state machine: bytes in, heads and body ranges out, and back.
//!
//! This crate owns no socket, clock or task. A caller feeds the bytes it read and writes the bytes
//! the encoders appended to its buffer, so every state can be reached in a test or a fuzzer.
//! It is not a client or a server: what to do with a message is `ringsail-engine`'s business.
//!
//! Where to start: [`RequestDecoder`] and [`ResponseDecoder`] turn bytes into a [`RequestHead`] or
//! [`ResponseHead`]; [`BodyDecoder`] finds the body's data in the bytes after it;
//! [`encode_request`] and [`encode_response`] go the other way. [`hop`] takes out what must not be
//! passed on, [`path`] normalises request paths.
//!
//! ```
//! use ringsail_http::{BodyDecoder, Progress, RequestDecoder, RequestHead, RequestOptions};
//!
//! let bytes = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
//! let mut decoder = RequestDecoder::new(RequestOptions::default());
//! let mut head = RequestHead::new();
//! let Progress::Complete { consumed } = decoder.decode(bytes, &mut head)? else { panic!("more bytes are needed") };
//! assert_eq!(head.path(), b"/a");
//!
//! let mut body = BodyDecoder::new(head.framing().body);
//! let step = body.decode(&bytes[consumed..])?;
//! assert_eq!(&bytes[consumed..][step.data], b"hi");
//! # Ok::<(), ringsail_http::DecodeError>(())
//! ```
//!
//! Invariants:
//! - Ambiguous framing is refused, never repaired: one length, one `chunked`, CRLF line ends, no
//!   folded lines. What was accepted here means the same to any correct receiver.
//! - The verdict does not depend on how the bytes were split into reads.
//! - A head is copied once, into an arena that is reused: a warm connection allocates nothing.
//!   Body bytes are not copied at all.
//! - Every length and count is bounded by [`limits`].
//! - No input makes this crate panic: indexing and unwrapping are denied by lint.

#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::unwrap_used)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::unwrap_used))]

mod body;
mod decode;
mod encode;
mod error;
mod fields;
mod framing;
mod head;
pub mod hop;
pub mod limits;
mod method;
pub mod path;
mod status;

pub use body::{BodyDecoder, BodyStep};
pub use decode::{
    Progress, RequestDecoder, RequestOptions, ResponseDecoder, ResponseOptions, ResponseTo, UnderscoreNames,
};
pub use encode::{
    CHUNK_END, CONTINUE, ChunkHead, LAST_CHUNK, encode_last_chunk, encode_request, encode_response,
};
pub use error::{DecodeError, Fault};
pub use fields::{EditError, Fields};
pub use framing::{BodyLength, Framing};
pub use head::{RequestHead, ResponseHead, TargetForm, Version};
pub use method::Method;
pub use status::reason_phrase;
