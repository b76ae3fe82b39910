//! What one shard remembers of a cluster between requests: rotations, pools, and what is in flight.
//!
//! State is keyed by the ids of the tables, so it survives endpoint updates, and is dropped with its generation.
//! It never holds configuration: every use brings the [`ClusterRef`] of its own version.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use hashbrown::HashMap;
use ringsail_runtime::local::Notify;
use ringsail_tables::address::Address;
use ringsail_tables::cluster::{Breakers, Cluster, ClusterRef, Discovery, LbPolicy};
use ringsail_tables::endpoint::{Endpoint, Endpoints, Health};
use ringsail_tables::ids::{ClusterId, EndpointId};
use ringsail_telemetry::ClusterStats;

use super::balance::priority::Spread;
use super::balance::{Balancer, Health as BalanceHealth, Member, Policy, Settings};
use super::pool::Connection;
use crate::breaker::{self, Usage};

/// The clusters of a shard, by slot.
#[derive(Default)]
pub struct Clusters {
    slots: RefCell<Vec<Option<Rc<ClusterState>>>>,
}

impl Clusters {
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
                let state = Rc::new(ClusterState::new(id, stats()));
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

/// One cluster on one shard.
pub struct ClusterState {
    /// Its id.
    pub id: ClusterId,
    /// Its counters.
    pub stats: ClusterStats,
    /// Connections open or being made.
    pub connections: Usage,
    /// Requests waiting for a connection.
    pub pending: Usage,
    /// Requests being answered.
    pub requests: Usage,
    /// Retries being made.
    pub retries: Usage,
    hosts: RefCell<HashMap<HostKey, Rc<Host>>>,
    rotation: RefCell<Option<Rotation>>,
}

/// What names a host within its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HostKey {
    /// An endpoint of the tables.
    Endpoint(EndpointId),
    /// An address taken from the request's connection ([`Discovery::OriginalDst`]).
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
    /// Idle connections, the latest used last.
    pub(super) idle: RefCell<Vec<Connection>>,
    /// Tells waiting requests that a connection became idle or closed.
    pub(super) freed: Notify,
}

/// The balancer for one set of endpoints, with the hosts its indices stand for.
struct Rotation {
    /// Holds no endpoints alive; only keeps their address from being used for another set.
    built_from: Weak<Endpoints>,
    policy: LbPolicy,
    members: Vec<Member>,
    hosts: Vec<Rc<Host>>,
    /// Position of each member in the endpoints: priority, locality, endpoint.
    places: Vec<(u32, u32, u32)>,
    balancer: Balancer,
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
        let (priority, locality, endpoint) = self.place?;
        endpoints
            .priorities
            .get(priority as usize)?
            .localities
            .get(locality as usize)?
            .endpoints
            .get(endpoint as usize)
    }
}

impl ClusterState {
    fn new(id: ClusterId, stats: ClusterStats) -> ClusterState {
        ClusterState {
            id,
            stats,
            connections: Usage::default(),
            pending: Usage::default(),
            requests: Usage::default(),
            retries: Usage::default(),
            hosts: RefCell::default(),
            rotation: RefCell::default(),
        }
    }

