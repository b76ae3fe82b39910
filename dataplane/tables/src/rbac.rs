//! Role-based access control: who may do what. Source: `envoy.config.rbac.v3.RBAC`.
//!
//! What a policy allows ([`Policy::permissions`]) and to whom ([`Policy::principals`]) are both lists of [`Rule`]s of
//! which one has to hold. A rule that asks for something the call does not have (a header of a TCP connection, a
//! principal of a plaintext one) does not hold; its negation does.

use std::net::{IpAddr, SocketAddr};

use crate::address::Cidr;
use crate::metadata::Metadata;
use crate::path_template::PathTemplate;
use crate::request::{Request, split_path};
use crate::route::{HeaderMatch, MetadataMatch};
use crate::string_match::StringMatch;
use crate::strings::Str;

/// The filter on requests and on connections. Source: `envoy.extensions.filters.http.rbac.v3.RBAC`,
/// `envoy.extensions.filters.network.rbac.v3.RBAC`.
#[derive(Debug)]
pub struct RbacFilter {
    /// What is enforced; `None` lets everything pass.
    pub rules: Option<Rules>,
    /// What is only counted.
    pub shadow: Option<Rules>,
}

/// Policies with one action.
#[derive(Debug)]
pub struct Rules {
    /// What a policy that applies means.
    pub action: Action,
    /// In the order of their names, in which they are asked.
    pub policies: Box<[Policy]>,
}

/// Source: `RBAC.Action`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Only what a policy describes may pass; without policies nothing.
    Allow,
    /// What a policy describes may not pass.
    Deny,
    /// Everything passes; what a policy describes is marked for the log.
    Log,
}

/// A policy. It applies when one of the permissions and one of the principals hold.
#[derive(Debug)]
pub struct Policy {
    /// Its name; istiod's is `ns[<namespace>]-policy[<name>]-rule[<index>]`.
    pub name: Str,
    /// What it is about.
    pub permissions: Box<[Rule]>,
    /// Whom it is about.
    pub principals: Box<[Rule]>,
}

/// A condition. Source: `Permission` and `Principal`, which differ in a few members only.
#[derive(Debug)]
pub enum Rule {
    /// Always holds.
    Any,
    /// All of these hold.
    All(Box<[Rule]>),
    /// One of these holds.
    OneOf(Box<[Rule]>),
    /// This one does not.
    Not(Box<Rule>),
    /// A request header.
    Header(HeaderMatch),
    /// The path without query and fragment.
    Path(StringMatch),
    /// The path without query and fragment, by a template.
    PathTemplate(PathTemplate),
    /// Where the client connected to.
    DestinationIp(Cidr),
    /// The port the client connected to.
    DestinationPort(u16),
    /// The same in `start..end`.
    DestinationPorts {
        /// Smallest port.
        start: u32,
        /// First port beyond.
        end: u32,
    },
    /// Server name of the TLS handshake.
    ServerName(StringMatch),
    /// The peer of the socket.
    DirectRemoteIp(Cidr),
    /// The same, unless a PROXY header told another.
    SourceIp(Cidr),
    /// The client, as trusted `x-forwarded-for` entries tell it.
    RemoteIp(Cidr),
    /// The connection is secured by TLS; with a matcher, the peer proved this identity.
    Authenticated(Option<StringMatch>),
    /// The peer's identity as Istio's filters keep it (`io.istio.peer_principal`).
    PeerPrincipal(StringMatch),
    /// Dynamic metadata.
    Metadata(MetadataMatch),
    /// Metadata of the route.
    RouteMetadata(MetadataMatch),
}

/// What is known of a call besides its head.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subject<'a> {
    /// Where the client connected to, before it was redirected to us.
    pub destination: Option<SocketAddr>,
    /// Peer of the socket.
    pub direct_remote: Option<IpAddr>,
    /// The same, unless a PROXY header told another.
    pub source: Option<IpAddr>,
    /// The client.
    pub remote: Option<IpAddr>,
    /// Server name of the TLS handshake; empty when there was none.
    pub server_name: &'a str,
    /// Whether the connection is secured by TLS.
    pub secured: bool,
    /// The peer's certificate, if it showed one that was verified.
    pub peer: Option<Peer<'a>>,
    /// Metadata of the route; of a connection there is none.
    pub route_metadata: Option<&'a Metadata>,
}

