//! Access control: what is known of a call, and what follows from the rules.

use ringsail_tables::Request;
use ringsail_tables::metadata::Metadata;
use ringsail_tables::rbac::{Decision, Peer, RbacFilter, Subject};

use crate::connection::Connection;
use crate::headers::request::Origin;

/// What is known of a connection; it stands for its requests where nothing else is said.
pub fn of_connection(connection: &Connection) -> Subject<'_> {
    let source = connection.peer.map(|peer| peer.ip());
    let tls = connection.stream.tls();
    let peer = tls.and_then(|tls| tls.trusted_peer()).map(|certificate| Peer {
        uris: &certificate.uri_names,
        dns: &certificate.dns_names,
        subject: &certificate.subject,
    });
    Subject {
        destination: connection.local,
        direct_remote: connection.direct_peer.map(|peer| peer.ip()),
        source,
        remote: source,
        server_name: connection.sniffed.server_name(),
        secured: tls.is_some(),
        peer,
        route_metadata: None,
    }
}

/// What is known of a request.
pub fn of_request<'a>(
    connection: &'a Connection,
    origin: Origin,
    route_metadata: Option<&'a Metadata>,
) -> Subject<'a> {
    let subject = of_connection(connection);
    let client = origin.client.map(|client| client.ip());
    Subject { remote: client.or(subject.remote), route_metadata, ..subject }
}

/// What the rules say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Verdict<'t> {
    /// Of those that are enforced.
    pub enforced: Option<Decision<'t>>,
    /// Of those on trial.
    pub shadow: Option<Decision<'t>>,
}

/// Asks both sets of rules.
pub fn judge<'t>(filter: &'t RbacFilter, request: &impl Request, subject: &Subject<'_>) -> Verdict<'t> {
    Verdict {
        enforced: filter.rules.as_ref().map(|rules| rules.decide(request, subject)),
        shadow: filter.shadow.as_ref().map(|rules| rules.decide(request, subject)),
    }
}

impl Verdict<'_> {
    /// The details of the refusal, if it is one: `rbac_access_denied_matched_policy[…]`, as Envoy writes them.
    pub fn refusal(&self) -> Option<String> {
        let decision = self.enforced.filter(|decision| !decision.allowed)?;
        let policy = decision.policy.map_or("none", |policy| &policy.name);
        // Compat: details have no white space.
        let policy: String = policy.chars().map(|c| if c.is_ascii_whitespace() { '_' } else { c }).collect();
        Some(format!("rbac_access_denied_matched_policy[{policy}]"))
    }
}
