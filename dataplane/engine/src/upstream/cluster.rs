//! What one shard remembers of a cluster between requests: rotations, pools, and what is in flight.
//!
//! State is keyed by the ids of the tables, so it survives endpoint updates, and is dropped with its generation.
//! It never holds configuration: every use brings the [`ClusterRef`] of its own version.

use std::cell::{OnceCell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use ringsail_runtime::mailbox::MailboxSender;
use ringsail_runtime::time::now;
use ringsail_tables::address::Address;
use ringsail_tables::cluster::{Cluster, ClusterRef, Discovery};
use ringsail_tables::endpoint::{Endpoint, Endpoints, Health, Locality};
use ringsail_tables::ids::ClusterId;
use ringsail_tables::live::HealthFlags;
use ringsail_tables::metadata::Value;
use ringsail_tables::subset::Criteria;
use ringsail_telemetry::{ClusterCounter, ClusterStats, UpstreamHttp2Stats};

use super::balance::priority::Spread;
use super::balance::{
    Balancer, Health as BalanceHealth, Member, Moment, Routed, Served, Settings, Subsets, Wanted, Zone,
};
use super::host::{Host, HostKey, Report, Seat, Watch};
use crate::breaker::Resources;
use crate::tls::ClientCache;

/// The clusters of a shard, by slot.
pub struct Clusters {
    slots: RefCell<Vec<Option<Rc<ClusterState>>>>,
    seat: Rc<Seat>,
}

impl Clusters {
    /// Those of shard `shard` of `shards`.
    pub fn new(shard: u32, shards: u32) -> Clusters {
        Clusters { slots: RefCell::default(), seat: Rc::new(Seat { shard, shards, ..Seat::default() }) }
    }

    /// A number for a connection of either side, unique in the process.
    pub fn next_connection_id(&self) -> u64 {
        self.seat.next_connection_id()
    }

    /// Where to report endpoints that fail too often.
    pub fn report_to(&self, judge: MailboxSender<Report>) {
        let _ = self.seat.reports.set(judge);
    }

    /// Leaves a report for the judge.
    pub(super) fn report(&self, report: Report) {
        if let Some(reports) = self.seat.reports.get() {
            // A full mailbox counts its refusals; the next check reports again.
            let _ = reports.try_send(report);
        }
    }

    /// The state of a cluster; made on first use, and anew when the slot has another owner.
    pub fn state(&self, id: ClusterId, stats: impl FnOnce() -> ClusterStats) -> Rc<ClusterState> {
        let mut slots = self.slots.borrow_mut();
        let index = id.slot as usize;
        if slots.len() <= index {
            slots.resize_with(index + 1, || None);
        }
        match &slots[index] {
            Some(state) if state.id == id => state.clone(),
            _ => {
                let state = Rc::new(ClusterState::new(id, stats(), self.seat.clone()));
                slots[index] = Some(state.clone());
                state
            }
        }
    }

    /// All clusters that were used.
    pub fn used(&self) -> Vec<Rc<ClusterState>> {
        self.slots.borrow().iter().flatten().cloned().collect()
    }

    /// Drops the state of clusters that `exists` denies; their idle connections close with it.
    pub fn retain(&self, exists: impl Fn(ClusterId) -> bool) {
        for slot in self.slots.borrow_mut().iter_mut() {
            if slot.as_ref().is_some_and(|state| !exists(state.id)) {
                *slot = None;
            }
        }
    }
}

impl std::ops::Deref for ClusterState {
    type Target = Resources;

    fn deref(&self) -> &Resources {
        &self.resources
    }
}

/// One cluster on one shard.
pub struct ClusterState {
    /// Its id.
    pub id: ClusterId,
    /// Its counters.
    pub stats: ClusterStats,
    /// TLS contexts of its endpoints.
    pub tls: ClientCache,
    /// Those of its HTTP/2 connections, if it may have some.
    pub http2_stats: OnceCell<UpstreamHttp2Stats>,
    /// What is limited.
    resources: Resources,
    seat: Rc<Seat>,
    hosts: RefCell<HashMap<HostKey, Rc<Host>>>,
    rotation: RefCell<Option<Rotation>>,
}

/// The balancer for one set of endpoints, with the hosts its indices stand for.
struct Rotation {
    /// Holds no endpoints alive; only keeps their address from being used for another set.
    built_from: Weak<Endpoints>,
    /// As above, of another set of settings.
    built_for: Weak<Cluster>,
    /// [`Live::health_version`] it was built with.
    health_version: u32,
    /// The same of the proxy's own cluster, where zones count.
    own: Option<(Weak<Endpoints>, u32)>,
    members: Vec<Member>,
    hosts: Vec<Rc<Host>>,
    /// Position of each member in the endpoints: priority, locality, endpoint.
    places: Vec<(u32, u32, u32)>,
    balancing: Balancing,
}

/// Who picks.
enum Balancing {
    /// One balancer for all hosts.
    Whole(Balancer),
    /// One for each subset, made when it is first asked.
    Divided(Subsets, Settings),
}

/// A picked host.
#[derive(Clone)]
pub struct Choice {
    /// Its state on this shard.
    pub host: Rc<Host>,
    /// Where it is; a Unix socket has none and is named by its endpoint.
    pub address: ringsail_runtime::net::Address,
    place: Option<(u32, u32, u32)>,
}

impl Choice {
    /// The endpoint in the tables it was picked from; `None` for an original destination.
    pub fn endpoint<'t>(&self, endpoints: &'t Endpoints) -> Option<&'t Endpoint> {
        endpoint_at(endpoints, self.place?)
    }

    /// The priority it was picked from; `None` for an original destination.
    pub fn priority(&self) -> Option<u32> {
        self.place.map(|(priority, ..)| priority)
    }
}

