//! How answers of our own look. Source: `envoy.extensions.filters.network.http_connection_manager.v3.LocalReplyConfig`.

use std::sync::Arc;

use crate::access_log::{Filter, Format};
use crate::header_ops::HeaderOps;
use crate::strings::Str;

/// What is done to answers that come from no upstream.
#[derive(Debug)]
pub struct LocalReplies {
    /// The first whose filter passes applies.
    pub mappers: Box<[Mapper]>,
    /// The body of answers whose mapper has none of its own.
    pub body: Option<Arc<BodyFormat>>,
}

/// Changes to some answers. Source: `ResponseMapper`.
#[derive(Debug)]
pub struct Mapper {
    /// Which; it sees the status before it is changed.
    pub filter: Filter,
    /// Another status, 200–599.
    pub status: Option<u16>,
    /// Another text, which `%LOCAL_REPLY_BODY%` then means.
    pub body: Option<Box<[u8]>>,
    /// Headers to add.
    pub headers: HeaderOps,
    /// How the body is made of that text.
    pub format: Option<Arc<BodyFormat>>,
}

/// A body with values of the exchange in it.
#[derive(PartialEq, Debug)]
pub struct BodyFormat {
    /// The format; never [`crate::access_log::Shape::Default`].
    pub format: Format,
    /// Value of `content-type`.
    pub content_type: Str,
}
