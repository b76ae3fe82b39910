//! TLS of filter chains and clusters: what they ask for. Keys and trusted certificates are named there and come as
//! secrets of their own, so that a rotated one changes no listener and no cluster.

use std::sync::Arc;

use hashbrown::HashMap;
use ringsail_tls::TicketKeys;
use ringsail_tls::certificate::Certificate;
use ringsail_tls::settings::{Alpn, ClientSettings, Parameters, ServerSettings};
use ringsail_tls::validation::{Rules, Validation};

use crate::metadata::{Metadata, Value};
use crate::strings::Str;

/// The secrets of one version, by name.
#[derive(Clone, Debug, Default)]
pub struct Secrets(pub(crate) HashMap<Str, Secret>);

/// One secret. Source: `envoy.extensions.transport_sockets.tls.v3.Secret`.
#[derive(Clone, Debug, PartialEq)]
pub enum Secret {
    /// A certificate with its key.
    Certificate(Arc<Certificate>),
    /// How a peer is judged.
    Validation(Arc<Rules>),
    /// Keys of session tickets.
    TicketKeys(TicketKeys),
    /// A secret of a kind that TLS does not use.
    Other,
}

impl Secrets {
    /// The secret of this name.
    pub fn secret(&self, name: &str) -> Option<&Secret> {
        self.0.get(name)
    }

    /// All secrets, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&Str, &Secret)> {
        self.0.iter()
    }
}

/// Something given in place, or the name of the secret that has it.
#[derive(Clone, Debug, PartialEq)]
pub enum Given<T> {
    /// In place.
    Here(T),
    /// By this secret.
    Named(Str),
}

/// How a peer is judged: what is given in place, with what a secret adds.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerRules {
    /// Given in place; the defaults of `combined_validation_context`.
    pub here: Rules,
    /// The secret that adds to it.
    pub secret: Option<Str>,
}

/// Keys of session tickets.
#[derive(Clone, Debug, PartialEq)]
pub enum Tickets {
    /// No tickets.
    None,
    /// Keys that only this process knows.
    Own(TicketKeys),
    /// Keys given in place or by a secret.
    Given(Given<TicketKeys>),
}

/// What both sides have in common. Source: `CommonTlsContext`.
#[derive(Clone, Debug, PartialEq)]
pub struct CommonTls {
    /// Stands for all of the configured message: two with the same ask the same of a peer.
    pub fingerprint: [u64; 2],
    /// Versions and algorithms.
    pub parameters: Parameters,
    /// Certificates.
    pub certificates: Box<[Given<Arc<Certificate>>]>,
    /// How the peer is judged.
    pub validation: Option<PeerRules>,
    /// Application protocols by preference.
    pub alpn: Alpn,
}

/// TLS of a filter chain. Source: `DownstreamTlsContext`.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerTls {
    /// What both sides have in common.
    pub common: CommonTls,
    /// Whether a client without a certificate is refused.
    pub client_certificate_required: bool,
    /// Keys of session tickets.
    pub tickets: Tickets,
    /// Takes ciphers in the client's order.
    pub client_cipher_order: bool,
}

/// TLS towards a cluster's endpoints. Source: `UpstreamTlsContext`.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientTls {
    /// What both sides have in common.
    pub common: CommonTls,
    /// The server name asked for.
    pub server_name: Option<Str>,
    /// Sessions kept for resumption.
    pub sessions_kept: u32,
}

/// Why settings cannot be made of what is configured and the secrets that are here.
pub type NotReady = String;

impl CommonTls {
    /// Names of the secrets it needs.
    pub fn secrets(&self) -> impl Iterator<Item = &Str> {
        let certificates = self.certificates.iter().filter_map(|given| match given {
            Given::Here(_) => None,
            Given::Named(name) => Some(name),
        });
        certificates.chain(self.validation.iter().filter_map(|rules| rules.secret.as_ref()))
    }

