//! Pings of ours that show whether the peer of a connection is alive. Source: `KeepaliveSettings`.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ::h2::{Ping, PingPong};
use ringsail_runtime::time::{Sleep, now, sleep_until};
use ringsail_tables::http2::Http2Keepalive;

/// The pings of one connection.
pub(super) struct Keepalive {
    settings: Http2Keepalive,
    pings: PingPong,
    state: State,
    timer: Option<Sleep>,
}

#[derive(Clone, Copy)]
enum State {
    /// The next ping is due then; `None` when only an idle connection is pinged.
    Quiet(Option<Instant>),
    /// A ping must be answered until then.
    Asked(Instant),
}

impl Keepalive {
    /// `pings` is `None` for a connection whose pings were given away before.
    pub(super) fn new(settings: Option<Http2Keepalive>, pings: Option<PingPong>) -> Option<Keepalive> {
        let (settings, pings) = settings.zip(pings)?;
        let state = State::Quiet(next_ping(&settings));
        Some(Keepalive { settings, pings, state, timer: None })
    }

    /// A stream begins on a connection that had no news for `idle`: ask first whether the peer is there.
    pub(super) fn stream_begins_after(&mut self, idle: Duration) {
        let due = self.settings.idle_interval.is_some_and(|limit| idle >= limit);
        if due && matches!(self.state, State::Quiet(_)) {
            self.ask();
        }
    }

    fn ask(&mut self) {
        // It fails only while an earlier ping is not answered, and then that one's deadline counts.
        let _ = self.pings.send_ping(Ping::opaque());
        self.state = State::Asked(now() + self.settings.timeout);
    }

    /// Ready when the peer has not answered in time.
    pub(super) fn poll_dead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let deadline = match self.state {
                State::Quiet(None) => return Poll::Pending,
                State::Quiet(Some(due)) if now() >= due => {
                    self.ask();
                    continue;
                }
                State::Quiet(Some(due)) => due,
                State::Asked(deadline) => match self.pings.poll_pong(cx) {
                    Poll::Ready(Ok(_)) => {
                        self.state = State::Quiet(next_ping(&self.settings));
                        continue;
                    }
                    // The connection has ended, and says so itself.
                    Poll::Ready(Err(_)) => return Poll::Pending,
                    Poll::Pending if now() >= deadline => return Poll::Ready(()),
                    Poll::Pending => deadline,
                },
            };
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
}

/// The interval and its jitter.
fn next_ping(settings: &Http2Keepalive) -> Option<Instant> {
    let interval = settings.interval?;
    let most = interval.as_millis() as f64 * settings.jitter_percent / 100.0;
    let jitter = Duration::from_millis((most * fastrand::f64()) as u64);
    Some(now() + interval + jitter)
}
