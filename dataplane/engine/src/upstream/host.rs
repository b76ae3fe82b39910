//! One endpoint on one shard: its pool's counts, and what is told about it.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use ringsail_http::Fields;
use ringsail_runtime::local::Notify;
use ringsail_runtime::mailbox::MailboxSender;
use ringsail_runtime::time::now;
use ringsail_tables::cluster::OutlierDetection;
use ringsail_tables::ids::{ClusterId, EndpointId};
use ringsail_tables::live::{HealthFlags, HostCount, HostLive, InARow, ShardCells};

use super::health::UNWELL_AT_ONCE;
use super::pool::Connection;
use crate::failure::Failure;
use crate::http2;

/// What names a host within its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HostKey {
    /// An endpoint of the tables.
    Endpoint(EndpointId),
    /// An address taken from the request's connection
    /// ([`ringsail_tables::cluster::Discovery::OriginalDst`]).
    Address(SocketAddr),
}

/// One endpoint on one shard.
pub struct Host {
    /// Its name.
    pub key: HostKey,
    /// Requests being answered by it.
    pub in_flight: Cell<u32>,
    /// Connections to it, open or being made.
    pub connections: Cell<u32>,
    /// When it was first seen here, or became healthy again: slow start counts from then.
    pub(super) healthy_since: Cell<Instant>,
    failed_check: Cell<bool>,
    /// Idle connections, the latest used last.
    pub(super) idle: RefCell<Vec<Connection>>,
    /// Tells waiting requests that a connection became idle or closed.
    pub(super) freed: Notify,
    /// Connections that requests share.
    pub(crate) http2: http2::upstream::Pool,
    seat: Rc<Seat>,
    live: RefCell<Option<Arc<HostLive>>>,
    watch: RefCell<Option<Rc<Watch>>>,
    /// Its cluster, when that checks its endpoints.
    checked_by: Cell<Option<ClusterId>>,
}

/// The shard that the state of clusters belongs to.
#[derive(Default)]
pub struct Seat {
    /// Its number, from 0.
    pub shard: u32,
    /// How many there are.
    pub shards: u32,
    /// The way to the judge, once it is known.
    pub reports: std::cell::OnceCell<MailboxSender<Report>>,
    /// Connections of either side so far.
    pub connections: Cell<u64>,
}

impl Seat {
    /// A number for a connection, unique in the process.
    pub fn next_connection_id(&self) -> u64 {
        let next = self.connections.get() + 1;
        self.connections.set(next);
        next * u64::from(self.shards) + u64::from(self.shard)
    }
}

/// News of an endpoint for the judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The cluster.
    pub cluster: ClusterId,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// What it did.
    pub fact: Fact,
}

/// What an endpoint did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// It failed as often in a row as its cluster allows.
    FailedInARow(InARow),
    /// It passed an active check.
    PassedCheck,
    /// It asked in an answer to be left out.
    SaysUnwell,
}

/// What a host's results are held against.
pub(super) struct Watch {
    pub(super) cluster: ClusterId,
    pub(super) detection: Arc<OutlierDetection>,
}

/// What an attempt says of its host. Source: Envoy's `Outlier::Result`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is a connection; more is to come.
    Connected,
    /// There is a connection, and that is all that is asked (TCP).
    Reached,
    /// An answer with this status.
    Answered(u16),
    /// Not connected, or the connection ended before the answer's head.
    Lost,
    /// No answer in time.
    TimedOut,
}

impl Outcome {
    /// What a failed attempt says of its host; `None` when it is not the host's doing.
    pub fn of(failure: Failure) -> Option<Outcome> {
        match failure {
            Failure::ConnectFailure(_)
            | Failure::ConnectTimeout
            | Failure::ConnectionTermination
            | Failure::UpstreamProtocol
            | Failure::RemoteReset
            | Failure::RemoteRefused => Some(Outcome::Lost),
            Failure::RouteTimeout | Failure::PerTryTimeout | Failure::PerTryIdleTimeout => {
                Some(Outcome::TimedOut)
            }
            _ => None,
        }
    }
}

impl Host {
    pub(super) fn new(key: HostKey, seat: Rc<Seat>) -> Host {
        Host {
            key,
            in_flight: Cell::new(0),
            connections: Cell::new(0),
            healthy_since: Cell::new(now()),
            failed_check: Cell::new(false),
            idle: RefCell::default(),
            freed: Notify::new(),
            http2: http2::upstream::Pool::default(),
            seat,
            live: RefCell::default(),
            watch: RefCell::default(),
            checked_by: Cell::new(None),
        }
    }

    /// Takes over what a new version of the tables says of it.
    pub(super) fn follow(
        &self,
        live: Option<Arc<HostLive>>,
        watch: Option<Rc<Watch>>,
        checked_by: Option<ClusterId>,
    ) {
        self.checked_by.set(checked_by);
        *self.live.borrow_mut() = live;
        *self.watch.borrow_mut() = watch;
    }

    /// Notes what active checks say: slow start begins anew when an endpoint passes them again.
    pub(super) fn note_check(&self, failed: bool) {
        if self.failed_check.replace(failed) && !failed {
            self.healthy_since.set(now());
        }
    }

