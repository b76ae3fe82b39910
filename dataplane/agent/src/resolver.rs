//! Names of DNS clusters, resolved off the shards and asked again in time.
//!
//! By default we ask the name servers ourselves ([`crate::dns`]), which tells how long an answer holds; a cluster may
//! choose the system's resolver instead (`getaddrinfo`), which keeps that to itself.
//!
//! Compat: a name that does not exist is an answer without addresses, and its cluster has no endpoints then; while no
//! server answers, the last addresses stay.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ringsail_tables::cluster::{DnsResolver, DnsSettings};
use ringsail_tables::{DnsQuery, Str, Wanted, WantedName};
use ringsail_telemetry::{Block, Cluster, ClusterCounter, Registry};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use crate::dns::{self, Found};
use crate::limits::{LOOKUP_TIMEOUT, LOOKUPS_MAX};

/// What became of a look-up.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The question.
    pub query: DnsQuery,
    /// Its addresses in order of preference, or why nobody knows them.
    pub outcome: Result<Vec<IpAddr>, String>,
}

/// One task per name, for as long as the name is wanted.
pub struct Resolver {
    followed: BTreeMap<DnsQuery, Followed>,
    answers: mpsc::Sender<Resolved>,
    lookups: Rc<Semaphore>,
    stats: Arc<Registry>,
}

/// A name that is resolved again and again.
struct Followed {
    settings: Arc<DnsSettings>,
    counts: Rc<Counts>,
    task: JoinHandle<()>,
}

/// The statistics of the clusters that refer to a name. The agent's thread is their only writer.
#[derive(Default)]
struct Counts {
    clusters: RefCell<BTreeMap<Str, Arc<Block<Cluster>>>>,
}

impl Counts {
    fn follow(&self, names: &[Str], stats: &Registry) {
        let mut clusters = self.clusters.borrow_mut();
        clusters.retain(|name, _| names.contains(name));
        for name in names {
            clusters.entry(name.clone()).or_insert_with(|| stats.cluster_block(name));
        }
    }

    fn add(&self, counter: ClusterCounter) {
        self.clusters.borrow().values().for_each(|block| block.add(counter, 1));
    }
}

impl Resolver {
    /// A resolver without names. Answers that changed go to `answers`.
    pub fn new(answers: mpsc::Sender<Resolved>, stats: Arc<Registry>) -> Resolver {
        let lookups = Rc::new(Semaphore::new(LOOKUPS_MAX));
        Resolver { followed: BTreeMap::new(), answers, lookups, stats }
    }

    /// Starts and stops tasks so that exactly the wanted names are resolved. Call it inside a `LocalSet`.
    pub fn follow(&mut self, wanted: &Wanted) {
        let is_wanted = |query: &DnsQuery, followed: &Followed| {
            let same = |name: &WantedName| name.query == *query && name.settings == followed.settings;
            wanted.names.iter().any(same)
        };
        self.followed.retain(|query, followed| {
            let stays = is_wanted(query, followed);
            if !stays {
                followed.task.abort();
            }
            stays
        });
        for name in &wanted.names {
            let followed = self.followed.entry(name.query.clone()).or_insert_with(|| {
                let counts = Rc::new(Counts::default());
                let following = Following {
                    query: name.query.clone(),
                    settings: name.settings.clone(),
                    counts: counts.clone(),
                    answers: self.answers.clone(),
                    lookups: self.lookups.clone(),
                };
                Followed {
                    settings: name.settings.clone(),
                    counts,
                    task: tokio::task::spawn_local(following.run()),
                }
            });
            // The task runs from its first await on, which comes after this.
            followed.counts.follow(&name.clusters, &self.stats);
        }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.followed.values().for_each(|followed| followed.task.abort());
    }
}

struct Following {
    query: DnsQuery,
    settings: Arc<DnsSettings>,
    counts: Rc<Counts>,
    answers: mpsc::Sender<Resolved>,
    lookups: Rc<Semaphore>,
}

impl Following {
    async fn run(self) {
        let mut told = false;
        let mut known: Option<Vec<IpAddr>> = None;
        let mut failures = 0;
        loop {
            self.counts.add(ClusterCounter::UpdateAttempt);
            let outcome = {
                let Ok(_permit) = self.lookups.acquire().await else { return };
                lookup(&self.query).await
            };
            let (news, mut pause) = match outcome {
                Ok(found) => {
                    failures = 0;
                    self.counts.add(ClusterCounter::UpdateSuccess);
                    if known.as_ref().is_some_and(|known| same_addresses(known, &found.addresses)) {
                        self.counts.add(ClusterCounter::UpdateNoRebuild);
                    }
                    let changed = known.as_ref() != Some(&found.addresses);
                    let pause = self.pause_after(found.ttl);
                    known = Some(found.addresses.clone());
                    (changed.then_some(Ok(found.addresses)), pause)
                }
                Err(error) => {
                    self.counts.add(ClusterCounter::UpdateFailure);
                    tracing::debug!(host = &*self.query.host, error, "name does not resolve");
                    failures += 1;
                    // Who waits for a first answer must not wait for ever.
                    ((!told).then_some(Err(error)), self.pause_after_failure(failures))
                }
            };
            if let Some(outcome) = news {
                told = true;
                if self.answers.send(Resolved { query: self.query.clone(), outcome }).await.is_err() {
                    return;
                }
            }
            pause += self.settings.jitter.mul_f64(fastrand::f64());
            tokio::time::sleep(pause).await;
        }
    }

    /// Compat: records that hold for no time leave it to the refresh rate.
    fn pause_after(&self, ttl: Option<Duration>) -> Duration {
        let ttl = ttl.filter(|ttl| self.settings.respect_ttl && !ttl.is_zero());
        ttl.unwrap_or(self.settings.refresh_rate)
    }

    /// Source: Envoy's `JitteredExponentialBackOffStrategy`.
    fn pause_after_failure(&self, failures: u32) -> Duration {
        let Some((base, max)) = self.settings.failure_refresh else { return self.settings.refresh_rate };
        let doubled = base.saturating_mul(1_u32.checked_shl(failures - 1).unwrap_or(u32::MAX));
        doubled.min(max).mul_f64(fastrand::f64()).max(Duration::from_millis(1))
    }
}

/// Whether two answers say the same in any order.
fn same_addresses(one: &[IpAddr], other: &[IpAddr]) -> bool {
    one.iter().all(|address| other.contains(address)) && other.iter().all(|address| one.contains(address))
}

async fn lookup(query: &DnsQuery) -> Result<Found, String> {
    let found = async {
        match &query.resolver {
            DnsResolver::Servers(servers) => dns::resolve(&query.host, query.family, servers).await,
            DnsResolver::System => match tokio::net::lookup_host((&*query.host, 0)).await {
                Ok(found) => {
                    let found = found.map(|address| address.ip());
                    let (v4, v6): (Vec<_>, Vec<_>) = found.partition(IpAddr::is_ipv4);
                    Ok(Found { addresses: dns::chosen(query.family, v4, v6), ttl: None })
                }
                Err(error) => Err(error.to_string()),
            },
        }
    };
    match tokio::time::timeout(LOOKUP_TIMEOUT, found).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("no answer within {} s", LOOKUP_TIMEOUT.as_secs())),
    }
}

#[cfg(test)]
mod tests;
