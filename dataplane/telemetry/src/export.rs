//! Batches of access-log entries and spans on their way to a collector.
//!
//! The writer thread encodes and collects; whoever holds the [`Batches`] sends. The queue between them is bounded:
//! what does not fit is dropped and counted, so that a collector that is gone costs neither memory nor a request.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::limits::EXPORT_QUEUE_BYTES_MAX;

/// Where batches go. The holder of the [`Batches`] knows what the cluster's name stands for.
#[derive(Debug, PartialEq, Eq)]
pub struct Destination {
    /// Name of the cluster.
    pub cluster: String,
    /// How it is called.
    pub call: Call,
    /// Headers of each call, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Bound of one call, when configured.
    pub timeout: Option<Duration>,
}

/// How a collector is called.
#[derive(Debug, PartialEq, Eq)]
pub enum Call {
    /// One unary gRPC call for each batch.
    GrpcUnary {
        /// `:authority`.
        authority: String,
        /// `/package.Service/Method`.
        method: &'static str,
    },
    /// The batches are messages of one gRPC stream; the first one of a stream tells who sends it.
    /// Source: `envoy.service.accesslog.v3.StreamAccessLogsMessage.Identifier`.
    AccessLogStream {
        /// `:authority`.
        authority: String,
        /// Name of the log.
        log_name: String,
    },
    /// One HTTP/1.1 POST for each batch.
    HttpPost {
        /// `host`.
        host: String,
        /// Path with query.
        path: String,
        /// `content-type`.
        content_type: &'static str,
    },
}

/// What a batch holds; statistics are kept by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Entries for an access-log service.
    GrpcLogs,
    /// OTLP log records.
    OpenTelemetryLogs,
    /// Zipkin spans.
    ZipkinSpans,
    /// OTLP spans.
    OpenTelemetrySpans,
}

impl Content {
    /// All of them.
    pub const ALL: [Content; 4] =
        [Content::GrpcLogs, Content::OpenTelemetryLogs, Content::ZipkinSpans, Content::OpenTelemetrySpans];
}

/// Encoded entries for one call.
#[derive(Debug)]
pub struct Batch {
    /// Where to.
    pub destination: Arc<Destination>,
    /// What of.
    pub content: Content,
    /// How many entries.
    pub items: u64,
    /// The encoded message.
    pub body: Vec<u8>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Entries that did not fit, by [`Content`].
    dropped: [AtomicU64; Content::ALL.len()],
}

#[derive(Debug, Default)]
struct Queue {
    batches: VecDeque<Batch>,
    bytes: usize,
    waker: Option<Waker>,
    /// One of the ends is gone.
    closed: bool,
}

/// The collecting end.
#[derive(Debug)]
pub struct Exports {
    shared: Arc<Shared>,
}

/// The sending end.
#[derive(Debug)]
pub struct Batches {
    shared: Arc<Shared>,
}

/// A queue of at most [`EXPORT_QUEUE_BYTES_MAX`] bytes.
pub fn queue() -> (Exports, Batches) {
    let shared = Arc::<Shared>::default();
    (Exports { shared: shared.clone() }, Batches { shared })
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count_dropped(&self, content: Content, items: u64) {
        if let Some(count) = self.dropped.get(content as usize) {
            count.fetch_add(items, Relaxed);
        }
    }
}

impl Exports {
    /// Hands a batch over. One that does not fit is dropped and counted.
    pub fn send(&self, batch: Batch) {
        let mut queue = self.shared.lock();
        if queue.closed || queue.bytes + batch.body.len() > EXPORT_QUEUE_BYTES_MAX {
            drop(queue);
            self.shared.count_dropped(batch.content, batch.items);
            return;
        }
        queue.bytes += batch.body.len();
        queue.batches.push_back(batch);
        if let Some(waker) = queue.waker.take() {
            drop(queue);
            waker.wake();
        }
    }
}

impl Drop for Exports {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.closed = true;
        if let Some(waker) = queue.waker.take() {
            waker.wake();
        }
    }
}

impl Batches {
    /// The next batch; `None` when there will be no more.
    pub async fn next(&mut self) -> Option<Batch> {
        poll_fn(|cx| {
            let mut queue = self.shared.lock();
            match queue.batches.pop_front() {
                Some(batch) => {
                    queue.bytes -= batch.body.len();
                    Poll::Ready(Some(batch))
                }
                None if queue.closed => Poll::Ready(None),
                None => {
                    queue.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// A count of entries that did not fit into the queue, which outlives this end.
    pub fn dropped(&self) -> Dropped {
        Dropped { shared: self.shared.clone() }
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.closed = true;
        queue.batches.clear();
    }
}

/// Entries that did not fit into the queue.
#[derive(Clone, Debug)]
pub struct Dropped {
    shared: Arc<Shared>,
}

impl Dropped {
    /// Since the start.
    pub fn count(&self, content: Content) -> u64 {
        self.shared.dropped.get(content as usize).map_or(0, |count| count.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(bytes: usize) -> Batch {
        let call = Call::HttpPost { host: "c".into(), path: "/".into(), content_type: "application/json" };
        let destination = Destination { cluster: "c".into(), call, headers: vec![], timeout: None };
        Batch {
            destination: Arc::new(destination),
            content: Content::ZipkinSpans,
            items: 3,
            body: vec![0; bytes],
        }
    }

    fn poll_next(batches: &mut Batches) -> Poll<Option<usize>> {
        let mut next = std::pin::pin!(batches.next());
        let mut cx = std::task::Context::from_waker(Waker::noop());
        std::future::Future::poll(next.as_mut(), &mut cx).map(|batch| batch.map(|batch| batch.body.len()))
    }

    #[test]
    fn batches_arrive_in_order_and_the_end_is_told() {
        let (exports, mut batches) = queue();
        assert_eq!(poll_next(&mut batches), Poll::Pending);
        exports.send(batch(1));
        exports.send(batch(2));
        drop(exports);
        assert_eq!(poll_next(&mut batches), Poll::Ready(Some(1)));
        assert_eq!(poll_next(&mut batches), Poll::Ready(Some(2)));
        assert_eq!(poll_next(&mut batches), Poll::Ready(None));
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let (exports, mut batches) = queue();
        let dropped = batches.dropped();
        exports.send(batch(EXPORT_QUEUE_BYTES_MAX));
        exports.send(batch(1));
        assert_eq!((dropped.count(Content::ZipkinSpans), dropped.count(Content::GrpcLogs)), (3, 0));
        assert_eq!(poll_next(&mut batches), Poll::Ready(Some(EXPORT_QUEUE_BYTES_MAX)));
        exports.send(batch(1));
        assert_eq!(poll_next(&mut batches), Poll::Ready(Some(1)));
        drop(batches);
        exports.send(batch(1));
        assert_eq!(dropped.count(Content::ZipkinSpans), 6);
    }
}
