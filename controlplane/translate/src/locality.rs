//! Order of preference among the localities of a cluster's endpoints: priorities (failover) and weights (distribute).

use std::collections::BTreeMap;

use ringsail_api::networking::LocalityLoadBalancerSetting;
use ringsail_model::{Endpoint, Locality, TrafficDistribution};

use crate::endpoint::Client;

/// Endpoints of one locality and priority.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    pub(crate) locality: &'a Locality,
    pub(crate) endpoints: Vec<&'a Endpoint>,
    pub(crate) weight: u32,
    pub(crate) priority: u32,
}

/// What decides the order.
#[derive(Debug)]
pub(crate) enum Preference<'a> {
    /// All localities alike.
    None,
    /// Shares of the traffic by locality.
    Distribute(&'a LocalityLoadBalancerSetting),
    /// Nearest region, zone and subzone first.
    Nearest(&'a [ringsail_api::networking::locality_load_balancer_setting::Failover]),
    /// First the endpoints that agree with the client in most of these labels, counted from the first.
    Labels(Vec<&'a str>),
}

/// Levels of nearness for `trafficDistribution`, the most important first.
const SAME_ZONE: [&str; 4] = [
    "topology.istio.io/network",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.istio.io/subzone",
];
/// The level below all of [`SAME_ZONE`].
const SAME_NODE: &str = "kubernetes.io/hostname";

impl<'a> Preference<'a> {
    /// Failover needs outlier detection, without which a proxy would never leave its own locality; a traffic
    /// distribution does not. Source: Istio API, `LocalityLoadBalancerSetting`.
    pub(crate) fn of(
        setting: Option<&'a LocalityLoadBalancerSetting>,
        outlier_detection: bool,
        distribution: TrafficDistribution,
    ) -> Preference<'a> {
        match distribution {
            TrafficDistribution::Any => {}
            TrafficDistribution::PreferSameZone => return Preference::Labels(SAME_ZONE.to_vec()),
            TrafficDistribution::PreferSameNode => {
                return Preference::Labels(SAME_ZONE.into_iter().chain([SAME_NODE]).collect());
            }
        }
        match setting {
            Some(setting) if setting.enabled == Some(false) => Preference::None,
            Some(setting) if !setting.distribute.is_empty() => Preference::Distribute(setting),
            _ if !outlier_detection => Preference::None,
            Some(setting) if !setting.failover_priority.is_empty() => {
                Preference::Labels(setting.failover_priority.iter().map(String::as_str).collect())
            }
            Some(setting) => Preference::Nearest(&setting.failover),
            None => Preference::Nearest(&[]),
        }
    }

    /// Arranges endpoints by locality.
    pub(crate) fn arrange(
        &self,
        groups: BTreeMap<&'a Locality, Vec<&'a Endpoint>>,
        client: &Client,
    ) -> Vec<Group<'a>> {
        let mut arranged: Vec<Group<'a>> = match self {
            Preference::None => groups.into_iter().map(|(l, endpoints)| group(l, endpoints, 0)).collect(),
            Preference::Distribute(setting) => distribute(setting, groups, client),
            Preference::Nearest(failover) => groups
                .into_iter()
                .map(|(locality, endpoints)| {
                    let level = nearness(&client.locality, locality, failover);
                    group(locality, endpoints, level)
                })
                .collect(),
            Preference::Labels(keys) => by_labels(keys, groups, client),
        };
        arranged.sort_by(|a, b| (a.priority, a.locality).cmp(&(b.priority, b.locality)));
        renumber(&mut arranged);
        arranged
    }
}

fn group<'a>(locality: &'a Locality, endpoints: Vec<&'a Endpoint>, priority: u32) -> Group<'a> {
    let weight = endpoints.iter().fold(0_u32, |sum, endpoint| sum.saturating_add(endpoint.weight));
    Group { locality, endpoints, weight, priority }
}

/// Envoy wants priorities without gaps.
fn renumber(groups: &mut [Group<'_>]) {
    let mut next = 0;
    let mut last = None;
    for group in groups {
        if last.is_some_and(|last| last != group.priority) {
            next += 1;
        }
        last = Some(group.priority);
        group.priority = next;
    }
}

/// 0 same subzone, 1 same zone, 2 same region, 3 elsewhere; a `failover` rule for the client's region puts its target
/// at 3 and all others at 4.
fn nearness(
    client: &Locality,
    endpoint: &Locality,
    failover: &[ringsail_api::networking::locality_load_balancer_setting::Failover],
) -> u32 {
    if client.region == endpoint.region {
        return match (client.zone == endpoint.zone, client.subzone == endpoint.subzone) {
            (true, true) => 0,
            (true, false) => 1,
            (false, _) => 2,
        };
    }
    match failover.iter().find(|rule| rule.from == client.region) {
        Some(rule) if rule.to != endpoint.region => 4,
        _ => 3,
    }
}

fn by_labels<'a>(
    keys: &[&str],
    groups: BTreeMap<&'a Locality, Vec<&'a Endpoint>>,
    client: &Client,
) -> Vec<Group<'a>> {
    let mut split: BTreeMap<(u32, &'a Locality), Vec<&'a Endpoint>> = BTreeMap::new();
    for (locality, endpoints) in groups {
        for endpoint in endpoints {
            let agreed = keys.iter().take_while(|key| agrees(key, endpoint, client)).count();
            split.entry(((keys.len() - agreed) as u32, locality)).or_default().push(endpoint);
        }
    }
    split.into_iter().map(|((priority, locality), endpoints)| group(locality, endpoints, priority)).collect()
}

