//! What a filter chain's configuration means for its metrics, settled once per version.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use ringsail_http::{EditError, Fields};
use ringsail_tables::filter_chain::{FilterChain, Terminal};
use ringsail_tables::hcm::HttpFilter;
use ringsail_tables::istio::{
    IstioStats, MetricOverride, PEER_HEADER, PEER_ID_HEADER, PeerMetadata, TagRule,
};
use ringsail_tables::listener::Direction;
use ringsail_telemetry::ShardRegistry;
use ringsail_telemetry::istio::{Family, IstioMetric, MetricSet, Tag};

use super::{Local, Peer, Service, Telemetry};

/// Telemetry of one version of a filter chain.
#[derive(Default)]
pub struct ChainTelemetry {
    /// Its metrics; `None` when none are produced.
    pub(super) stats: Option<Rc<StatsChain>>,
    /// How it makes itself known to peers.
    pub(crate) peers: Option<PeerHeaders>,
}

/// Which side a proxy reports for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reporter {
    Source,
    Destination,
    Waypoint,
}

/// Metrics of a chain. Chains with equal settings share one.
pub(super) struct StatsChain {
    /// Stands for it in keys.
    pub(super) number: u32,
    pub(super) reporter: Reporter,
    pub(super) settings: Arc<IstioStats>,
    pub(super) groups: Vec<Group>,
}

/// Metrics of one family that have the same labels.
pub(super) struct Group {
    pub(super) family: Family,
    pub(super) metrics: MetricSet,
    /// Deviations of its labels.
    pub(super) labels: Option<MetricOverride>,
}

impl Group {
    pub(super) fn rule(&self, tag: Tag) -> Option<TagRule> {
        let (_, rule) = self.labels.as_ref()?.tags.iter().find(|(name, _)| name == tag.name())?;
        Some(*rule)
    }

    /// Labels after the standard ones.
    pub(super) fn added(&self) -> impl Iterator<Item = (Cow<'static, str>, u32)> + '_ {
        let added = self.labels.iter().flat_map(|labels| labels.added.iter());
        added.map(|(name, index)| (Cow::Owned(name.to_string()), *index))
    }
}

/// How a chain tells peers who we are and learns who they are.
pub struct PeerHeaders {
    settings: Arc<PeerMetadata>,
    id: Rc<str>,
    value: Rc<str>,
}

impl ChainTelemetry {
    /// For a chain of a listener with this direction.
    pub fn new(
        telemetry: &Telemetry,
        registry: &ShardRegistry,
        local: &Local,
        direction: Direction,
        chain: &FilterChain,
    ) -> ChainTelemetry {
        let (stats, peers) = match &chain.terminal {
            Terminal::Http(manager) => {
                let filter = manager.filters.iter().find_map(|filter| match filter {
                    HttpFilter::PeerMetadata(settings) => Some(settings),
                    _ => None,
                });
                (manager.stats.as_ref(), filter)
            }
            Terminal::Tcp(_) => (chain.stats.as_ref(), None),
        };
        ChainTelemetry {
            stats: stats.map(|settings| telemetry.stats_chain(registry, local, direction, settings)),
            peers: peers.map(|settings| PeerHeaders {
                settings: settings.clone(),
                id: local.node_id.as_str().into(),
                value: local.workload.to_header(&settings.additional_labels).into(),
            }),
        }
    }

