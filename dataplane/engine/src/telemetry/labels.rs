//! The text of a series' labels, made once per combination.

use std::borrow::Cow;

use ringsail_tables::istio::TagRule;
use ringsail_telemetry::ResponseFlags;
use ringsail_telemetry::istio::{Labels, Tag};

use super::chain::{Group, Reporter};
use super::{Local, Peer, Service};
use crate::tls::Facts;

/// What a route's name says about the service.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum RouteKind {
    /// Nothing.
    Usual,
    /// `block_all`: outside the mesh, and not allowed.
    Blocked,
    /// `allow_any`: outside the mesh.
    Allowed,
}

impl RouteKind {
    pub(super) fn of(route_name: &str) -> RouteKind {
        match route_name {
            "block_all" => RouteKind::Blocked,
            "allow_any" => RouteKind::Allowed,
            _ => RouteKind::Usual,
        }
    }
}

/// Everything label values are made of.
pub(super) struct Subject<'a> {
    pub(super) reporter: Reporter,
    pub(super) local: &'a Local,
    pub(super) downstream: Option<&'a Peer>,
    pub(super) upstream: Option<&'a Peer>,
    pub(super) service: Option<&'a Service>,
    /// The authority, where it may name the service.
    pub(super) host: Option<&'a str>,
    pub(super) route: RouteKind,
    pub(super) protocol: &'static str,
    pub(super) status: u16,
    /// Empty unless gRPC said how it ended.
    pub(super) grpc_status: &'a str,
    pub(super) flags: ResponseFlags,
    /// Values of the settings' expressions, by index.
    pub(super) values: &'a [String],
    /// Who proved to be whom.
    pub(super) principals: Principals<'a>,
}

/// The first URI names in the certificates of a call's two sides, on the connection that the reporter's side of a call
/// has with the other proxy; empty without TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Principals<'a> {
    pub(super) source: &'a str,
    pub(super) destination: &'a str,
}

impl<'a> Principals<'a> {
    /// Of a session whose peer was found good.
    pub(super) fn of(
        reporter: Reporter,
        downstream: Option<&'a Facts>,
        upstream: Option<&'a Facts>,
    ) -> Principals<'a> {
        let session = if reporter == Reporter::Source { upstream } else { downstream };
        let Some(session) = session else { return Principals::default() };
        let first = |facts: Option<&'a ringsail_tls::certificate::Facts>| {
            facts.and_then(|facts| facts.uri_names.first()).map_or("", String::as_str)
        };
        let (ours, theirs) =
            (first(session.local.as_ref().map(|local| local.facts())), first(session.trusted_peer()));
        match reporter {
            Reporter::Source => Principals { source: ours, destination: theirs },
            Reporter::Destination | Reporter::Waypoint => Principals { source: theirs, destination: ours },
        }
    }

    fn are_mutual(self) -> bool {
        !self.source.is_empty() && !self.destination.is_empty()
    }
}

const UNKNOWN: &str = "unknown";
const LATEST: &str = "latest";

fn or<'a>(value: Option<&'a str>, otherwise: &'static str) -> Cow<'a, str> {
    Cow::Borrowed(value.filter(|value| !value.is_empty()).unwrap_or(otherwise))
}

impl<'a> Subject<'a> {
    /// All labels of a group.
    pub(super) fn labels(&self, group: &Group) -> Labels {
        let value = |index: u32| self.values.get(index as usize).map_or(UNKNOWN, String::as_str);
        let standard = Tag::ALL.into_iter().filter(|tag| tag.is_of(group.family)).filter_map(|tag| {
            let text: Box<str> = match group.rule(tag) {
                Some(TagRule::Remove) => return None,
                Some(TagRule::Expression(index)) => value(index).into(),
                None => (&*self.value(tag)).into(),
            };
            Some((Cow::Borrowed(tag.name()), text))
        });
        let added = group.added().map(|(name, index)| (name, value(index).into()));
        standard.chain(added).collect()
    }