fn endpoint_at(endpoints: &Endpoints, place: (u32, u32, u32)) -> Option<&Endpoint> {
    let (priority, locality, endpoint) = place;
    let level = endpoints.priorities.get(priority as usize)?;
    level.localities.get(locality as usize)?.endpoints.get(endpoint as usize)
}

/// What EDS and the judge say together. Source: Envoy's `Host::coarseHealth`.
fn health(by_eds: Health, flags: HealthFlags) -> BalanceHealth {
    match by_eds {
        Health::Unhealthy | Health::Draining => BalanceHealth::Unhealthy,
        _ if flags.is_unhealthy() => BalanceHealth::Unhealthy,
        Health::Degraded => BalanceHealth::Degraded,
        Health::Healthy if flags.any(HealthFlags::DEGRADED_ACTIVE_CHECK) => BalanceHealth::Degraded,
        Health::Healthy => BalanceHealth::Healthy,
    }
}

/// Source: Envoy's metadata constant `envoy.lb`, `canary`.
fn is_canary(endpoint: &Endpoint) -> bool {
    let of_balancing = endpoint.metadata.as_ref().and_then(|metadata| metadata.at("envoy.lb", &[]));
    matches!(of_balancing.and_then(|value| value.field("canary")), Some(Value::Bool(true)))
}

/// What hashing policies know an endpoint by. Source: Envoy: `hash_key` of the endpoint's metadata `envoy.lb`, else its
/// name if the cluster wants that, else its address.
fn hash_key(endpoints: &Endpoints, place: (u32, u32, u32), by_hostname: bool) -> String {
    let Some(endpoint) = endpoint_at(endpoints, place) else { return String::new() };
    let named = endpoint.metadata.as_ref().and_then(|metadata| metadata.string("envoy.lb", "hash_key"));
    match named {
        Some(key) if !key.is_empty() => key.to_string(),
        _ if by_hostname => endpoint.hostname.as_deref().unwrap_or_default().to_string(),
        _ => endpoint.address.to_string(),
    }
}

/// What one attempt asks of the pick.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish<'a> {
    /// Where the client wanted to go, for clusters that forward there.
    pub destination: Option<SocketAddr>,
    /// The request's hash, for hashing policies; without one they draw at random.
    pub hash: Option<u64>,
    /// Hosts that are avoided for `attempts_max` further picks; then any host will do. Source: Envoy's
    /// `previous_hosts`.
    pub tried: &'a [HostKey],
    /// Hosts whose metadata says `envoy.lb: canary` are avoided likewise. Source: Envoy's `omit_canary_hosts`.
    pub avoid_canaries: bool,
    /// Source: Envoy `host_selection_retry_max_attempts`.
    pub attempts_max: u32,
    /// What the route wants of the host's metadata, where the cluster has subsets.
    pub criteria: Option<&'a Criteria>,
    /// Priorities that are avoided while others can take the request. Source: Envoy's `previous_priorities`.
    pub avoid_priorities: &'a [u32],
}

/// The moment of a pick on this shard.
struct Now<'a> {
    hosts: &'a [Rc<Host>],
    at: Instant,
}

impl Moment for Now<'_> {
    fn random(&mut self) -> u64 {
        fastrand::u64(..)
    }

    fn in_flight(&self, member: u32) -> u32 {
        self.hosts[member as usize].in_flight.get()
    }

    fn healthy_for(&self, member: u32) -> Duration {
        self.at.saturating_duration_since(self.hosts[member as usize].healthy_since.get())
    }
}

