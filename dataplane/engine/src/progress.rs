//! How far an exchange has come, and the deadlines that follow from it.
//!
//! Both directions of an exchange run as futures of one task; these cells are what they tell each other.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ringsail_http::{Fields, ResponseHead};
use ringsail_runtime::time::{Sleep, now, sleep_until};
use ringsail_telemetry::{GrpcCounter, GrpcHistogram};

use crate::failure::Failure;
use crate::filters::grpc_stats;
use crate::local_reply::is_grpc;
use crate::telemetry::{GrpcCell, LiveCell};

/// Bytes of an exchange as they were on the wire, heads and framing included; of HTTP/2, which shares its connection and
/// compresses heads, names and values of fields and data.
#[derive(Debug, Default)]
pub struct Wire {
    /// Between the client and us.
    pub downstream: Side,
    /// Between us and the upstream, in all attempts.
    pub upstream: Side,
}

/// Bytes on one side.
#[derive(Debug, Default)]
pub struct Side {
    /// Towards us.
    pub received: Cell<u64>,
    /// From us.
    pub sent: Cell<u64>,
    /// Those of them that were header fields.
    pub fields_received: Cell<u64>,
    /// Those of them that were header fields.
    pub fields_sent: Cell<u64>,
}

/// Adds to a count.
pub fn count(cell: &Cell<u64>, bytes: usize) {
    cell.set(cell.get() + bytes as u64);
}

/// Facts of one exchange as they become true.
#[derive(Debug)]
pub struct Progress {
    /// When the request's head was complete.
    pub started: Instant,
    /// When the request was received completely.
    pub request_complete: Cell<Option<Instant>>,
    /// When the last byte of the request had been sent upstream.
    pub request_sent: Cell<Option<Instant>>,
    /// A part of the request of this attempt reached the upstream's socket.
    pub request_written: Cell<bool>,
    /// A part of the request's body is gone: it cannot be sent again.
    pub body_lost: Cell<bool>,
    /// When the first byte of the request went upstream.
    pub request_begun: Cell<Option<Instant>>,
    /// When the upstream's answer was complete.
    pub answer_complete: Cell<Option<Instant>>,
    /// When the first byte of an answer went to the client.
    pub response_begun: Cell<Option<Instant>>,
    /// When the first byte of the upstream's final answer came.
    pub answer_began: Cell<Option<Instant>>,
    /// The client has got a part of an answer.
    pub response_started: Cell<bool>,
    /// The protocol was switched: both directions are raw bytes.
    pub upgraded: Cell<bool>,
    /// Body bytes from the client.
    pub bytes_received: Cell<u64>,
    /// Body bytes to the client.
    pub bytes_sent: Cell<u64>,
    /// When bytes last moved in either direction.
    pub last_activity: Cell<Instant>,
    /// Bytes as they were on the wire.
    pub wire: Wire,
    /// When the last attempt began.
    pub attempt_began: Cell<Option<Instant>>,
    /// When it had a connection, or there was none for it.
    pub pool_ready: Cell<Option<Instant>>,
    /// When the first byte of the answer's body came.
    pub answer_body_began: Cell<Option<Instant>>,
    /// The trailers of the answer are shown somewhere: they are kept.
    pub keep_trailers: Cell<bool>,
    /// The answer's trailers, where they are kept.
    pub trailers: RefCell<Option<Fields>>,
    /// How a gRPC call ended, by the trailers of its answer.
    pub grpc_status: Cell<Option<u32>>,
    /// Messages of a gRPC call, where they are counted.
    pub grpc: GrpcCell,
    /// The report on them.
    pub live: LiveCell,
    /// Where the gRPC call counts.
    call: OnceCell<grpc_stats::Counted>,
}