    fn certificates(&self, secrets: &Secrets) -> Result<Vec<Arc<Certificate>>, NotReady> {
        self.certificates
            .iter()
            .map(|given| match given {
                Given::Here(certificate) => Ok(certificate.clone()),
                Given::Named(name) => match secrets.secret(name) {
                    Some(Secret::Certificate(certificate)) => Ok(certificate.clone()),
                    Some(_) => Err(format!("secret {name:?} is no certificate")),
                    None => Err(format!("secret {name:?} is not here")),
                },
            })
            .collect()
    }

    fn validation(&self, secrets: &Secrets) -> Result<Option<Arc<Validation>>, NotReady> {
        let Some(rules) = &self.validation else { return Ok(None) };
        let all = match &rules.secret {
            None => rules.here.clone(),
            Some(name) => match secrets.secret(name) {
                Some(Secret::Validation(added)) => merged(&rules.here, added),
                Some(_) => return Err(format!("secret {name:?} is no validation context")),
                None => return Err(format!("secret {name:?} is not here")),
            },
        };
        Validation::new(all).map(|validation| Some(Arc::new(validation))).map_err(|error| error.to_string())
    }
}

/// Compat: as protobuf merges messages, which is how Envoy combines the two: lists grow, single values of `added` win.
fn merged(here: &Rules, added: &Rules) -> Rules {
    fn both<T: Clone>(a: &[T], b: &[T]) -> Vec<T> {
        a.iter().chain(b).cloned().collect()
    }
    Rules {
        trusted: if added.trusted.is_empty() { here.trusted.clone() } else { added.trusted.clone() },
        revocation_lists: added.revocation_lists.clone().or_else(|| here.revocation_lists.clone()),
        revocation_of_leaf_only: here.revocation_of_leaf_only || added.revocation_of_leaf_only,
        names: both(&here.names, &added.names),
        certificate_pins: both(&here.certificate_pins, &added.certificate_pins),
        key_pins: both(&here.key_pins, &added.key_pins),
        allow_expired: here.allow_expired || added.allow_expired,
        accept_untrusted: here.accept_untrusted || added.accept_untrusted,
        depth_max: added.depth_max.or(here.depth_max),
        hide_authorities: here.hide_authorities || added.hide_authorities,
    }
}

impl ServerTls {
    /// Names of the secrets it needs.
    pub fn secrets(&self) -> impl Iterator<Item = &Str> {
        let tickets = match &self.tickets {
            Tickets::Given(Given::Named(name)) => Some(name),
            Tickets::None | Tickets::Own(_) | Tickets::Given(Given::Here(_)) => None,
        };
        self.common.secrets().chain(tickets)
    }

    /// Settings with the secrets of one version.
    ///
    /// # Errors
    /// A secret is missing or does not fit.
    pub fn settings(&self, secrets: &Secrets) -> Result<ServerSettings, NotReady> {
        let tickets = match &self.tickets {
            Tickets::None => None,
            Tickets::Own(keys) | Tickets::Given(Given::Here(keys)) => Some(keys.clone()),
            Tickets::Given(Given::Named(name)) => match secrets.secret(name) {
                Some(Secret::TicketKeys(keys)) => Some(keys.clone()),
                Some(_) => return Err(format!("secret {name:?} holds no session ticket keys")),
                None => return Err(format!("secret {name:?} is not here")),
            },
        };
        Ok(ServerSettings {
            parameters: self.common.parameters.clone(),
            certificates: self.common.certificates(secrets)?,
            validation: self.common.validation(secrets)?,
            client_certificate_required: self.client_certificate_required,
            alpn: self.common.alpn.clone(),
            tickets,
            client_cipher_order: self.client_cipher_order,
        })
    }
}

impl ClientTls {
    /// Names of the secrets it needs.
    pub fn secrets(&self) -> impl Iterator<Item = &Str> {
        self.common.secrets()
    }

    /// Settings with the secrets of one version.
    ///
    /// # Errors
    /// A secret is missing or does not fit.
    pub fn settings(&self, secrets: &Secrets) -> Result<ClientSettings, NotReady> {
        Ok(ClientSettings {
            parameters: self.common.parameters.clone(),
            certificate: self.common.certificates(secrets)?.pop(),
            validation: self.common.validation(secrets)?,
            server_name: self.server_name.as_ref().map(|name| name.to_string()),
            alpn: self.common.alpn.clone(),
            sessions_kept: self.sessions_kept,
        })
    }
}

