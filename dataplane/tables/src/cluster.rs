//! Clusters: how endpoints are found, chosen and connected to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::balancing::LoadBalancing;
use crate::endpoint::Endpoints;
use crate::health_check::HealthCheck;
use crate::http2::Http2Settings;
use crate::ids::ClusterId;
use crate::live::{InARow, Live};
use crate::metadata::Metadata;
use crate::strings::Str;
use crate::tables::Tables;
use crate::tls::Transports;

/// A published cluster: its settings and its endpoints, which change independently.
#[derive(Clone, Debug)]
pub struct ClusterEntry {
    /// Its id.
    pub id: ClusterId,
    /// Its settings.
    pub cluster: Arc<Cluster>,
    /// Its endpoints; empty for [`Discovery::OriginalDst`].
    pub endpoints: Arc<Endpoints>,
    /// What is found out while it serves.
    pub live: Arc<Live>,
}

/// A cluster's settings. Source: `envoy.config.cluster.v3.Cluster`.
#[derive(Clone, PartialEq, Debug)]
pub struct Cluster {
    /// Its name.
    pub name: Str,
    /// Name in statistics and in `%UPSTREAM_CLUSTER%`, when it differs.
    pub alt_stat_name: Option<Str>,
    /// How endpoints are found.
    pub discovery: Discovery,
    /// How an endpoint is chosen.
    pub balancing: LoadBalancing,
    /// Breakers of priority DEFAULT.
    pub breakers: Breakers,
    /// Breakers of priority HIGH.
    pub breakers_high: Breakers,
    /// Settings that live in connections: when they change, pools start afresh. Shared by clusters that have the same.
    pub connection: Arc<ConnectionSettings>,
    /// Bound of one upstream stream's life (`max_stream_duration`).
    pub stream_duration_max: Option<Duration>,
    /// Active checks of endpoints.
    pub health_check: Option<Arc<HealthCheck>>,
    /// Ejection of failing endpoints.
    pub outlier_detection: Option<Arc<OutlierDetection>>,
    /// Metadata.
    pub metadata: Option<Arc<Metadata>>,
}

impl Cluster {
    /// The name in statistics.
    pub fn stat_name(&self) -> &str {
        self.alt_stat_name.as_ref().unwrap_or(&self.name)
    }
}

/// How the endpoints of a cluster are found. Source: `Cluster.DiscoveryType`.
#[derive(Clone, PartialEq, Debug)]
pub enum Discovery {
    /// `load_assignment` as it stands.
    Static,
    /// Every address every host name of `load_assignment` resolves to.
    StrictDns(Arc<DnsSettings>),
    /// One host name; a connection goes to its first address at that time.
    LogicalDns(Arc<DnsSettings>),
    /// Assigned by EDS under this name.
    Eds {
        /// `service_name`, or the cluster's name.
        service_name: Str,
    },
    /// The address the client wanted to reach.
    OriginalDst {
        /// Replaces the port.
        port_override: Option<u16>,
        /// Header that names the address instead (`use_http_header`), lower case.
        http_header: Option<Str>,
    },
}

/// How host names are resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DnsSettings {
    /// Which address families.
    pub family: DnsFamily,
    /// Who resolves them.
    pub resolver: DnsResolver,
    /// Interval between resolutions. Default 5 s.
    pub refresh_rate: Duration,
    /// First and last bound of the pause after a failed one, which is drawn below it and doubles; `None` leaves it to
    /// [`Self::refresh_rate`].
    pub failure_refresh: Option<(Duration, Duration)>,
    /// Random addition to the interval.
    pub jitter: Duration,
    /// Whether records' lifetimes replace the interval.
    pub respect_ttl: bool,
}

/// Who resolves host names. Source: `Cluster.typed_dns_resolver_config` and the older fields it replaces.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum DnsResolver {
    /// The system: `getaddrinfo`, which knows no lifetimes.
    System,
    /// Name servers, asked by ourselves as c-ares does.
    Servers(Arc<DnsServers>),
}

/// Name servers and how they are asked. Source: `CaresDnsResolverConfig`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct DnsServers {
    /// Where they are; none means those of `/etc/resolv.conf`.
    pub addresses: Box<[SocketAddr]>,
    /// [`Self::addresses`] are asked only where `/etc/resolv.conf` has none.
    pub as_fallback: bool,
    /// Over TCP from the start.
    pub tcp: bool,
    /// Whether search domains are appended to short names.
    pub search: bool,
    /// Whether questions begin with any of the servers instead of the first.
    pub rotate: bool,
    /// How long one server is waited for. Default 5 s, or what `/etc/resolv.conf` says.
    pub timeout: Option<Duration>,
    /// How often all are asked. Default 4, or what `/etc/resolv.conf` says.
    pub attempts: Option<u32>,
}

/// Source: `Cluster.DnsLookupFamily`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum DnsFamily {
    /// IPv6, else IPv4.
    Auto,
    /// IPv4.
    V4Only,
    /// IPv6.
    V6Only,
    /// IPv4, else IPv6.
    V4Preferred,
    /// Both.
    All,
}

/// Limits of one priority. Source: `CircuitBreakers.Thresholds`; defaults 1024, 1024, 1024, 3.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Breakers {
    /// Most connections.
    pub connections_max: u32,
    /// Most connections to one endpoint. Source: `CircuitBreakers.per_host_thresholds`; default no limit.
    pub connections_per_host_max: u32,
    /// Most requests waiting for a connection.
    pub pending_max: u32,
    /// Most requests in flight.
    pub requests_max: u32,
    /// Most retries in flight.
    pub retries_max: u32,
    /// Replaces `retries_max` by a share of the requests in flight.
    pub retry_budget: Option<RetryBudget>,
    /// Whether remaining-resource gauges are exported.
    pub track_remaining: bool,
}

