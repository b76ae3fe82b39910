//! One gRPC call of our own: a message to a service, a message back.
//!
//! The call is a request to the service's cluster as any other: its circuit breakers hold, its counters count it.
//! Source: gRPC over HTTP/2.

use std::cell::Cell;
use std::time::Duration;

use ringsail_http::{EditError, Method, RequestHead, ResponseHead};
use ringsail_runtime::time::{now, timeout};
use ringsail_tables::Str;
use ringsail_tables::cluster::{ClusterRef, UpstreamProtocol};
use ringsail_telemetry::{ClusterCounter, ClusterGauge};

use crate::failure::Failure;
use crate::headers::request::append_forwarded_for;
use crate::http2::upstream::{self as http2, Settings};
use crate::limits::GRPC_ANSWER_BYTES_MAX;
use crate::progress::Progress;
use crate::shard::Shard;
use crate::upstream::{self, Carries, Dial, Outcome, Reuse, Wish};

/// What is called.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// `:authority`.
    pub authority: &'a str,
    /// `/package.Service/Method`.
    pub path: &'a str,
    /// Further headers.
    pub metadata: &'a [(Str, Str)],
    /// The encoded message.
    pub message: &'a [u8],
    /// How long the whole call may take.
    pub timeout: Duration,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError {
    /// No connection, no answer, or one that breaks off.
    Failed(Failure),
    /// It took too long.
    Late,
    /// The service said no, or said nothing that is a message.
    Refused,
}

/// Calls a service of a cluster that speaks HTTP/2, and returns its message.
pub async fn call(shard: &Shard, cluster: &ClusterRef<'_>, call: Call<'_>) -> Result<Vec<u8>, CallError> {
    let state = shard.cluster(cluster);
    let lease = shard.lease(cluster, &state, false);
    let failed = CallError::Failed;
    let connection = &cluster.cluster.connection;
    if connection.protocol == UpstreamProtocol::Http1 {
        // gRPC needs trailers and streams.
        return Err(failed(Failure::UpstreamProtocol));
    }
    let Some(choice) = state.pick(cluster, Wish::default()) else {
        state.stats.add(ClusterCounter::UpstreamCxNoneHealthy, 1);
        return Err(failed(Failure::NoHealthyUpstream));
    };
    let settings = Settings {
        dial: Dial::to(&shard.current_tables(), cluster, &state, &choice, Carries::Http2, None),
        http2: connection.http2,
        reuse: Reuse::of(connection),
    };
    let head = head(shard, &call).map_err(|_| failed(Failure::HeadTooLargeAfterEdits))?;
    let result = timeout(call.timeout, async {
        let lane = http2::acquire(&state, &choice, lease, &settings).await?;
        choice.host.tell(Outcome::Connected);
        let _permit = state.requests.take(lease.requests_max).ok_or(Failure::Overflow)?;
        state.stats.add(ClusterCounter::UpstreamRqTotal, 1);
        let _active = Active::begin(&state.stats, &choice.host);
        let written = Cell::new(false);
        let progress = Progress::begin(now());
        let (mut send, mut answer) = lane.request(&head, false, &written)?;
        let mut framed = Vec::with_capacity(call.message.len() + PREFIX_LEN);
        framed.push(0);
        framed.extend_from_slice(&(call.message.len() as u32).to_be_bytes());
        framed.extend_from_slice(call.message);
        // A service that does not take the question may still answer.
        if send.data(&framed).await.is_ok() {
            let _ = send.finish(None).await;
        }
        let mut response = ResponseHead::new();
        let mut body = answer.head(&mut response, None, &progress).await?;
        choice.host.tell(Outcome::Answered(response.status()));
        state.stats.count_answer(response.status());
        let mut bytes = Vec::new();
        while !body.is_end() && bytes.len() <= GRPC_ANSWER_BYTES_MAX {
            if body.is_empty() && body.fill().await.is_err() {
                break;
            }
            let piece = body.piece();
            bytes.extend_from_slice(body.bytes().get(piece.data).unwrap_or_default());
            body.consume(piece.consumed);
        }
        let status = body.trailers().and_then(|trailers| trailers.get("grpc-status"));
        let good = response.status() == 200 && status.or(response.fields().get("grpc-status")) == Some(b"0");
        Ok(good.then(|| message(&bytes).map(<[u8]>::to_vec)).flatten())
    });
    match result.await {
        Ok(Ok(answer)) => answer.ok_or(CallError::Refused),
        Ok(Err(failure)) => {
            let failure: Failure = failure;
            Outcome::of(failure).into_iter().for_each(|outcome| choice.host.tell(outcome));
            failure.row().counter.into_iter().for_each(|counter| state.stats.add(counter, 1));
            Err(failed(failure))
        }
        Err(_) => {
            state.stats.add(ClusterCounter::UpstreamRqTimeout, 1);
            Err(CallError::Late)
        }
    }
}

/// Length of what goes before a message: a flag and its length.
const PREFIX_LEN: usize = 5;

fn head(shard: &Shard, call: &Call<'_>) -> Result<RequestHead, EditError> {
    let mut head = RequestHead::build(Method::Post, call.authority.as_bytes(), call.path.as_bytes())?;
    let millis = format!("{}m", call.timeout.as_millis());
    let fields = head.fields_mut();
    fields.append("te", b"trailers")?;
    fields.append("grpc-timeout", millis.as_bytes())?;
    fields.append("content-type", b"application/grpc")?;
    for (name, value) in call.metadata {
        fields.append(name, value.as_bytes())?;
    }
    fields.append("x-envoy-internal", b"true")?;
    append_forwarded_for(&mut head, shard.identity.address)?;
    Ok(head)
}

/// The only message of a body that is not compressed.
pub(crate) fn message(body: &[u8]) -> Option<&[u8]> {
    let (prefix, rest) = body.split_first_chunk::<PREFIX_LEN>()?;
    let [0, a, b, c, d] = *prefix else { return None };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    (rest.len() == length).then_some(rest)
}

/// A request of our own in flight, counted for its cluster and host.
pub struct Active<'a> {
    stats: &'a ringsail_telemetry::ClusterStats,
    host: &'a upstream::Host,
}

impl<'a> Active<'a> {
    /// It begins.
    pub fn begin(stats: &'a ringsail_telemetry::ClusterStats, host: &'a upstream::Host) -> Active<'a> {
        stats.raise(ClusterGauge::UpstreamRqActive, 1);
        host.begin_request();
        Active { stats, host }
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.stats.lower(ClusterGauge::UpstreamRqActive, 1);
        self.host.end_request();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_one_message_of_the_length_it_says() {
        assert_eq!(message(b"\0\0\0\0\x02ab"), Some(&b"ab"[..]));
        assert_eq!(message(b"\0\0\0\0\0"), Some(&b""[..]));
        for bad in [&b""[..], b"\0\0\0\0", b"\0\0\0\0\x02a", b"\0\0\0\0\x02abc", b"\x01\0\0\0\x02ab"] {
            assert_eq!(message(bad), None);
        }
    }
}