    /// An answer of it came, whatever for: it may ask to be left out, where its cluster checks endpoints.
    pub fn hear(&self, answer: &Fields) {
        if let (Some(cluster), HostKey::Endpoint(endpoint)) = (self.checked_by.get(), self.key)
            && answer.contains(UNWELL_AT_ONCE)
            && let Some(reports) = self.seat.reports.get()
        {
            // A full mailbox counts its refusals; the next answer says so again.
            let _ = reports.try_send(Report { cluster, endpoint, fact: Fact::SaysUnwell });
        }
    }

    /// Adds to one of its counts.
    pub fn count(&self, count: HostCount, n: u64) {
        self.with_cells(|_, cells| cells.add(count, n));
    }

    /// Whether it may get one more connection when it has at most `max` in all shards. Shards that connect in the same
    /// moment do not see each other: there may be one more for each of them.
    pub(crate) fn may_connect(&self, max: u32) -> bool {
        if max == u32::MAX {
            return true;
        }
        let live = self.live.borrow();
        let elsewhere = live.as_ref().map_or(0, |live| live.sum(HostCount::CxActive));
        elsewhere.max(self.connections.get().into()) < u64::from(max)
    }

    /// One connection more or less.
    pub(super) fn set_connections(&self, count: u32) {
        self.connections.set(count);
        self.with_cells(|_, cells| cells.set(HostCount::CxActive, count.into()));
    }

    /// A request begins.
    pub fn begin_request(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
        self.with_cells(|_, cells| {
            cells.add(HostCount::RqTotal, 1);
            cells.set(HostCount::RqActive, self.in_flight.get().into());
        });
    }

    /// A request ends.
    pub fn end_request(&self) {
        self.in_flight.set(self.in_flight.get() - 1);
        self.with_cells(|_, cells| cells.set(HostCount::RqActive, self.in_flight.get().into()));
    }

    /// Tells what became of an attempt: to its counts, and to outlier detection.
    pub fn tell(&self, outcome: Outcome) {
        self.with_cells(|live, cells| {
            match outcome {
                Outcome::Answered(500..) | Outcome::Lost => cells.add(HostCount::RqError, 1),
                Outcome::Answered(_) => cells.add(HostCount::RqSuccess, 1),
                Outcome::TimedOut => {
                    cells.add(HostCount::RqTimeout, 1);
                    cells.add(HostCount::RqError, 1);
                }
                Outcome::Connected | Outcome::Reached => {}
            }
            if let Some(watch) = self.watch.borrow().as_ref() {
                self.observe(watch, live, cells, outcome);
            }
        });
    }

    /// Compat: Envoy's two ways to look at results: errors of reaching the endpoint apart, or as answers 503 and 504.
    fn observe(&self, watch: &Watch, live: &HostLive, cells: &ShardCells, outcome: Outcome) {
        let split = watch.detection.split_external_local_origin_errors;
        match (outcome, split) {
            (Outcome::Answered(status), _) => self.observe_status(watch, live, cells, status),
            (Outcome::Connected, false) => {}
            (Outcome::Reached, false) => self.observe_status(watch, live, cells, 200),
            (Outcome::Lost, false) => self.observe_status(watch, live, cells, 503),
            (Outcome::TimedOut, false) => self.observe_status(watch, live, cells, 504),
            (Outcome::Connected | Outcome::Reached, true) => {
                cells.add(HostCount::LocalResults, 1);
                cells.add(HostCount::GoodLocalResults, 1);
            }
            (Outcome::Lost | Outcome::TimedOut, true) => {
                cells.add(HostCount::LocalResults, 1);
                self.failed(watch, live, cells, InARow::LocalOrigin);
            }
        }
    }

    fn observe_status(&self, watch: &Watch, live: &HostLive, cells: &ShardCells, status: u16) {
        cells.add(HostCount::Results, 1);
        match status {
            502..=504 => {
                self.failed(watch, live, cells, InARow::Gateway);
                self.failed(watch, live, cells, InARow::Answer5xx);
            }
            500..=599 => {
                cells.add(HostCount::OtherErrors, 1);
                self.failed(watch, live, cells, InARow::Answer5xx);
            }
            _ => cells.add(HostCount::GoodResults, 1),
        }
    }

    fn failed(&self, watch: &Watch, live: &HostLive, cells: &ShardCells, rule: InARow) {
        let run = live.extend_run(rule, cells);
        let allowed = watch.detection.in_a_row(rule);
        // 0 switches the rule off. The judge looks again, so that two shards may report the same row.
        if allowed > 0
            && run >= allowed
            && !live.flags().any(HealthFlags::FAILED_OUTLIER_CHECK)
            && let (HostKey::Endpoint(endpoint), Some(reports)) = (self.key, self.seat.reports.get())
        {
            // A full mailbox counts its refusals, and the next row of failures reports again.
            let _ =
                reports.try_send(Report { cluster: watch.cluster, endpoint, fact: Fact::FailedInARow(rule) });
        }
    }

    fn with_cells(&self, change: impl FnOnce(&HostLive, &ShardCells)) {
        if let Some(live) = self.live.borrow().as_ref() {
            change(live, live.cells(self.seat.shard, self.seat.shards));
        }
    }
}
