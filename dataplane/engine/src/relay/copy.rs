//! Bytes of two sockets to each other.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use ringsail_runtime::time::{now, sleep_until};

use super::{Counts, Fate};
use crate::inflow::Inflow;
use crate::stream::Stream;

/// Copies both directions until each has ended, or either socket is reset. Each side comes with what it has said.
/// `admits` is asked at the client's first byte, or its end.
pub(super) async fn both_ways(
    (downstream, mut inflow): (&Stream, Inflow),
    (upstream, greeting): (&Stream, Inflow),
    counts: &Counts,
    limits: Limits,
    admits: impl FnOnce() -> bool,
) -> Fate {
    let to_upstream = Direction { count: &counts.up, counts, limits: Limits { ends_after: None, ..limits } };
    let to_client = Direction { count: &counts.down, counts, limits };
    let mut up = pin!(async {
        // What was looked at already is kept; otherwise this waits.
        inflow.fill(downstream).await.map_err(|_| Broken::Source)?;
        if !admits() {
            return Err(Broken::Denied);
        }
        copy(downstream, inflow, upstream, to_upstream).await
    });
    let mut down = pin!(copy(upstream, greeting, downstream, to_client));
    let (mut up_ended, mut down_ended) = (false, false);
    poll_fn(|cx| {
        if !up_ended && let Poll::Ready(result) = up.as_mut().poll(cx) {
            match result {
                Ok(()) => up_ended = true,
                Err(Broken::Fault) => return Poll::Ready(Fate::Faulted),
                Err(Broken::Denied) => return Poll::Ready(Fate::Denied),
                Err(Broken::Source) => return Poll::Ready(Fate::ClientReset),
                Err(Broken::Sink) => return Poll::Ready(Fate::UpstreamReset),
            }
        }
        if !down_ended && let Poll::Ready(result) = down.as_mut().poll(cx) {
            match result {
                Ok(()) => down_ended = true,
                Err(Broken::Fault) => return Poll::Ready(Fate::Faulted),
                Err(Broken::Denied) => return Poll::Ready(Fate::Denied),
                Err(Broken::Source) => return Poll::Ready(Fate::UpstreamReset),
                Err(Broken::Sink) => return Poll::Ready(Fate::ClientReset),
            }
        }
        if up_ended && down_ended { Poll::Ready(Fate::Ended) } else { Poll::Pending }
    })
    .await
}

/// What faults allow; everything by default.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    /// Bytes of both directions together after which everything is reset.
    pub(super) reset_after: Option<u64>,
    /// Bytes to the client after which that direction ends.
    pub(super) ends_after: Option<u64>,
    /// Bytes per second of each direction.
    pub(super) bytes_per_second: Option<u64>,
}

/// One direction of a relay.
struct Direction<'a> {
    count: &'a Cell<u64>,
    counts: &'a Counts,
    limits: Limits,
}

/// Why a copy broke off.
enum Broken {
    /// The socket it reads from is gone.
    Source,
    /// The socket it writes to is gone.
    Sink,
    /// On purpose.
    Fault,
    /// The client may not use the connection.
    Denied,
}

/// Copies one direction until its source ends, and passes the end on.
async fn copy(
    source: &Stream,
    mut inflow: Inflow,
    sink: &Stream,
    direction: Direction<'_>,
) -> Result<(), Broken> {
    let Direction { count, counts, limits } = direction;
    let began = now();
    loop {
        let total = counts.up.get() + counts.down.get();
        let until_reset = limits.reset_after.map(|max| max.saturating_sub(total));
        let until_end = limits.ends_after.map(|max| max.saturating_sub(count.get()));
        if until_reset == Some(0) {
            return Err(Broken::Fault);
        }
        if until_end == Some(0) || !inflow.fill(source).await.map_err(|_| Broken::Source)? {
            // A sink that is gone says so to the other direction.
            let _ = sink.shutdown_write();
            return Ok(());
        }
        let per_step = limits.bytes_per_second.map(|rate| (rate / STEPS_PER_SECOND).max(1));
        let bytes = inflow.bytes();
        let allowed = [until_reset, until_end, per_step].into_iter().flatten().min();
        let moved =
            allowed.map_or(bytes.len(), |max| bytes.len().min(usize::try_from(max).unwrap_or(usize::MAX)));
        sink.send_all(&bytes[..moved]).await.map_err(|_| Broken::Sink)?;
        count.set(count.get() + moved as u64);
        counts.last_activity.set(now());
        inflow.consume(moved);
        if let Some(rate) = limits.bytes_per_second {
            let due = began + Duration::from_secs_f64(count.get() as f64 / rate as f64);
            if now() < due {
                sleep_until(due).await;
            }
        }
    }
}

/// How finely a limited direction is cut.
const STEPS_PER_SECOND: u64 = 20;