/// Source: `CircuitBreakers.Thresholds.RetryBudget`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RetryBudget {
    /// Percent of active requests that may be retries. Default 20.
    pub percent: f64,
    /// Retries that are always allowed. Default 3.
    pub min_concurrency: u32,
}

/// What a pool's connections are made of.
#[derive(Clone, PartialEq, Debug)]
pub struct ConnectionSettings {
    /// Bound of the TCP handshake. Default 5 s.
    pub connect_timeout: Duration,
    /// Protocol spoken upstream.
    pub protocol: UpstreamProtocol,
    /// Settings of connections that speak HTTP/2.
    pub http2: Http2Settings,
    /// Idle time after which a pooled connection is closed; `None` means never. Default 1 h.
    pub idle_timeout: Option<Duration>,
    /// Longest life of a connection.
    pub connection_duration_max: Option<Duration>,
    /// Most requests on one connection; 0 means any number.
    pub requests_per_connection_max: u32,
    /// Most header fields of a response. Default 100.
    pub response_headers_max: u32,
    /// Whether header names are sent as they came (`header_key_format: preserve_case`).
    pub preserve_case: bool,
    /// Source address of connections.
    pub bind: Option<SocketAddr>,
    /// TCP keep-alive.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// What connections are wrapped in, by endpoint.
    pub transports: Arc<Transports>,
    /// Bytes buffered per connection before reading stops. Default 1 MiB.
    pub buffer_bytes_max: u32,
}

/// Protocol towards the upstream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// What the downstream connection speaks.
    FromDownstream,
}

/// Source: `envoy.config.core.v3.TcpKeepalive`; `None` leaves the kernel's setting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpKeepalive {
    /// Unanswered probes before the connection is dead.
    pub probes: Option<u32>,
    /// Idle seconds before the first probe.
    pub time_secs: Option<u32>,
    /// Seconds between probes.
    pub interval_secs: Option<u32>,
}

/// Ejection of failing endpoints. Source: `envoy.config.cluster.v3.OutlierDetection`.
#[derive(Clone, PartialEq, Debug)]
pub struct OutlierDetection {
    /// Consecutive 5xx answers. Default 5.
    pub consecutive_5xx: u32,
    /// Percent chance that it ejects. Default 100.
    pub enforcing_consecutive_5xx: u32,
    /// Consecutive 502, 503, 504. Default 5.
    pub consecutive_gateway_failure: u32,
    /// Percent chance that it ejects. Default 0.
    pub enforcing_consecutive_gateway_failure: u32,
    /// Consecutive failures of our own (connect, timeout), when split. Default 5.
    pub consecutive_local_origin_failure: u32,
    /// Percent chance that it ejects. Default 100.
    pub enforcing_consecutive_local_origin_failure: u32,
    /// Whether local failures are counted apart.
    pub split_external_local_origin_errors: bool,
    /// Time between sweeps. Default 10 s.
    pub interval: Duration,
    /// First ejection time; grows with each further one. Default 30 s.
    pub base_ejection_time: Duration,
    /// Longest ejection time. Default 300 s.
    pub max_ejection_time: Duration,
    /// Most percent of endpoints ejected at a time. Default 10.
    pub max_ejection_percent: u32,
    /// Percent chance that success-rate statistics eject. Default 100.
    pub enforcing_success_rate: u32,
    /// Hosts needed for success-rate statistics. Default 5.
    pub success_rate_minimum_hosts: u32,
    /// Requests a host needs in an interval to take part. Default 100.
    pub success_rate_request_volume: u32,
    /// Standard deviations below the mean, times 1000. Default 1900.
    pub success_rate_stdev_factor: u32,
    /// As [`OutlierDetection::enforcing_success_rate`], of local-origin results. Default 100.
    pub enforcing_local_origin_success_rate: u32,
    /// Percent of failures from which on an endpoint is ejected. Default 85.
    pub failure_percentage_threshold: u32,
    /// Percent chance that it ejects. Default 0.
    pub enforcing_failure_percentage: u32,
    /// The same of local-origin results. Default 0.
    pub enforcing_failure_percentage_local_origin: u32,
    /// Hosts needed for the failure percentage. Default 5.
    pub failure_percentage_minimum_hosts: u32,
    /// Requests a host needs in an interval to take part. Default 50.
    pub failure_percentage_request_volume: u32,
    /// Longest random addition to an ejection. Default 0.
    pub max_ejection_time_jitter: Duration,
    /// One endpoint may be ejected even when that is more than `max_ejection_percent`.
    pub always_eject_one_host: bool,
    /// A passed active check ends an ejection. Default true.
    pub uneject_after_check: bool,
}

impl OutlierDetection {
    /// Failures in a row that a rule allows.
    pub fn in_a_row(&self, rule: InARow) -> u32 {
        match rule {
            InARow::Answer5xx => self.consecutive_5xx,
            InARow::Gateway => self.consecutive_gateway_failure,
            InARow::LocalOrigin => self.consecutive_local_origin_failure,
        }
    }
}

/// A published cluster looked up in one version.
#[derive(Clone, Copy, Debug)]
pub struct ClusterRef<'t> {
    /// Its id, for pools, counters and in-flight counts.
    pub id: ClusterId,
    /// Its settings.
    pub cluster: &'t Arc<Cluster>,
    /// Its endpoints.
    pub endpoints: &'t Arc<Endpoints>,
    /// What is found out while it serves.
    pub live: &'t Arc<Live>,
    /// The version it was looked up in.
    pub tables: &'t Tables,
}