/// `key` asks for the client's own value, `key=value` for a fixed one. Topology keys are read from where the workload
/// runs, not from its labels.
fn agrees(key: &str, endpoint: &Endpoint, client: &Client) -> bool {
    let workload = &endpoint.workload;
    let own = |key: &str| match key {
        "topology.istio.io/network" => Some(workload.network.as_str()),
        "topology.istio.io/cluster" => Some(workload.cluster.as_str()),
        "topology.kubernetes.io/region" => Some(endpoint.locality.region.as_str()),
        "topology.kubernetes.io/zone" => Some(endpoint.locality.zone.as_str()),
        "topology.istio.io/subzone" => Some(endpoint.locality.subzone.as_str()),
        "kubernetes.io/hostname" => Some(workload.node.as_str()),
        other => workload.labels.get(other).map(String::as_str),
    };
    let wanted = |key: &str| match key {
        "topology.istio.io/network" => Some(client.network.as_str()),
        "topology.istio.io/cluster" => Some(client.cluster.as_str()),
        "topology.kubernetes.io/region" => Some(client.locality.region.as_str()),
        "topology.kubernetes.io/zone" => Some(client.locality.zone.as_str()),
        "topology.istio.io/subzone" => Some(client.locality.subzone.as_str()),
        "kubernetes.io/hostname" => Some(client.node.as_str()),
        other => client.labels.get(other).map(String::as_str),
    };
    match key.split_once('=') {
        Some((key, value)) => own(key) == Some(value),
        None => own(key) == wanted(key),
    }
}

/// Weights of the rule that covers the client; localities it does not name get no traffic.
fn distribute<'a>(
    setting: &LocalityLoadBalancerSetting,
    groups: BTreeMap<&'a Locality, Vec<&'a Endpoint>>,
    client: &Client,
) -> Vec<Group<'a>> {
    let all = groups.into_iter().map(|(locality, endpoints)| group(locality, endpoints, 0));
    let Some(rule) = setting.distribute.iter().find(|rule| client.locality.matches(&rule.from)) else {
        return all.collect();
    };
    let mut groups: Vec<(Group<'a>, Option<&str>)> = all
        .map(|group| {
            let to = rule.to.keys().find(|to| group.locality.matches(to)).map(String::as_str);
            (group, to)
        })
        .collect();
    for (to, share) in &rule.to {
        let matched = |entry: &(Group<'_>, Option<&str>)| entry.1 == Some(to.as_str());
        let total: u64 = groups.iter().filter(|entry| matched(entry)).map(|(g, _)| u64::from(g.weight)).sum();
        for (group, _) in groups.iter_mut().filter(|entry| matched(entry)) {
            let weight = (u64::from(group.weight) * u64::from(*share)).div_ceil(total.max(1));
            group.weight = u32::try_from(weight).unwrap_or(u32::MAX).max(1);
        }
    }
    groups.into_iter().filter(|(_, to)| to.is_some()).map(|(group, _)| group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_locality_comes_first_and_failover_orders_the_rest() {
        let failover = [ringsail_api::networking::locality_load_balancer_setting::Failover {
            from: "eu".into(),
            to: "us".into(),
        }];
        let client = Locality::parse("eu/a/1");
        let level = |text| nearness(&client, &Locality::parse(text), &failover);
        assert_eq!(["eu/a/1", "eu/a/2", "eu/b/1", "us/a/1", "ap/a/1"].map(level), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn failover_needs_outlier_detection_and_traffic_distribution_does_not() {
        let any = TrafficDistribution::Any;
        assert!(matches!(Preference::of(None, false, any), Preference::None));
        assert!(matches!(Preference::of(None, true, any), Preference::Nearest(_)));
        let zone = TrafficDistribution::PreferSameZone;
        assert!(matches!(Preference::of(None, false, zone), Preference::Labels(_)));
        let off = LocalityLoadBalancerSetting { enabled: Some(false), ..Default::default() };
        assert!(matches!(Preference::of(Some(&off), true, any), Preference::None));
    }
}