    /// The workload on the other side: the client's for a server's proxy, the server's for a client's.
    fn peer(&self) -> Option<&'a Peer> {
        match self.reporter {
            Reporter::Source => self.upstream,
            Reporter::Destination | Reporter::Waypoint => self.downstream,
        }
    }

    /// Who answers, as far as it told us itself: what a waypoint reports.
    fn told_upstream(&self) -> Option<&'a Peer> {
        self.upstream.filter(|peer| peer.told)
    }

    fn value(&self, tag: Tag) -> Cow<'a, str> {
        let local = &self.local.workload;
        let source = self.reporter == Reporter::Source;
        // Each side of a call is us or the peer.
        let (from, to) = match self.reporter {
            Reporter::Source => (Some(local), self.peer().map(|peer| &peer.workload)),
            Reporter::Destination => (self.peer().map(|peer| &peer.workload), Some(local)),
            Reporter::Waypoint => {
                (self.peer().map(|peer| &peer.workload), self.told_upstream().map(|peer| &peer.workload))
            }
        };
        match tag {
            Tag::Reporter => match self.reporter {
                Reporter::Source => "source",
                Reporter::Destination => "destination",
                Reporter::Waypoint => "waypoint",
            }
            .into(),
            Tag::SourceWorkload => or(from.map(|w| w.name.as_str()), UNKNOWN),
            Tag::SourceCanonicalService => or(from.map(|w| w.canonical_service.as_str()), UNKNOWN),
            Tag::SourceCanonicalRevision => or(from.map(|w| w.canonical_revision.as_str()), LATEST),
            Tag::SourceWorkloadNamespace => or(from.map(|w| w.namespace.as_str()), UNKNOWN),
            Tag::SourcePrincipal => or(Some(self.principals.source), UNKNOWN),
            Tag::SourceApp => or(from.map(|w| w.app.as_str()), UNKNOWN),
            Tag::SourceVersion => or(from.map(|w| w.version.as_str()), UNKNOWN),
            Tag::SourceCluster => or(from.map(|w| w.cluster.as_str()), UNKNOWN),
            Tag::DestinationWorkload => or(to.map(|w| w.name.as_str()), UNKNOWN),
            Tag::DestinationWorkloadNamespace => or(to.map(|w| w.namespace.as_str()), UNKNOWN),
            // Compat: without TLS a client's proxy takes the peer's word for it.
            Tag::DestinationPrincipal if source && self.principals.destination.is_empty() => {
                or(self.told_upstream().map(|peer| peer.workload.identity.as_str()), UNKNOWN)
            }
            Tag::DestinationPrincipal => or(Some(self.principals.destination), UNKNOWN),
            Tag::DestinationApp => or(to.map(|w| w.app.as_str()), UNKNOWN),
            Tag::DestinationVersion => or(to.map(|w| w.version.as_str()), UNKNOWN),
            Tag::DestinationService => self.or_own_service(self.service_host()),
            Tag::DestinationCanonicalService => or(to.map(|w| w.canonical_service.as_str()), UNKNOWN),
            Tag::DestinationCanonicalRevision if self.reporter == Reporter::Waypoint => {
                or(to.map(|w| w.canonical_revision.as_str()), UNKNOWN)
            }
            Tag::DestinationCanonicalRevision => or(to.map(|w| w.canonical_revision.as_str()), LATEST),
            Tag::DestinationServiceName => self.or_own_service(self.service_name()),
            Tag::DestinationServiceNamespace => self.service_namespace(),
            Tag::DestinationCluster => or(to.map(|w| w.cluster.as_str()), UNKNOWN),
            Tag::RequestProtocol => self.protocol.into(),
            Tag::ResponseCode => self.status.to_string().into(),
            Tag::GrpcResponseStatus => self.grpc_status.into(),
            Tag::ResponseFlags => self.flags.to_string().into(),
            Tag::ConnectionSecurityPolicy if source => UNKNOWN.into(),
            Tag::ConnectionSecurityPolicy if self.principals.are_mutual() => "mutual_tls".into(),
            Tag::ConnectionSecurityPolicy => "none".into(),
        }
    }

    fn named(&self) -> Option<&'a [Box<str>; 3]> {
        let service = self.service.filter(|_| self.route == RouteKind::Usual)?;
        service.named.as_ref().filter(|_| service.catch_all.is_none())
    }

    fn service_host(&self) -> Option<&'a str> {
        self.named().map(|[host, ..]| &**host).filter(|host| !host.is_empty()).or(self.host)
    }

    fn service_name(&self) -> Option<&'a str> {
        match self.route {
            RouteKind::Blocked => return Some("BlackHoleCluster"),
            RouteKind::Allowed => return Some("PassthroughCluster"),
            RouteKind::Usual => {}
        }
        if let Some(cluster) = self.service.and_then(|service| service.catch_all.as_deref()) {
            return Some(cluster);
        }
        self.named().map(|[_, name, _]| &**name).filter(|name| !name.is_empty()).or(self.host)
    }

    /// A server's proxy knows at least what it is.
    fn or_own_service(&self, value: Option<&'a str>) -> Cow<'a, str> {
        let own = &self.local.workload.canonical_service;
        let value = value.or((self.reporter == Reporter::Destination).then_some(own.as_str()));
        or(value, UNKNOWN)
    }

    fn service_namespace(&self) -> Cow<'a, str> {
        let own = &self.local.workload.namespace;
        let named =
            self.named().map(|[.., namespace]| &**namespace).filter(|namespace| !namespace.is_empty());
        let value = match self.reporter {
            Reporter::Destination => Some(own.as_str()),
            Reporter::Waypoint => named,
            Reporter::Source => named.or(self.peer().map(|peer| peer.workload.namespace.as_str())),
        };
        or(value, UNKNOWN)
    }
}