impl Progress {
    /// At the end of a request's head.
    pub fn begin(started: Instant) -> Progress {
        Progress {
            started,
            request_complete: Cell::new(None),
            request_sent: Cell::new(None),
            request_written: Cell::new(false),
            body_lost: Cell::new(false),
            answer_began: Cell::new(None),
            request_begun: Cell::new(None),
            answer_complete: Cell::new(None),
            response_begun: Cell::new(None),
            response_started: Cell::new(false),
            upgraded: Cell::new(false),
            bytes_received: Cell::new(0),
            bytes_sent: Cell::new(0),
            last_activity: Cell::new(started),
            wire: Wire::default(),
            attempt_began: Cell::new(None),
            pool_ready: Cell::new(None),
            answer_body_began: Cell::new(None),
            keep_trailers: Cell::new(false),
            trailers: RefCell::new(None),
            grpc_status: Cell::new(None),
            grpc: GrpcCell::new(),
            live: LiveCell::default(),
            call: OnceCell::new(),
        }
    }

    /// Another attempt begins.
    pub fn begin_try(&self) {
        self.request_written.set(false);
        self.request_sent.set(None);
        self.request_begun.set(None);
        self.answer_complete.set(None);
        self.answer_began.set(None);
        self.attempt_began.set(Some(now()));
        self.pool_ready.set(None);
    }

    /// Starts the time that is counted from the request's end anew: what was before does not count.
    pub fn postpone(&self) {
        if self.request_complete.get().is_some() {
            self.request_complete.set(Some(now()));
        }
        self.touch();
    }

    /// Bytes moved.
    pub fn touch(&self) {
        self.last_activity.set(now());
    }

    /// So many bytes of the request came, and `data` went upstream for them.
    pub fn count_received(&self, bytes: usize, data: &[u8]) {
        self.bytes_received.set(self.bytes_received.get() + bytes as u64);
        if let Some(counts) = self.grpc.get() {
            let before = counts.request.messages();
            counts.request.feed(data);
            self.count_messages(GrpcCounter::RequestMessageCount, counts.request.messages() - before);
        }
    }

    /// So many bytes of the answer went to the client for `data` of the upstream.
    pub fn count_sent(&self, bytes: usize, data: &[u8]) {
        self.bytes_sent.set(self.bytes_sent.get() + bytes as u64);
        if let Some(counts) = self.grpc.get() {
            let before = counts.response.messages();
            counts.response.feed(data);
            if self.call.get().is_some_and(|call| call.is_answered.get()) {
                self.count_messages(GrpcCounter::ResponseMessageCount, counts.response.messages() - before);
            }
        }
    }

    /// It is a gRPC call that counts there.
    pub fn count_call(&self, counted: Option<grpc_stats::Counted>) {
        if let Some(counted) = counted {
            // Both are set once: a filter runs once, and the other may have begun before.
            let _ = self.call.set(counted);
            let _ = self.grpc.set(Rc::default());
        }
    }

    fn count_messages(&self, counter: GrpcCounter, count: u64) {
        if let Some(call) = self.call.get().filter(|_| count > 0) {
            call.stats.add(counter, count);
        }
    }

    /// The head of the gRPC call's answer is there.
    pub fn note_answer(&self, head: &ResponseHead) {
        if let Some(call) = self.call.get() {
            let grpc = head.status() == 200 && is_grpc(head.fields().get("content-type"));
            call.is_answered.set(grpc);
            self.note_status(head.fields().get("grpc-status"));
        }
    }

    /// The gRPC call has ended, if this is a status.
    fn note_status(&self, status: Option<&[u8]>) {
        let Some((call, status)) = self.call.get().zip(status) else { return };
        call.stats.count_status_of_call(status);
        if call.upstream_time
            && let Some(sent) = self.request_sent.get().filter(|_| self.answer_began.get().is_some())
        {
            let time = now().saturating_duration_since(sent);
            call.stats.record(GrpcHistogram::UpstreamRqTime, time.as_millis() as u64);
        }
    }

    /// The answer is complete, with these trailers.
    pub fn note_trailers(&self, trailers: Option<&Fields>) {
        let status = trailers.and_then(|trailers| trailers.get("grpc-status"));
        self.note_status(status);
        let status = status.and_then(|status| std::str::from_utf8(status).ok()?.trim().parse().ok());
        self.grpc_status.set(status);
        if self.keep_trailers.get() {
            *self.trailers.borrow_mut() = trailers.cloned();
        }
    }