/// What connections to a cluster's endpoints are wrapped in. Source: `Cluster.transport_socket` and
/// `transport_socket_matches`.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Transports {
    /// Candidates in order: the first whose conditions an endpoint's metadata meets.
    pub matches: Box<[TransportMatch]>,
    /// For endpoints that none fits; `None` is plain TCP.
    pub default: Option<Arc<ClientTls>>,
}

/// One candidate.
#[derive(Clone, Debug, PartialEq)]
pub struct TransportMatch {
    /// What the endpoint's metadata under [`TRANSPORT_MATCH`] must hold.
    pub conditions: Box<[(Str, Value)]>,
    /// `None` is plain TCP.
    pub tls: Option<Arc<ClientTls>>,
}

/// The name space of endpoint metadata that [`TransportMatch`] looks at.
pub const TRANSPORT_MATCH: &str = "envoy.transport_socket_match";

impl Transports {
    /// The TLS for an endpoint with this metadata; `None` is plain TCP.
    pub fn of(&self, metadata: Option<&Metadata>) -> Option<&Arc<ClientTls>> {
        let own = metadata.and_then(|metadata| metadata.at(TRANSPORT_MATCH, &[]));
        let holds = |(key, wanted): &(Str, Value)| own.and_then(|own| own.field(key)) == Some(wanted);
        match self.matches.iter().find(|candidate| candidate.conditions.iter().all(holds)) {
            Some(candidate) => candidate.tls.as_ref(),
            None => self.default.as_ref(),
        }
    }

    /// All TLS among them.
    pub fn all(&self) -> impl Iterator<Item = &Arc<ClientTls>> {
        self.matches.iter().filter_map(|candidate| candidate.tls.as_ref()).chain(&self.default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(name: &str) -> Arc<ClientTls> {
        Arc::new(ClientTls {
            common: CommonTls {
                fingerprint: [0, 0],
                parameters: Parameters::default(),
                certificates: Box::default(),
                validation: None,
                alpn: Alpn::default(),
            },
            server_name: Some(Str::new(name)),
            sessions_kept: 1,
        })
    }

    fn endpoint(mode: &str) -> Metadata {
        let value = Value::object([(Str::new("tlsMode"), Value::String(Str::new(mode)))]);
        Metadata { namespaces: [(Str::new(TRANSPORT_MATCH), value)].into() }
    }

    #[test]
    fn the_first_candidate_whose_conditions_hold_is_taken() {
        let condition = (Str::new("tlsMode"), Value::String(Str::new("istio")));
        let transports = Transports {
            matches: [
                TransportMatch { conditions: [condition].into(), tls: Some(tls("istio")) },
                TransportMatch { conditions: Box::default(), tls: None },
            ]
            .into(),
            default: Some(tls("default")),
        };
        assert_eq!(transports.of(Some(&endpoint("istio"))), Some(&tls("istio")));
        assert_eq!(transports.of(Some(&endpoint("disabled"))), None);
        assert_eq!(transports.of(None), None, "no condition holds for everyone");
        let only_istio = Transports { matches: transports.matches[..1].into(), ..transports };
        assert_eq!(only_istio.of(None), Some(&tls("default")));
    }

    #[test]
    fn a_secret_adds_its_lists_and_replaces_single_values() {
        let here = Rules { certificate_pins: vec![[1; 32]], depth_max: Some(1), ..Rules::default() };
        let added = Rules { trusted: b"x"[..].into(), certificate_pins: vec![[2; 32]], ..Rules::default() };
        let merged = merged(&here, &added);
        assert_eq!(merged.certificate_pins, [[1; 32], [2; 32]]);
        assert_eq!((merged.depth_max, &merged.trusted[..]), (Some(1), &b"x"[..]));
    }
}