impl Rotation {
    /// Whether the proxy's own cluster is as it was.
    fn is_of_own(&self, cluster: &ClusterRef<'_>) -> bool {
        match (&self.own, own_of(cluster)) {
            (Some((endpoints, version)), Some((own, _))) => {
                std::ptr::eq(endpoints.as_ptr(), Arc::as_ptr(own.endpoints))
                    && *version == own.live.health_version()
            }
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

/// The proxy's own cluster and place, where `cluster` looks at zones.
fn own_of<'t>(cluster: &ClusterRef<'t>) -> Option<(ClusterRef<'t>, &'t Locality)> {
    cluster.cluster.balancing.zone?;
    cluster.tables.own()
}

fn counter_of(routed: Routed) -> ClusterCounter {
    match routed {
        Routed::AllDirectly => ClusterCounter::LbZoneRoutingAllDirectly,
        Routed::Sampled => ClusterCounter::LbZoneRoutingSampled,
        Routed::CrossZone => ClusterCounter::LbZoneRoutingCrossZone,
        Routed::NoCapacityLeft => ClusterCounter::LbZoneNoCapacityLeft,
    }
}

/// The healthy proxies of a locality, or of all.
fn healthy_proxies(own: &ClusterRef<'_>, at: Option<Option<&Locality>>) -> u32 {
    let first = own.endpoints.priorities.first();
    let localities = first.into_iter().flat_map(|level| &level.localities);
    let chosen = localities.filter(|group| at.is_none_or(|at| group.locality.as_deref() == at));
    let is_healthy = |endpoint: &&Endpoint| {
        let flags = own.live.host(endpoint.id).map(|live| live.flags()).unwrap_or_default();
        health(endpoint.health, flags) == BalanceHealth::Healthy
    };
    chosen.flat_map(|group| &group.endpoints).filter(is_healthy).count() as u32
}

impl ClusterState {
    fn new(id: ClusterId, stats: ClusterStats, seat: Rc<Seat>) -> ClusterState {
        ClusterState {
            id,
            stats,
            http2_stats: OnceCell::new(),
            resources: Resources::new(seat.shard, seat.shards),
            seat,
            hosts: RefCell::default(),
            rotation: RefCell::default(),
            tls: ClientCache::default(),
        }
    }

    /// A number for a connection.
    pub(crate) fn next_connection_id(&self) -> u64 {
        self.seat.next_connection_id()
    }

    /// The host for one attempt; `None` when there is none that may be picked.
    pub fn pick(&self, cluster: &ClusterRef<'_>, wish: Wish<'_>) -> Option<Choice> {
        if let Discovery::OriginalDst { .. } = cluster.cluster.discovery {
            let address = wish.destination?;
            let known = self.hosts.borrow().len();
            let host = self.host(HostKey::Address(address));
            if self.hosts.borrow().len() != known {
                self.tell_destinations(cluster);
            }
            return Some(Choice { host, address: address.into(), place: None });
        }
        let mut rotation = self.rotation.borrow_mut();
        let current = rotation.as_ref().is_some_and(|rotation| {
            std::ptr::eq(rotation.built_from.as_ptr(), Arc::as_ptr(cluster.endpoints))
                && std::ptr::eq(rotation.built_for.as_ptr(), Arc::as_ptr(cluster.cluster))
                && rotation.health_version == cluster.live.health_version()
                && rotation.is_of_own(cluster)
        });
        if !current {
            *rotation = Some(self.build_rotation(cluster));
        }
        let Rotation { members, hosts, places, balancing, .. } = rotation.as_mut()?;
        let mut moment = Now { hosts, at: now() };
        let unwanted = |index: u32| {
            let place = places[index as usize];
            wish.tried.contains(&hosts[index as usize].key)
                || (wish.avoid_canaries && endpoint_at(cluster.endpoints, place).is_some_and(is_canary))
        };
        let choose = |balancer: &mut Balancer, moment: &mut Now<'_>| {
            let mut picked = None;
            for pick in 0..=wish.attempts_max {
                let wanted = Wanted { hash: wish.hash, pick, avoid_priorities: wish.avoid_priorities };
                let found = balancer.pick(members, wanted, moment);
                if found.panic {
                    self.stats.add(ClusterCounter::LbHealthyPanic, 1);
                }
                found.routed.into_iter().for_each(|routed| self.stats.add(counter_of(routed), 1));
                picked = Some(found.member?);
                if picked.is_some_and(|index| !unwanted(index)) {
                    break;
                }
            }
            picked
        };
        let index = match balancing {
            Balancing::Whole(balancer) => choose(balancer, &mut moment)?,
            Balancing::Divided(subsets, settings) => {
                let by_hostname = cluster.cluster.balancing.hash_by_hostname;
                let key = |index: u32| hash_key(cluster.endpoints, places[index as usize], by_hostname);
                let (index, served) = subsets.pick(wish.criteria, |part| {
                    let balancer = part.balancer(|hosts| {
                        Balancer::among(hosts.iter().copied(), members, *settings, key, &mut moment)
                    });
                    choose(balancer, &mut moment)
                });
                match served {
                    Served::Selected => self.stats.add(ClusterCounter::LbSubsetsSelected, 1),
                    Served::Fallback => self.stats.add(ClusterCounter::LbSubsetsFallback, 1),
                    Served::Panic => self.stats.add(ClusterCounter::LbSubsetsFallbackPanic, 1),
                    Served::Otherwise => {}
                }
                index?
            }
        } as usize;
        let rotation = rotation.as_ref()?;
        let place = rotation.places[index];
        let mut choice = Choice {
            host: rotation.hosts[index].clone(),
            address: ringsail_runtime::net::Address::Unix(Default::default()),
            place: Some(place),
        };
        choice.address = match &choice.endpoint(cluster.endpoints)?.address {
            Address::Socket(address) => (*address).into(),
            Address::Pipe(path) => ringsail_runtime::net::Address::Unix(path.as_str().into()),
        };
        Some(choice)
    }

    /// Hosts with connections or requests.
    pub fn hosts(&self) -> Vec<Rc<Host>> {
        self.hosts.borrow().values().cloned().collect()
    }

    /// Forgets hosts without connections and requests; those of the tables come back with the next request.
    pub fn forget_unused_hosts(&self, cluster: &ClusterRef<'_>) {
        let rotation = self.rotation.borrow();
        let in_rotation = |host: &Rc<Host>| {
            rotation
                .as_ref()
                .is_some_and(|rotation| rotation.hosts.iter().any(|other| Rc::ptr_eq(other, host)))
        };
        self.hosts
            .borrow_mut()
            .retain(|_, host| host.connections.get() > 0 || host.in_flight.get() > 0 || in_rotation(host));
        if let Discovery::OriginalDst { .. } = cluster.cluster.discovery {
            self.tell_destinations(cluster);
        }
    }

    fn tell_destinations(&self, cluster: &ClusterRef<'_>) {
        let count = self.hosts.borrow().len() as u32;
        cluster.live.set_destinations(self.seat.shard, self.seat.shards, count);
    }

    fn host(&self, key: HostKey) -> Rc<Host> {
        let mut hosts = self.hosts.borrow_mut();
        let host = hosts.entry(key).or_insert_with(|| Rc::new(Host::new(key, self.seat.clone())));
        host.clone()
    }

    fn build_rotation(&self, cluster: &ClusterRef<'_>) -> Rotation {
        let own = own_of(cluster);
        let ClusterRef { cluster, endpoints, live, .. } = *cluster;
        // Before the flags are read: a change in between is then seen at the next pick.
        let health_version = live.health_version();
        let watch = cluster
            .outlier_detection
            .as_ref()
            .map(|detection| Rc::new(Watch { cluster: self.id, detection: detection.clone() }));
        let checked_by = cluster.health_check.as_ref().map(|_| self.id);
        let mut members = Vec::new();
        let mut hosts = Vec::new();
        let mut places = Vec::new();
        let mut locality_number = 0;
        for (priority, level) in (0..).zip(&endpoints.priorities) {
            for (locality, group) in (0..).zip(&level.localities) {
                for (position, endpoint) in (0..).zip(&group.endpoints) {
                    let live = live.host(endpoint.id);
                    let flags = live.map(|live| live.flags()).unwrap_or_default();
                    members.push(Member {
                        priority,
                        locality: locality_number,
                        locality_weight: group.weight,
                        weight: endpoint.weight.max(1),
                        health: health(endpoint.health, flags),
                        excluded: endpoint.health == Health::Draining
                            || flags.any(HealthFlags::PENDING_ACTIVE_CHECK)
                            || flags.any(HealthFlags::EXCLUDED_AT_ONCE),
                    });
                    let host = self.host(HostKey::Endpoint(endpoint.id));
                    host.follow(live.cloned(), watch.clone(), checked_by);
                    host.note_check(flags.any(HealthFlags::FAILED_ACTIVE_CHECK));
                    hosts.push(host);
                    places.push((priority, locality, position));
                }
                locality_number += 1;
            }
        }
        self.close_idle_outside(&hosts);
        let balancing = &cluster.balancing;
        let settings = Settings {
            policy: balancing.policy,
            spread: Spread {
                overprovisioning_percent: endpoints.overprovisioning_percent,
                panic_threshold_percent: balancing.panic_percent.into(),
            },
            locality_weighted: balancing.locality_weighted,
            locality_scaled: false,
            fail_on_panic: balancing.fail_on_panic,
            slow_start: balancing.slow_start,
            hash_balance_percent: balancing.hash_balance_percent,
        };
        let balancing = match &balancing.subsets {
            None => {
                let key =
                    |index: u32| hash_key(endpoints, places[index as usize], balancing.hash_by_hostname);
                let moment = &mut Now { hosts: &hosts, at: now() };
                let mut balancer = Balancer::new(&members, settings, key, moment);
                if let Some((own, locality)) = &own {
                    self.stay_in_zone(&mut balancer, &members, cluster, endpoints, (own, locality), moment);
                }
                Balancing::Whole(balancer)
            }
            Some(subsets) => {
                let inside = Settings {
                    locality_weighted: settings.locality_weighted && subsets.locality_weight_aware,
                    locality_scaled: subsets.scale_locality_weight,
                    ..settings
                };
                let metadata = places.iter().map(|place| endpoint_at(endpoints, *place)?.metadata.as_deref());
                Balancing::Divided(Subsets::new(subsets.clone(), metadata), inside)
            }
        };
        Rotation {
            built_from: Arc::downgrade(endpoints),
            built_for: Arc::downgrade(cluster),
            health_version,
            own: own.map(|(own, _)| (Arc::downgrade(own.endpoints), own.live.health_version())),
            members,
            hosts,
            places,
            balancing,
        }
    }

    /// Compat: what keeps Envoy from looking at zones. Parts of a divided cluster do not look at them here.
    fn stay_in_zone(
        &self,
        balancer: &mut Balancer,
        members: &[Member],
        cluster: &Cluster,
        endpoints: &Endpoints,
        (own, locality): (&ClusterRef<'_>, &Locality),
        moment: &mut Now<'_>,
    ) {
        let (Some(zone), Some(level)) = (cluster.balancing.zone, endpoints.priorities.first()) else {
            return;
        };
        if level.localities.len() < 2 {
            return;
        }
        let all = own.endpoints.priorities.first();
        let all: usize =
            all.map_or(0, |level| level.localities.iter().map(|group| group.endpoints.len()).sum());
        let healthy = healthy_proxies(own, None);
        if all == 0 || u64::from(healthy) * 100 < all as u64 * u64::from(cluster.balancing.panic_percent) {
            self.stats.add(ClusterCounter::LbLocalClusterNotOk, 1);
            return;
        }
        if balancer.healthy_first() < zone.hosts_min {
            self.stats.add(ClusterCounter::LbZoneClusterTooSmall, 1);
            return;
        }
        // Localities are numbered in order, the first priority first.
        let mut zones: Vec<Zone> = (0..)
            .zip(&level.localities)
            .map(|(number, group)| Zone {
                locality: number,
                proxies: healthy_proxies(own, Some(group.locality.as_deref())),
                own: group.locality.as_deref() == Some(locality),
            })
            .collect();
        if !zones.iter().any(|zone| zone.own) {
            // The own zone has no hosts, and so no room; the others share by theirs.
            let proxies = healthy_proxies(own, Some(Some(locality)));
            zones.push(Zone { locality: u32::MAX, proxies, own: true });
        }
        balancer.stay_in_zone(members, &zones, healthy, zone.routing_percent, moment);
    }

    /// Closes the idle connections of hosts that left the cluster.
    fn close_idle_outside(&self, kept: &[Rc<Host>]) {
        let gone: Vec<Rc<Host>> = {
            let hosts = self.hosts.borrow();
            let kept = |host: &Rc<Host>| kept.iter().any(|other| Rc::ptr_eq(other, host));
            hosts.values().filter(|host| !kept(host)).cloned().collect()
        };
        for host in &gone {
            host.idle.take();
            host.http2.close();
        }
        self.hosts.borrow_mut().retain(|_, host| {
            !gone.iter().any(|other| Rc::ptr_eq(other, host))
                || host.connections.get() > 0
                || host.in_flight.get() > 0
        });
    }
}