    /// The host for one attempt; `None` when there is none that may be picked. `destination` is where the client
    /// wanted to go, for clusters that forward there. `tried` hosts are avoided for `attempts_max` picks, then
    /// any host will do. Source: Envoy `host_selection_retry_max_attempts`.
    pub fn pick(
        &self,
        cluster: &ClusterRef<'_>,
        destination: Option<SocketAddr>,
        tried: &[HostKey],
        attempts_max: u32,
    ) -> Option<Choice> {
        if let Discovery::OriginalDst { .. } = cluster.cluster.discovery {
            let address = destination?;
            return Some(Choice {
                host: self.host(HostKey::Address(address)),
                address: address.into(),
                place: None,
            });
        }
        let mut rotation = self.rotation.borrow_mut();
        let current = rotation.as_ref().is_some_and(|rotation| {
            std::ptr::eq(rotation.built_from.as_ptr(), Arc::as_ptr(cluster.endpoints))
                && rotation.policy == cluster.cluster.lb_policy
        });
        if !current {
            *rotation = Some(self.build_rotation(cluster.cluster, cluster.endpoints));
        }
        let rotation = rotation.as_mut()?;
        let mut picked = None;
        for _ in 0..=attempts_max {
            let hosts = &rotation.hosts;
            let index = rotation.balancer.pick(
                &rotation.members,
                || fastrand::u64(..),
                |index| hosts[index as usize].in_flight.get(),
            )?;
            picked = Some(index);
            if !tried.contains(&hosts[index as usize].key) {
                break;
            }
        }
        let index = picked? as usize;
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
    pub fn forget_unused_hosts(&self) {
        let rotation = self.rotation.borrow();
        let in_rotation = |host: &Rc<Host>| {
            rotation
                .as_ref()
                .is_some_and(|rotation| rotation.hosts.iter().any(|other| Rc::ptr_eq(other, host)))
        };
        self.hosts
            .borrow_mut()
            .retain(|_, host| host.connections.get() > 0 || host.in_flight.get() > 0 || in_rotation(host));
    }

    fn host(&self, key: HostKey) -> Rc<Host> {
        let mut hosts = self.hosts.borrow_mut();
        let host = hosts.entry(key).or_insert_with(|| {
            Rc::new(Host {
                key,
                in_flight: Cell::new(0),
                connections: Cell::new(0),
                idle: RefCell::default(),
                freed: Notify::new(),
            })
        });
        host.clone()
    }

    fn build_rotation(&self, cluster: &Cluster, endpoints: &Arc<Endpoints>) -> Rotation {
        let mut members = Vec::new();
        let mut hosts = Vec::new();
        let mut places = Vec::new();
        let mut locality_number = 0;
        for (priority, level) in (0..).zip(&endpoints.priorities) {
            for (locality, group) in (0..).zip(&level.localities) {
                for (position, endpoint) in (0..).zip(&group.endpoints) {
                    members.push(Member {
                        priority,
                        locality: locality_number,
                        locality_weight: group.weight,
                        weight: endpoint.weight.max(1),
                        health: match endpoint.health {
                            Health::Healthy => BalanceHealth::Healthy,
                            Health::Degraded => BalanceHealth::Degraded,
                            Health::Unhealthy | Health::Draining => BalanceHealth::Unhealthy,
                        },
                    });
                    hosts.push(self.host(HostKey::Endpoint(endpoint.id)));
                    places.push((priority, locality, position));
                }
                locality_number += 1;
            }
        }
        self.close_idle_outside(&hosts);
        let settings = Settings {
            policy: match cluster.lb_policy {
                LbPolicy::RoundRobin | LbPolicy::ClusterProvided => Policy::RoundRobin,
                LbPolicy::LeastRequest { choices } => Policy::LeastRequest { choices },
                LbPolicy::Random => Policy::Random,
            },
            spread: Spread {
                overprovisioning_percent: endpoints.overprovisioning_percent,
                panic_threshold_percent: cluster.healthy_panic_percent.into(),
            },
            locality_weighted: cluster.locality_weighted,
        };
        let balancer = Balancer::new(&members, settings, || fastrand::u64(..));
        Rotation {
            built_from: Arc::downgrade(endpoints),
            policy: cluster.lb_policy,
            members,
            hosts,
            places,
            balancer,
        }
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
        }
        self.hosts.borrow_mut().retain(|_, host| {
            !gone.iter().any(|other| Rc::ptr_eq(other, host))
                || host.connections.get() > 0
                || host.in_flight.get() > 0
        });
    }
}

/// The share of a cluster's limits that one shard may use; see [`crate::breaker`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Connections.
    pub connections_max: u32,
    /// Requests waiting for a connection.
    pub pending_max: u32,
    /// Requests being answered.
    pub requests_max: u32,
    /// Retries being made.
    pub retries_max: u32,
}

impl Lease {
    /// The share of shard `shard` of `shards` in `breakers`. `requests` are those being answered now, for a retry
    /// budget.
    pub fn of(breakers: &Breakers, cluster: ClusterId, shard: u32, shards: u32, requests: u32) -> Lease {
        let share = |limit| breaker::lease(limit, shard, shards, cluster.slot);
        let retries_max = match breakers.retry_budget {
            Some(budget) => {
                let by_share = (f64::from(requests) * budget.percent / 100.0) as u32;
                by_share.max(share(budget.min_concurrency))
            }
            None => share(breakers.retries_max),
        };
        Lease {
            connections_max: share(breakers.connections_max),
            pending_max: share(breakers.pending_max),
            requests_max: share(breakers.requests_max),
            retries_max,
        }
    }
}