    /// Whether any metric is produced.
    pub fn produces(&self) -> bool {
        self.stats.is_some()
    }
}

impl Telemetry {
    fn stats_chain(
        &self,
        registry: &ShardRegistry,
        local: &Local,
        direction: Direction,
        settings: &Arc<IstioStats>,
    ) -> Rc<StatsChain> {
        let reporter = match (settings.waypoint, direction) {
            (true, _) => Reporter::Waypoint,
            (false, Direction::Inbound) => Reporter::Destination,
            (false, Direction::Outbound | Direction::Unspecified) => Reporter::Source,
        };
        let mut all = self.stats.borrow_mut();
        let known = all.iter().find(|known| known.reporter == reporter && known.settings == *settings);
        if let Some(known) = known {
            return known.clone();
        }
        if all.is_empty() {
            registry.istio().announce(if local.version.is_empty() { "unknown" } else { &local.version });
        }
        let number = all.iter().map(|stats| stats.number).max().unwrap_or(0) + 1;
        // A number that was let go of may be given again: what it stood for is forgotten.
        self.forget_keys();
        let new =
            Rc::new(StatsChain { number, reporter, settings: settings.clone(), groups: groups(settings) });
        all.push(new.clone());
        new
    }
}

/// Metrics by equal labels. Without overrides, one group per family.
fn groups(settings: &IstioStats) -> Vec<Group> {
    let overrides = settings.overrides.as_deref();
    let of =
        |metric: IstioMetric| overrides?.metrics.iter().find(|entry| entry.metric == metric.config_name());
    let mut groups: Vec<(Family, Option<MetricOverride>, Vec<IstioMetric>)> = Vec::new();
    for metric in IstioMetric::ALL {
        let rules = of(metric);
        if rules.is_some_and(|rules| rules.dropped) {
            continue;
        }
        let same = |known: &Option<MetricOverride>| match (known, rules) {
            (None, None) => true,
            (Some(known), Some(rules)) => known.tags == rules.tags && known.added == rules.added,
            _ => false,
        };
        let found = groups.iter_mut().find(|(family, known, _)| *family == metric.family() && same(known));
        match found {
            Some((_, _, metrics)) => metrics.push(metric),
            None => groups.push((metric.family(), rules.cloned(), vec![metric])),
        }
    }
    groups
        .into_iter()
        .map(|(family, labels, metrics)| Group { family, labels, metrics: metrics.into_iter().collect() })
        .collect()
}

/// What a request said about its sender.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told {
    id: bool,
    value: bool,
}

impl PeerHeaders {
    /// Learns the downstream from a request's headers, and takes them away; what was there decides the answer.
    pub(crate) fn learn_downstream(
        &self,
        telemetry: &Telemetry,
        fields: &mut Fields,
        text: &mut Vec<u8>,
    ) -> (Option<Rc<Peer>>, Told) {
        if !self.settings.downstream_headers {
            return (None, Told::default());
        }
        take(telemetry, fields, text)
    }

    /// Tells the upstream who calls, unless it is not to know.
    pub(crate) fn tell_upstream(
        &self,
        service: Option<&Service>,
        fields: &mut Fields,
    ) -> Result<(), EditError> {
        let Some(send) = self.settings.send_headers else { return Ok(()) };
        let spared =
            |service: &Service| service.without_peers || send.skip_external_clusters && service.external;
        if service.is_some_and(spared) {
            return Ok(());
        }
        fields.set(PEER_ID_HEADER, self.id.as_bytes())?;
        fields.set(PEER_HEADER, self.value.as_bytes())
    }

    /// Learns the upstream from an answer's headers, takes them away, and tells a downstream that asked who answers.
    pub(crate) fn settle_answer(
        &self,
        telemetry: &Telemetry,
        told: Told,
        fields: &mut Fields,
        text: &mut Vec<u8>,
    ) -> Result<Option<Rc<Peer>>, EditError> {
        let mut upstream = None;
        if self.settings.upstream_headers {
            upstream = take(telemetry, fields, text).0;
        }
        if self.settings.answer_headers {
            if told.id {
                fields.set(PEER_ID_HEADER, self.id.as_bytes())?;
            }
            if told.value {
                fields.set(PEER_HEADER, self.value.as_bytes())?;
            }
        }
        Ok(upstream)
    }
}

fn take(telemetry: &Telemetry, fields: &mut Fields, text: &mut Vec<u8>) -> (Option<Rc<Peer>>, Told) {
    let (id, value) = (fields.get(PEER_ID_HEADER), fields.get(PEER_HEADER));
    let told = Told { id: id.is_some(), value: value.is_some() };
    if !told.id && !told.value {
        return (None, told);
    }
    let peer = telemetry.peers.of_headers(id.unwrap_or_default(), value.unwrap_or_default(), text);
    fields.remove(PEER_ID_HEADER);
    fields.remove(PEER_HEADER);
    (peer, told)
}
