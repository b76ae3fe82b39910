//! Connections and gRPC streams that are reported while they last.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use ringsail_telemetry::istio::{IstioMetric, Series};

use crate::relay::Counts;

/// How often series are looked through for unused ones.
const EXPIRY_LOOK: Duration = Duration::from_secs(60);

/// Messages of one gRPC stream.
#[derive(Debug, Default)]
pub struct GrpcCounts {
    /// From the client.
    pub request: Frames,
    /// To the client.
    pub response: Frames,
}

/// Counts the messages in one direction of a gRPC body. Source: gRPC over HTTP/2, "Length-Prefixed-Message".
#[derive(Debug, Default)]
pub struct Frames {
    messages: Cell<u64>,
    /// Bytes of the current message that are still to come.
    left: Cell<u64>,
    /// The prefix as far as it came: how many bytes of it, and the length in them.
    prefix: Cell<(u8, u32)>,
}

impl Frames {
    /// Messages whose prefix has come.
    pub fn messages(&self) -> u64 {
        self.messages.get()
    }

    /// The next bytes of the body.
    pub fn feed(&self, mut bytes: &[u8]) {
        const PREFIX_LEN: u8 = 5;
        while let Some((first, rest)) = bytes.split_first() {
            let left = self.left.get();
            if left > 0 {
                let skipped = left.min(bytes.len() as u64);
                self.left.set(left - skipped);
                bytes = bytes.get(skipped as usize..).unwrap_or_default();
                continue;
            }
            let (seen, length) = self.prefix.get();
            // The first byte says whether the message is compressed.
            let length = if seen == 0 { 0 } else { length << 8 | u32::from(*first) };
            if seen + 1 == PREFIX_LEN {
                self.messages.set(self.messages.get() + 1);
                self.left.set(length.into());
                self.prefix.set((0, 0));
            } else {
                self.prefix.set((seen + 1, length));
            }
            bytes = rest;
        }
    }
}

/// What is counted of something that lasts.
#[derive(Debug)]
enum Counted {
    Tcp(Rc<Counts>),
    Grpc(Rc<GrpcCounts>),
}

/// Something that lasts, and what was reported of it.
#[derive(Debug)]
pub struct Live {
    series: Rc<[Series]>,
    counted: Counted,
    reported: Cell<[u64; 2]>,
    interval: Duration,
    next: Cell<Instant>,
}

impl Live {
    fn metrics(&self) -> ([IstioMetric; 2], [u64; 2]) {
        match &self.counted {
            Counted::Tcp(counts) => {
                ([IstioMetric::TcpSent, IstioMetric::TcpReceived], [counts.down.get(), counts.up.get()])
            }
            Counted::Grpc(counts) => (
                [IstioMetric::RequestMessages, IstioMetric::ResponseMessages],
                [counts.request.messages(), counts.response.messages()],
            ),
        }
    }

    /// Counts what came since the last report.
    fn report(&self) {
        let (metrics, now) = self.metrics();
        let before = self.reported.replace(now);
        for series in self.series.iter() {
            for ((metric, now), before) in metrics.into_iter().zip(now).zip(before) {
                series.add(metric, now.wrapping_sub(before));
            }
        }
    }

    /// The last report of a connection.
    pub fn close(&self) {
        self.report();
        self.series.iter().for_each(|series| series.add(IstioMetric::TcpClosed, 1));
    }

    /// The last report of a stream.
    pub fn finish(&self) {
        self.report();
    }
}

/// All that lasts on this shard.
#[derive(Default)]
pub(super) struct LiveSet {
    all: RefCell<Vec<Weak<Live>>>,
    looked: Cell<Option<Instant>>,
}

impl LiveSet {
    pub(super) fn tcp(
        &self,
        series: Rc<[Series]>,
        counts: Rc<Counts>,
        interval: Option<Duration>,
        now: Instant,
    ) -> Rc<Live> {
        self.add(series, Counted::Tcp(counts), interval, now)
    }

    pub(super) fn grpc(
        &self,
        series: Rc<[Series]>,
        counts: Rc<GrpcCounts>,
        interval: Option<Duration>,
        now: Instant,
    ) -> Rc<Live> {
        self.add(series, Counted::Grpc(counts), interval, now)
    }

    fn add(
        &self,
        series: Rc<[Series]>,
        counted: Counted,
        interval: Option<Duration>,
        now: Instant,
    ) -> Rc<Live> {
        let next = now + interval.unwrap_or_default();
        let live = Rc::new(Live {
            series,
            counted,
            reported: Cell::default(),
            interval: interval.unwrap_or_default(),
            next: Cell::new(next),
        });
        if interval.is_some() {
            self.all.borrow_mut().push(Rc::downgrade(&live));
        }
        live
    }

    /// Reports on those whose time has come, and forgets those that have ended.
    pub(super) fn report(&self, now: Instant) {
        self.all.borrow_mut().retain(|live| {
            let Some(live) = live.upgrade() else { return false };
            if now >= live.next.get() {
                live.report();
                live.next.set(now + live.interval);
            }
            true
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.borrow().is_empty()
    }

    /// Whether it is time to look for series that are not used.
    pub(super) fn minute_passed(&self, now: Instant) -> bool {
        let passed =
            self.looked.get().is_none_or(|looked| now.saturating_duration_since(looked) >= EXPIRY_LOOK);
        if passed {
            self.looked.set(Some(now));
        }
        passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_the_bytes_are_split() {
        let body = [&[0, 0, 0, 0, 3][..], b"abc", &[1, 0, 0, 0, 0], &[0, 0, 0, 1, 0], &[7; 256]].concat();
        for step in 1..body.len() {
            let frames = Frames::default();
            body.chunks(step).for_each(|part| frames.feed(part));
            assert_eq!(frames.messages(), 3, "in parts of {step}");
            assert_eq!(frames.left.get(), 0);
        }
    }
}