/// Names in a verified certificate.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    /// URI subject alternative names, such as `spiffe://cluster.local/ns/foo/sa/bar`.
    pub uris: &'a [String],
    /// DNS subject alternative names.
    pub dns: &'a [String],
    /// The subject in RFC 2253 form.
    pub subject: &'a str,
}

/// What rules say of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision<'t> {
    /// Whether it may pass.
    pub allowed: bool,
    /// The policy that applies, whatever follows from it.
    pub policy: Option<&'t Policy>,
}

impl Rules {
    /// Asks the policies in order; the first that applies decides.
    pub fn decide(&self, request: &(impl Request + ?Sized), subject: &Subject<'_>) -> Decision<'_> {
        let policy = self.policies.iter().find(|policy| policy.applies(request, subject));
        let allowed = match self.action {
            Action::Allow => policy.is_some(),
            Action::Deny => policy.is_none(),
            Action::Log => true,
        };
        Decision { allowed, policy }
    }
}

impl Policy {
    fn applies(&self, request: &(impl Request + ?Sized), subject: &Subject<'_>) -> bool {
        let holds = |rules: &[Rule]| rules.iter().any(|rule| rule.holds(request, subject));
        holds(&self.permissions) && holds(&self.principals)
    }
}

impl PartialEq for Policy {
    fn eq(&self, other: &Policy) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Policy {}

impl Rule {
    /// Whether the call satisfies the condition.
    pub fn holds(&self, request: &(impl Request + ?Sized), subject: &Subject<'_>) -> bool {
        match self {
            Rule::Any => true,
            Rule::All(rules) => rules.iter().all(|rule| rule.holds(request, subject)),
            Rule::OneOf(rules) => rules.iter().any(|rule| rule.holds(request, subject)),
            Rule::Not(rule) => !rule.holds(request, subject),
            Rule::Header(header) => header.matches(request),
            Rule::Path(path) => match path_of(request) {
                "" => false,
                found => path.matches(found.as_bytes()),
            },
            Rule::PathTemplate(template) => template.matches(path_of(request)),
            Rule::DestinationIp(range) => subject.destination.is_some_and(|at| range.contains(at.ip())),
            Rule::DestinationPort(port) => subject.destination.is_some_and(|at| at.port() == *port),
            Rule::DestinationPorts { start, end } => {
                subject.destination.is_some_and(|at| (*start..*end).contains(&at.port().into()))
            }
            Rule::ServerName(name) => name.matches(subject.server_name.as_bytes()),
            Rule::DirectRemoteIp(range) => subject.direct_remote.is_some_and(|ip| range.contains(ip)),
            Rule::SourceIp(range) => subject.source.is_some_and(|ip| range.contains(ip)),
            Rule::RemoteIp(range) => subject.remote.is_some_and(|ip| range.contains(ip)),
            Rule::Authenticated(None) => subject.secured,
            Rule::Authenticated(Some(name)) => subject.peer.is_some_and(|peer| peer.is(name)),
            Rule::PeerPrincipal(name) => {
                let uri = subject.peer.and_then(|peer| peer.uris.first());
                uri.is_some_and(|uri| name.matches(uri.as_bytes()))
            }
            Rule::Metadata(condition) => condition.matches(request),
            Rule::RouteMetadata(condition) => {
                subject.route_metadata.is_some_and(|metadata| condition.matches_in(metadata))
            }
        }
    }
}

impl Peer<'_> {
    /// Compat: Envoy asks all URI names, then all DNS names, then the subject.
    fn is(&self, name: &StringMatch) -> bool {
        let one = |names: &[String]| names.iter().any(|found| name.matches(found.as_bytes()));
        one(self.uris) || one(self.dns) || name.matches(self.subject.as_bytes())
    }
}

fn path_of(request: &(impl Request + ?Sized)) -> &str {
    split_path(request.path()).path
}

/// The request of a connection that carries no requests.
#[derive(Clone, Copy, Debug)]
pub struct NoRequest;

impl Request for NoRequest {
    fn method(&self) -> &str {
        ""
    }
    fn authority(&self) -> &str {
        ""
    }
    fn path(&self) -> &str {
        ""
    }
    fn scheme(&self) -> &str {
        ""
    }
    fn header(&self, _name: &str, _nth: usize) -> Option<&[u8]> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, permission: Rule, principal: Rule) -> Policy {
        Policy {
            name: Str::new(name),
            permissions: Box::new([permission]),
            principals: Box::new([principal]),
        }
    }

