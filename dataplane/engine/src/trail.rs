//! What happened to one exchange or connection, collected for counters and the access log.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use ringsail_http::Version;
use ringsail_runtime::net::Address;
use ringsail_tables::ClusterId;
use ringsail_tables::cluster::Cluster;
use ringsail_tables::route::RouteMatch;
use ringsail_telemetry::trace::Reason;
use ringsail_telemetry::{ResponseFlag, ResponseFlags};

use crate::telemetry::Seen;
use crate::tls::Facts;
use crate::trace::ActiveSpan;
use crate::upstream::UpstreamConnection;

/// The facts, as they become known.
#[derive(Clone, Debug)]
pub struct Trail {
    /// When it began.
    pub start: SystemTime,
    /// Status sent to the client; 0 when no answer was started.
    pub status: u16,
    /// `RESPONSE_CODE_DETAILS`.
    pub details: Cow<'static, str>,
    /// `CONNECTION_TERMINATION_DETAILS`: why we ended a relayed connection.
    pub termination: Cow<'static, str>,
    /// Response flags in the order they were set.
    pub flags: ResponseFlags,
    /// Name of the route.
    pub route_name: String,
    /// Name of the cluster; empty when no route was found.
    pub cluster_name: String,
    /// The cluster's name in statistics.
    pub cluster_stat_name: String,
    /// Where the last attempt went.
    pub upstream_host: Option<Address>,
    /// Our end of the upstream connection.
    pub upstream_local: Option<SocketAddr>,
    /// The upstream connection.
    pub upstream_connection: Option<UpstreamConnection>,
    /// What the upstream connection speaks.
    pub upstream_version: Option<Version>,
    /// The upstream connection's TLS session.
    pub upstream_tls: Option<Rc<Facts>>,
    /// Why the upstream connection failed.
    pub transport_failure: Cow<'static, str>,
    /// How often the request was sent upstream, or tried to.
    pub attempts: u32,
    /// Peers and service, for Istio's metrics.
    pub seen: Seen,
    /// The cluster that was chosen.
    pub cluster: Option<ClusterId>,
    /// Why the request is traced.
    pub trace_reason: Reason,
    /// Its span.
    pub span: Option<Box<ActiveSpan>>,
    /// The answer tells the operation's name.
    pub tells_operation: bool,
}

impl Default for Trail {
    fn default() -> Trail {
        Trail {
            start: UNIX_EPOCH,
            status: 0,
            details: Cow::Borrowed(""),
            termination: Cow::Borrowed(""),
            flags: ResponseFlags::new(),
            route_name: String::new(),
            cluster_name: String::new(),
            cluster_stat_name: String::new(),
            upstream_host: None,
            upstream_local: None,
            upstream_connection: None,
            upstream_version: None,
            upstream_tls: None,
            transport_failure: Cow::Borrowed(""),
            attempts: 0,
            seen: Seen::default(),
            cluster: None,
            trace_reason: Reason::NotTraceable,
            span: None,
            tells_operation: false,
        }
    }
}

impl Trail {
    /// Forgets what happened and begins anew, in the same memory.
    pub fn restart(&mut self, start: SystemTime) {
        self.start = start;
        self.status = 0;
        self.details = Cow::Borrowed("");
        self.termination = Cow::Borrowed("");
        self.flags = ResponseFlags::new();
        self.route_name.clear();
        self.cluster_name.clear();
        self.cluster_stat_name.clear();
        self.upstream_host = None;
        self.upstream_local = None;
        self.upstream_connection = None;
        self.upstream_version = None;
        self.upstream_tls = None;
        self.transport_failure = Cow::Borrowed("");
        self.attempts = 0;
        self.seen = Seen::default();
        self.cluster = None;
        self.trace_reason = Reason::NotTraceable;
        self.span = None;
        self.tells_operation = false;
    }

    /// Sets a flag.
    pub fn flag(&mut self, flag: ResponseFlag) {
        self.flags.insert(flag);
    }

    /// A route was found.
    pub fn set_route(&mut self, found: &RouteMatch<'_>) {
        self.route_name.push_str(&found.route.name);
    }

    /// Its cluster was found.
    pub fn set_cluster(&mut self, cluster: &Cluster) {
        self.cluster_name.push_str(&cluster.name);
        self.cluster_stat_name.push_str(cluster.stat_name());
    }

    /// An upstream was reached before it was clear for whom.
    pub fn adopt_upstream(&mut self, reached: Trail) {
        self.cluster_stat_name = reached.cluster_stat_name;
        self.upstream_host = reached.upstream_host;
        self.upstream_local = reached.upstream_local;
        self.upstream_tls = reached.upstream_tls;
        self.upstream_connection = reached.upstream_connection;
        self.attempts = reached.attempts;
        self.seen = reached.seen;
    }

    /// A relay is meant for this cluster, whether it exists or not.
    pub fn set_cluster_name(&mut self, name: &str) {
        self.cluster_name.push_str(name);
        self.cluster_stat_name.push_str(name);
    }
}
