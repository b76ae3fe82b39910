//! Names of DNS clusters, resolved off the shards and asked again in time.
//!
//! Look-ups go through the system's resolver (`getaddrinfo`). It honors `/etc/hosts`, search domains and `nsswitch`,
//! as applications beside the proxy do, but keeps records' lifetimes to itself: `respect_dns_ttl` therefore has no
//! effect, and names are asked again every `dns_refresh_rate` (5 s unless configured, which is also the lifetime
//! Kubernetes gives its records). A resolver crate of its own would weigh more than the whole agent; our own DNS
//! client comes with the DNS proxy, which needs the same messages.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use ringsail_tables::cluster::{DnsFamily, DnsSettings};
use ringsail_tables::{DnsQuery, Wanted};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use crate::limits::{LOOKUP_TIMEOUT, LOOKUPS_MAX};

/// What became of a look-up.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The question.
    pub query: DnsQuery,
    /// Its addresses in order of preference, or why there are none.
    pub outcome: Result<Vec<IpAddr>, String>,
}

/// One task per name, for as long as the name is wanted.
#[derive(Debug)]
pub struct Resolver {
    tasks: BTreeMap<DnsQuery, (DnsSettings, JoinHandle<()>)>,
    answers: mpsc::Sender<Resolved>,
    lookups: Rc<Semaphore>,
}

impl Resolver {
    /// A resolver without names. Answers that changed go to `answers`.
    pub fn new(answers: mpsc::Sender<Resolved>) -> Resolver {
        Resolver { tasks: BTreeMap::new(), answers, lookups: Rc::new(Semaphore::new(LOOKUPS_MAX)) }
    }

    /// Starts and stops tasks so that exactly the wanted names are resolved. Call it inside a `LocalSet`.
    pub fn follow(&mut self, wanted: &Wanted) {
        self.tasks.retain(|query, (settings, task)| {
            let stays = wanted.names.iter().any(|(name, other)| name == query && other == settings);
            if !stays {
                task.abort();
            }
            stays
        });
        for (query, settings) in &wanted.names {
            if !self.tasks.contains_key(query) {
                let task =
                    follow_name(query.clone(), settings.clone(), self.answers.clone(), self.lookups.clone());
                self.tasks.insert(query.clone(), (settings.clone(), tokio::task::spawn_local(task)));
            }
        }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.tasks.values().for_each(|(_, task)| task.abort());
    }
}

async fn follow_name(
    query: DnsQuery,
    settings: DnsSettings,
    answers: mpsc::Sender<Resolved>,
    lookups: Rc<Semaphore>,
) {
    let mut last: Option<Result<Vec<IpAddr>, String>> = None;
    loop {
        let outcome = {
            let Ok(_permit) = lookups.acquire().await else { return };
            lookup(&query).await
        };
        // A name that stops resolving keeps its addresses; one that never resolved must not keep its cluster waiting.
        let news = match (&last, &outcome) {
            (Some(Ok(_)), Err(error)) => {
                tracing::debug!(host = &*query.host, error, "name no longer resolves, keeping its addresses");
                false
            }
            (Some(Err(_)), Err(_)) => false,
            (Some(Ok(before)), Ok(after)) => before != after,
            (Some(Err(_)), Ok(_)) | (None, _) => true,
        };
        if news {
            last = Some(outcome.clone());
            if answers.send(Resolved { query: query.clone(), outcome }).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(settings.refresh_rate + settings.jitter.mul_f64(fastrand::f64())).await;
    }
}

async fn lookup(query: &DnsQuery) -> Result<Vec<IpAddr>, String> {
    let found = tokio::time::timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host((&*query.host, 0)));
    match found.await {
        Ok(Ok(addresses)) => {
            let addresses = prefer(query.family, addresses.map(|address| address.ip()));
            if addresses.is_empty() {
                Err("has no address of the wanted family".to_string())
            } else {
                Ok(addresses)
            }
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", LOOKUP_TIMEOUT.as_secs())),
    }
}

/// Keeps the wanted families, without repetition, sorted so that an unchanged answer compares equal.
fn prefer(family: DnsFamily, addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let (mut v4, mut v6): (Vec<_>, Vec<_>) = addresses.partition(IpAddr::is_ipv4);
    for list in [&mut v4, &mut v6] {
        list.sort();
        list.dedup();
    }
    let first_of = |first: Vec<IpAddr>, second: Vec<IpAddr>| if first.is_empty() { second } else { first };
    match family {
        DnsFamily::V4Only => v4,
        DnsFamily::V6Only => v6,
        DnsFamily::Auto => first_of(v6, v4),
        DnsFamily::V4Preferred => first_of(v4, v6),
        DnsFamily::All => v4.into_iter().chain(v6).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn families_are_preferred_as_configured() {
        let found = ["10.0.0.2", "::1", "10.0.0.1", "10.0.0.2"];
        for (family, expected) in [
            (DnsFamily::V4Only, vec!["10.0.0.1", "10.0.0.2"]),
            (DnsFamily::V6Only, vec!["::1"]),
            (DnsFamily::Auto, vec!["::1"]),
            (DnsFamily::V4Preferred, vec!["10.0.0.1", "10.0.0.2"]),
            (DnsFamily::All, vec!["10.0.0.1", "10.0.0.2", "::1"]),
        ] {
            assert_eq!(prefer(family, ips(&found).into_iter()), ips(&expected), "{family:?}");
        }
        assert_eq!(prefer(DnsFamily::Auto, ips(&["10.0.0.1"]).into_iter()), ips(&["10.0.0.1"]));
    }
}
