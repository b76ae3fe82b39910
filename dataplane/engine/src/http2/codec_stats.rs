//! What HTTP/2 connections count, of clients and of clusters alike.

use ringsail_telemetry::{DownstreamHttp2Stats, Http2Counter, Http2Gauge, UpstreamHttp2Stats};

/// Statistics of a connection's side.
#[derive(Clone, Debug)]
pub(crate) enum CodecStats {
    /// A client's.
    Downstream(DownstreamHttp2Stats),
    /// A cluster's.
    Upstream(UpstreamHttp2Stats),
    /// Nobody's.
    None,
}

impl CodecStats {
    pub(crate) fn count(&self, counter: Http2Counter) {
        match self {
            CodecStats::Downstream(stats) => stats.add(counter, 1),
            CodecStats::Upstream(stats) => stats.add(counter, 1),
            CodecStats::None => {}
        }
    }

    pub(crate) fn stream_begins(&self) {
        match self {
            CodecStats::Downstream(stats) => stats.raise(Http2Gauge::StreamsActive, 1),
            CodecStats::Upstream(stats) => stats.raise(Http2Gauge::StreamsActive, 1),
            CodecStats::None => {}
        }
    }

    pub(crate) fn stream_ends(&self) {
        match self {
            CodecStats::Downstream(stats) => stats.lower(Http2Gauge::StreamsActive, 1),
            CodecStats::Upstream(stats) => stats.lower(Http2Gauge::StreamsActive, 1),
            CodecStats::None => {}
        }
    }
}