    fn exact(text: &str) -> StringMatch {
        StringMatch::Exact(Str::new(text))
    }

    struct Get(&'static str);

    impl Request for Get {
        fn method(&self) -> &str {
            "GET"
        }
        fn authority(&self) -> &str {
            "a.example"
        }
        fn path(&self) -> &str {
            self.0
        }
        fn scheme(&self) -> &str {
            "http"
        }
        fn header(&self, _name: &str, _nth: usize) -> Option<&[u8]> {
            None
        }
    }

    #[test]
    fn without_policies_allow_refuses_everything_and_deny_nothing() {
        for (action, allowed) in [(Action::Allow, false), (Action::Deny, true), (Action::Log, true)] {
            let rules = Rules { action, policies: Box::default() };
            let decision = rules.decide(&Get("/"), &Subject::default());
            assert_eq!(decision, Decision { allowed, policy: None }, "{action:?}");
        }
    }

    #[test]
    fn the_first_policy_that_applies_is_named() {
        let policies = || {
            Box::new([
                policy("a", Rule::Path(exact("/a")), Rule::Any),
                policy("b", Rule::Any, Rule::Authenticated(None)),
                policy("c", Rule::Any, Rule::Any),
            ])
        };
        for (action, allowed) in [(Action::Allow, true), (Action::Deny, false), (Action::Log, true)] {
            let rules = Rules { action, policies: policies() };
            for (path, name) in [("/a?q#f", "a"), ("/b", "c")] {
                let decision = rules.decide(&Get(path), &Subject::default());
                let found = decision.policy.map(|policy| &*policy.name);
                assert_eq!((decision.allowed, found), (allowed, Some(name)), "{path}");
            }
        }
    }

    #[test]
    fn what_a_call_lacks_fails_a_rule_and_passes_its_negation() {
        let anywhere = Cidr::new(IpAddr::from([0, 0, 0, 0]), 0).unwrap();
        let rules = || {
            [
                Rule::Path(exact("/")),
                Rule::Header(HeaderMatch {
                    name: Str::new(":method"),
                    test: crate::route::HeaderTest::Present(true),
                    invert: false,
                    treat_missing_as_empty: false,
                }),
                Rule::DestinationIp(anywhere),
                Rule::DestinationPort(0),
                Rule::RemoteIp(anywhere),
                Rule::DirectRemoteIp(anywhere),
                Rule::SourceIp(anywhere),
                Rule::Authenticated(None),
                Rule::Authenticated(Some(StringMatch::Prefix(Str::new("")))),
                Rule::PeerPrincipal(StringMatch::Prefix(Str::new(""))),
            ]
        };
        for rule in rules() {
            assert!(!rule.holds(&NoRequest, &Subject::default()), "{rule:?}");
        }
        for rule in rules().map(|rule| Rule::Not(Box::new(rule))) {
            assert!(rule.holds(&NoRequest, &Subject::default()), "{rule:?}");
        }
    }

    #[test]
    fn an_identity_is_any_of_the_names_in_the_certificate() {
        let (uris, dns) = (["spiffe://d/ns/n/sa/s".to_string()], ["x.example".to_string()]);
        let peer = Peer { uris: &uris, dns: &dns, subject: "CN=y" };
        let subject = Subject { peer: Some(peer), ..Subject::default() };
        for (name, is) in [("spiffe://d/ns/n/sa/s", true), ("x.example", true), ("CN=y", true), ("y", false)]
        {
            assert_eq!(Rule::Authenticated(Some(exact(name))).holds(&NoRequest, &subject), is, "{name}");
        }
        assert!(Rule::PeerPrincipal(exact("spiffe://d/ns/n/sa/s")).holds(&NoRequest, &subject));
        assert!(!Rule::PeerPrincipal(exact("x.example")).holds(&NoRequest, &subject));
    }

    #[test]
    fn the_end_of_a_port_range_is_outside() {
        let at = |port| Subject { destination: Some(([10, 0, 0, 1], port).into()), ..Subject::default() };
        let rule = Rule::DestinationPorts { start: 80, end: 90 };
        let inside = [79, 80, 89, 90].map(|port| rule.holds(&NoRequest, &at(port)));
        assert_eq!(inside, [false, true, true, false]);
    }
}