    /// The request is complete, unless it was before.
    pub fn complete_request(&self) {
        if self.request_complete.get().is_none() {
            self.request_complete.set(Some(now()));
        }
    }
}

/// Time limits of an exchange; `None` means no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Nothing moves in either direction.
    pub stream_idle: Option<Duration>,
    /// From the head to the end.
    pub duration: Option<Duration>,
    /// From the head to the end of the request.
    pub request: Option<Duration>,
    /// From the end of the request to the end of the answer.
    pub route: Option<Duration>,
    /// From the end of the request, or the begin of this try, to the answer's head.
    pub per_try: Option<Duration>,
    /// Nothing moves during a try, before the answer's head.
    pub per_try_idle: Option<Duration>,
    /// From the begin of a try to the end.
    pub upstream_duration: Option<Duration>,
}

/// Watches the limits of an exchange with at most one timer, which is set only when there is a limit.
#[derive(Debug)]
pub struct Deadlines {
    limits: Limits,
    /// Between tries there is none to be late.
    try_began: Option<Instant>,
    timer: Option<Sleep>,
}

impl Deadlines {
    /// For an exchange with these limits.
    pub fn new(limits: Limits) -> Deadlines {
        Deadlines { limits, try_began: None, timer: None }
    }

    /// The limits, to change them between phases.
    pub fn limits_mut(&mut self) -> &mut Limits {
        &mut self.limits
    }

    /// Another try begins.
    pub fn begin_try(&mut self) {
        self.try_began = Some(now());
    }

    /// The try is over.
    pub fn end_try(&mut self) {
        self.try_began = None;
    }

    /// Ready with the limit that was passed.
    pub fn poll_passed(&mut self, progress: &Progress, cx: &mut Context<'_>) -> Poll<Failure> {
        loop {
            let Some((deadline, failure)) = self.next(progress) else { return Poll::Pending };
            if now() >= deadline {
                return Poll::Ready(failure);
            }
            // A timer set for an earlier time is left alone: it wakes, and the true deadline is looked up then. So
            // moving bytes do not touch the timer wheel.
            match &mut self.timer {
                Some(timer) if timer.deadline() <= deadline => {}
                Some(timer) => timer.reset(deadline),
                None => self.timer = Some(sleep_until(deadline)),
            }
            if let Some(timer) = &mut self.timer {
                match Pin::new(timer).poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(()) => self.timer = None,
                }
            }
        }
    }

    fn next(&self, progress: &Progress) -> Option<(Instant, Failure)> {
        let limits = &self.limits;
        let activity = progress.last_activity.get();
        let complete = progress.request_complete.get();
        let unanswered = self.try_began.filter(|_| !progress.response_started.get());
        let from = |begin: Option<Instant>, limit: Option<Duration>| begin.zip(limit).map(|(b, l)| b + l);
        let only = |condition: bool, begin: Instant| condition.then_some(begin);
        let candidates = [
            (from(Some(activity), limits.stream_idle), Failure::StreamIdle),
            (from(Some(progress.started), limits.duration), Failure::MaxDuration),
            (from(only(complete.is_none(), progress.started), limits.request), Failure::RequestTimeout),
            (from(complete, limits.route), Failure::RouteTimeout),
            (
                from(unanswered.and_then(|began| Some(complete?.max(began))), limits.per_try),
                Failure::PerTryTimeout,
            ),
            (
                from(unanswered.map(|began| activity.max(began)), limits.per_try_idle),
                Failure::PerTryIdleTimeout,
            ),
            (from(self.try_began, limits.upstream_duration), Failure::UpstreamMaxDuration),
        ];
        candidates
            .into_iter()
            .filter_map(|(deadline, failure)| deadline.map(|at| (at, failure)))
            .min_by_key(|(at, _)| *at)
    }
}
