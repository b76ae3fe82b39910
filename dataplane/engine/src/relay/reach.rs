//! Reaching an upstream of a relay.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use ringsail_runtime::publish::Current;
use ringsail_runtime::time::sleep;
use ringsail_tables::cluster::Discovery;
use ringsail_tables::subset::Criteria;
use ringsail_tables::tcp_proxy::Backoff;
use ringsail_tables::{ClusterSlot, Tables};
use ringsail_telemetry::{ClusterCounter, ResponseFlag};
use twox_hash::XxHash64;

use super::Fate;
use crate::failure::Failure;
use crate::shard::Shard;
use crate::trail::Trail;
use crate::upstream::{self, HostKey, Outcome, Wish};

/// Where to connect.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) cluster: ClusterSlot,
    /// Where the client wanted to go, for clusters that forward there.
    pub(super) restored: Option<SocketAddr>,
    /// For clusters that balance by hash.
    pub(super) hash: Option<u64>,
    /// What it wants of the endpoint's metadata, where the cluster has subsets.
    pub(super) criteria: Option<Arc<Criteria>>,
    pub(super) attempts_max: u32,
    /// Pauses between attempts.
    pub(super) backoff: Option<Backoff>,
}

/// Connects to an endpoint of the cluster; other endpoints are tried as often as the proxy may.
pub(super) async fn connect(
    shard: &Rc<Shard>,
    tables: impl Fn() -> Current<Tables>,
    target: Target,
    trail: &mut Trail,
) -> Result<upstream::Connection, Fate> {
    let Target { cluster, restored, hash, criteria, attempts_max, backoff } = target;
    let mut tried: Vec<HostKey> = Vec::new();
    loop {
        let (state, choice, lease, dial) = {
            let tables = tables();
            let cluster = tables.cluster_in(cluster).ok_or(Fate::NoCluster)?;
            let state = shard.cluster(&cluster);
            trail.seen.service = Some(shard.telemetry.service(&cluster));
            trail.cluster_stat_name.clear();
            trail.cluster_stat_name.push_str(cluster.cluster.stat_name());
            let destination = match &cluster.cluster.discovery {
                Discovery::OriginalDst { port_override, .. } => restored.map(|mut destination| {
                    destination.set_port(port_override.unwrap_or(destination.port()));
                    destination
                }),
                Discovery::Static
                | Discovery::StrictDns(_)
                | Discovery::LogicalDns(_)
                | Discovery::Eds { .. } => None,
            };
            let wish = Wish {
                destination,
                hash,
                criteria: criteria.as_deref(),
                tried: &tried,
                attempts_max: RETRY_PICKS,
                ..Wish::default()
            };
            let Some(choice) = state.pick(&cluster, wish) else {
                state.stats.add(ClusterCounter::UpstreamCxNoneHealthy, 1);
                trail.flag(ResponseFlag::NoHealthyUpstream);
                return Err(Fate::Unreachable);
            };
            let endpoint = choice.endpoint(cluster.endpoints);
            trail.seen.upstream = endpoint.and_then(|endpoint| shard.telemetry.endpoint(endpoint));
            let lease = shard.lease(&cluster, &state, false);
            let dial = upstream::Dial::to(&tables, &cluster, &state, &choice, upstream::Carries::Tcp, None);
            (state, choice, lease, dial)
        };
        trail.upstream_host = Some(choice.address.clone());
        trail.attempts += 1;
        let allowed = choice.host.may_connect(lease.connections_per_host_max);
        let Some(permit) = allowed.then(|| state.connections.take(lease.connections_max)).flatten() else {
            state.stats.add(ClusterCounter::UpstreamCxOverflow, 1);
            trail.flag(ResponseFlag::UpstreamOverflow);
            return Err(Fate::Unreachable);
        };
        match upstream::open(&state, &choice, &dial, permit).await {
            Ok(upstream) => {
                choice.host.tell(Outcome::Reached);
                // Compat: a relayed connection is one request.
                state.stats.add(ClusterCounter::UpstreamRqTotal, 1);
                trail.upstream_local = upstream.local_address;
                trail.upstream_tls = upstream.stream.tls().cloned();
                trail.upstream_connection = Some(upstream.facts);
                return Ok(upstream);
            }
            Err(failure) => {
                Outcome::of(failure).into_iter().for_each(|outcome| choice.host.tell(outcome));
                failure.row().counter.into_iter().for_each(|counter| state.stats.add(counter, 1));
                if let Failure::ConnectFailure(error) = failure {
                    trail.transport_failure = error.transport_failure_reason();
                }
                tried.push(choice.host.key);
                if trail.attempts >= attempts_max.max(1) {
                    state.stats.add(ClusterCounter::UpstreamCxConnectAttemptsExceeded, 1);
                    // Compat: the order Envoy logs for TCP, also after a single attempt.
                    trail.flag(ResponseFlag::UpstreamConnectionFailure);
                    trail.flag(ResponseFlag::UpstreamRetryLimitExceeded);
                    return Err(Fate::Unreachable);
                }
                if let Some(backoff) = backoff {
                    sleep(backoff.pause(trail.attempts, fastrand::u64(..))).await;
                }
            }
        }
    }
}

/// The hash of a client for clusters that balance by it.
///
/// Compat: Envoy hashes the address as text.
pub(super) fn hash_of(source: Option<SocketAddr>) -> Option<u64> {
    source.map(|source| XxHash64::oneshot(0, source.ip().to_string().as_bytes()))
}

/// Picks that may be spent on finding an endpoint that was not tried yet.
const RETRY_PICKS: u32 = 5;
