//! The control plane's half: what a client wants, what it has, and what is therefore to be sent.
//!
//! One [`Server`] per stream. Its owner decides *when* to push and hands in the resources; the half decides *what* of
//! them the client lacks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::{Interest, Request, Resource, Response, Variant, WILDCARD, is_complete_in_state_of_the_world};
use crate::envoy::config::core::v3::Node;
use crate::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
    Resource as WireResource,
};
use crate::limits::{NAMES_MAX, OUTSTANDING_MAX, TYPES_MAX};

/// What a request meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The type it is about.
    pub type_url: String,
    /// It answers a response.
    pub answer: Option<Answer>,
    /// The client waits for a response: push now, even if nothing changed.
    pub respond: bool,
    /// Names the client has come to want; [`WILDCARD`] for everything.
    pub added: Vec<String>,
    /// Names it no longer wants.
    pub removed: Vec<String>,
}

/// What became of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// In use.
    Ack {
        /// Nonce of the response.
        nonce: String,
    },
    /// Refused, at least in part.
    Nack {
        /// Nonce of the response.
        nonce: String,
        /// The client's words.
        error: String,
    },
    /// About a response that is not the last one, or not of this stream: it changes nothing.
    Stale {
        /// The nonce it carried.
        nonce: String,
    },
}

/// A request that a client in its right mind does not send. The stream is to be closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// It belongs to the other variant of the protocol.
    #[error("request of the other protocol variant")]
    OtherVariant,
    /// The first request of the stream does not say who asks.
    #[error("the first request carries no node")]
    NoNode,
    /// It does not say which type it is about.
    #[error("a request carries no type_url")]
    NoType,
    /// More types than [`TYPES_MAX`].
    #[error("more than {TYPES_MAX} resource types on one stream")]
    TooManyTypes,
    /// More names than [`NAMES_MAX`].
    #[error("more than {NAMES_MAX} names of one type")]
    TooManyNames,
}

/// What there is of a type, for this client.
#[derive(Clone, Copy, Debug)]
pub enum State<'a> {
    /// Exactly these resources exist. What the client has beyond them is removed.
    Complete(&'a [Arc<Resource>]),
    /// Some resources changed, some are gone, about the others nothing is said.
    Partial {
        /// New and changed ones.
        changed: &'a [Arc<Resource>],
        /// Names that are gone.
        removed: &'a [Arc<str>],
    },
}

/// Where a client stands with a type: the row of a sync table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Nonce of the last response sent; empty before the first.
    pub nonce_sent: String,
    /// Nonce of the last response accepted.
    pub nonce_acked: String,
    /// Version of the last response sent.
    pub version_sent: String,
    /// Version of the last response accepted.
    pub version_acked: String,
    /// The client's words, if its last answer was a refusal.
    pub error: Option<String>,
}

#[derive(Debug, Default)]
struct Watch {
    wanted: Interest,
    /// Versions by name of what the client holds, as far as it said or was sent.
    sent: BTreeMap<Arc<str>, Arc<str>>,
    /// Names that have to be sent again even if the version is the same, or answered as gone.
    owed: BTreeSet<String>,
    /// The client waits for a response to its subscription.
    respond: bool,
    /// Responses without an answer, oldest first: nonce and version.
    outstanding: VecDeque<(String, String)>,
    progress: Progress,
}

/// The server half of one aggregated stream.
#[derive(Debug)]
pub struct Server {
    variant: Variant,
    node: Option<Node>,
    watches: BTreeMap<String, Watch>,
    nonce_count: u64,
    /// Makes nonces of different streams different.
    nonce_prefix: String,
}

impl Server {
    /// A half for a new stream. `stream` distinguishes its nonces from other streams'.
    pub fn new(variant: Variant, stream: u64) -> Server {
        Server {
            variant,
            node: None,
            watches: BTreeMap::new(),
            nonce_count: 0,
            nonce_prefix: format!("{stream:x}-"),
        }
    }

    /// Who the client says it is, once it has spoken.
    pub fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    /// Types the client has asked for, in alphabetical order.
    pub fn types(&self) -> impl Iterator<Item = &str> {
        self.watches.iter().filter(|(_, watch)| !watch.wanted.is_empty()).map(|(name, _)| name.as_str())
    }

    /// What the client wants of a type.
    pub fn interest(&self, type_url: &str) -> Option<&Interest> {
        self.watches.get(type_url).map(|watch| &watch.wanted)
    }

    /// Where the client stands with a type.
    pub fn progress(&self, type_url: &str) -> Option<&Progress> {
        self.watches.get(type_url).map(|watch| &watch.progress)
    }

    /// Whether a response of this type has no answer yet. A caller that holds further pushes back until then has at
    /// most one in flight.
    pub fn awaits_answer(&self, type_url: &str) -> bool {
        self.watches.get(type_url).is_some_and(|watch| !watch.outstanding.is_empty())
    }

    /// Takes a request apart.
    ///
    /// # Errors
    /// On a request that breaks the protocol or a bound; the stream is to be closed.
    pub fn received(&mut self, request: Request) -> Result<Heard, Violation> {
        match (request, self.variant) {
            (Request::StateOfTheWorld(mut request), Variant::StateOfTheWorld) => {
                let watch = self.watch(request.node.take(), &request.type_url)?;
                received_sotw(watch, request)
            }
            (Request::Delta(mut request), Variant::Delta) => {
                let watch = self.watch(request.node.take(), &request.type_url)?;
                received_delta(watch, request)
            }
            (Request::StateOfTheWorld(_), Variant::Delta) | (Request::Delta(_), Variant::StateOfTheWorld) => {
                Err(Violation::OtherVariant)
            }
        }
    }

    fn watch(&mut self, node: Option<Node>, type_url: &str) -> Result<&mut Watch, Violation> {
        match (&self.node, node) {
            (None, None) => return Err(Violation::NoNode),
            (None, node) => self.node = node,
            // Later nodes say the same; a client does not become another one.
            (Some(_), _) => {}
        }
        if type_url.is_empty() {
            return Err(Violation::NoType);
        }
        if !self.watches.contains_key(type_url) && self.watches.len() >= TYPES_MAX {
            return Err(Violation::TooManyTypes);
        }
        Ok(self.watches.entry(type_url.to_string()).or_default())
    }

    /// Makes the next push of a type hold these resources again, changed or not, as far as the client wants and has
    /// them. For resources that the client forgets when another one changes: Envoy warms a replaced cluster until
    /// its endpoints arrive once more.
    pub fn resend<N: Into<String>>(&mut self, type_url: &str, names: impl IntoIterator<Item = N>) {
        let Some(watch) = self.watches.get_mut(type_url) else { return };
        let known = names.into_iter().map(Into::into).filter(|name| watch.sent.contains_key(name.as_str()));
        watch.owed.extend(known);
    }

    /// The response that brings the client to `state`, or nothing if it is there, is not interested, or owes too many
    /// answers. `version` names the whole state, for humans.
    pub fn push(&mut self, type_url: &str, version: &str, state: State<'_>) -> Option<Response> {
        let watch = self.watches.get_mut(type_url)?;
        if watch.wanted.is_empty() || watch.outstanding.len() >= OUTSTANDING_MAX {
            return None;
        }
        let (changed, removed) = difference(watch, state);
        let whole = self.variant == Variant::StateOfTheWorld && is_complete_in_state_of_the_world(type_url);
        let response_needed = watch.respond
            || !changed.is_empty()
            || !removed.is_empty() && (self.variant == Variant::Delta || whole);
        for name in &removed {
            watch.sent.remove(name);
        }
        if !response_needed {
            return None;
        }
        let resources = match state {
            // A complete response is all or nothing.
            State::Complete(all) if whole => {
                all.iter().filter(|one| watch.wanted.covers(&one.name)).collect()
            }
            State::Complete(_) | State::Partial { .. } => changed,
        };
        for resource in &resources {
            watch.sent.insert(resource.name.clone(), resource.version.clone());
        }
        watch.respond = false;
        watch.owed.clear();
        self.nonce_count += 1;
        let nonce = format!("{}{}", self.nonce_prefix, self.nonce_count);
        watch.progress.nonce_sent.clone_from(&nonce);
        watch.progress.version_sent = version.to_string();
        watch.outstanding.push_back((nonce.clone(), version.to_string()));
        Some(match self.variant {
            Variant::StateOfTheWorld => Response::StateOfTheWorld(DiscoveryResponse {
                version_info: version.to_string(),
                resources: resources.into_iter().map(|resource| resource.body.clone()).collect(),
                type_url: type_url.to_string(),
                nonce,
                ..DiscoveryResponse::default()
            }),
            Variant::Delta => Response::Delta(DeltaDiscoveryResponse {
                system_version_info: version.to_string(),
                resources: resources.into_iter().map(|resource| wire(resource)).collect(),
                removed_resources: removed.iter().map(|name| name.to_string()).collect(),
                type_url: type_url.to_string(),
                nonce,
                ..DeltaDiscoveryResponse::default()
            }),
        })
    }
}

fn wire(resource: &Resource) -> WireResource {
    WireResource {
        name: resource.name.to_string(),
        version: resource.version.to_string(),
        resource: Some(resource.body.clone()),
        ..WireResource::default()
    }
}

/// What of `state` the client lacks, and what it has that is gone.
fn difference<'a>(watch: &Watch, state: State<'a>) -> (Vec<&'a Arc<Resource>>, Vec<Arc<str>>) {
    let lacks = |resource: &&'a Arc<Resource>| {
        watch.wanted.covers(&resource.name)
            && (watch.owed.contains(&*resource.name)
                || watch
                    .sent
                    .get(&resource.name)
                    .is_none_or(|held| held.is_empty() || *held != resource.version))
    };
    match state {
        State::Complete(all) => {
            let exist: BTreeSet<&str> = all.iter().map(|resource| &*resource.name).collect();
            let mut gone: BTreeSet<Arc<str>> =
                watch.sent.keys().filter(|name| !exist.contains(&***name)).cloned().collect();
            // A name asked for that does not exist is answered as gone; silence would leave the client waiting.
            gone.extend(
                watch
                    .owed
                    .iter()
                    .filter(|name| !exist.contains(name.as_str()))
                    .map(|name| name.as_str().into()),
            );
            (all.iter().filter(lacks).collect(), gone.into_iter().collect())
        }
        State::Partial { changed, removed } => {
            let gone = removed.iter().filter(|name| watch.sent.contains_key(*name)).cloned().collect();
            (changed.iter().filter(lacks).collect(), gone)
        }
    }
}

fn received_sotw(watch: &mut Watch, request: DiscoveryRequest) -> Result<Heard, Violation> {
    let mut heard = nothing_heard(request.type_url);
    let first = request.response_nonce.is_empty();
    if !first {
        // An answer to an earlier response says nothing, not even about the names: the answer to the last one will.
        if watch.progress.nonce_sent != request.response_nonce {
            heard.answer = Some(Answer::Stale { nonce: request.response_nonce });
            return Ok(heard);
        }
        let error = request.error_detail.map(|status| status.message);
        heard.answer = answered(watch, request.response_nonce, error);
    }
    if request.resource_names.len() > NAMES_MAX {
        return Err(Violation::TooManyNames);
    }
    let mut names: BTreeSet<String> = request.resource_names.into_iter().collect();
    let mut wildcard = names.remove(WILDCARD);
    // No names: everything, if names were never given. Later it means that nothing is wanted any more.
    if names.is_empty() && !wildcard {
        wildcard = watch.wanted.wildcard || first && watch.wanted.names.is_empty();
    }
    let wanted = Interest { wildcard, names };
    heard.added = wanted.names.difference(&watch.wanted.names).cloned().collect();
    heard.removed = watch.wanted.names.difference(&wanted.names).cloned().collect();
    if wanted.wildcard && !watch.wanted.wildcard {
        heard.added.insert(0, WILDCARD.to_string());
    }
    if watch.wanted.wildcard && !wanted.wildcard {
        heard.removed.insert(0, WILDCARD.to_string());
    }
    if first {
        // A new subscription: the client may have lost everything.
        watch.sent.clear();
    }
    watch.sent.retain(|name, _| wanted.covers(name));
    watch.owed.retain(|name| wanted.covers(name));
    watch.owed.extend(heard.added.iter().filter(|name| *name != WILDCARD).cloned());
    watch.wanted = wanted;
    heard.respond = (first || !heard.added.is_empty()) && !watch.wanted.is_empty();
    watch.respond |= heard.respond;
    Ok(heard)
}

fn received_delta(watch: &mut Watch, request: DeltaDiscoveryRequest) -> Result<Heard, Violation> {
    let mut heard = nothing_heard(request.type_url);
    let answers = !request.response_nonce.is_empty();
    if answers {
        let error = request.error_detail.map(|status| status.message);
        heard.answer = answered(watch, request.response_nonce, error);
    }
    // Compat: Envoy may put a subscription change into an answer; it counts as well, whatever the nonce.
    let mut subscribe: BTreeSet<String> = request.resource_names_subscribe.into_iter().collect();
    let unsubscribe: BTreeSet<String> = request.resource_names_unsubscribe.into_iter().collect();
    let untouched = watch.wanted.is_empty() && watch.progress.nonce_sent.is_empty();
    if untouched && subscribe.is_empty() && unsubscribe.is_empty() && !answers {
        subscribe.insert(WILDCARD.to_string());
    }
    if watch.wanted.names.len() + subscribe.len() > NAMES_MAX
        || request.initial_resource_versions.len() > NAMES_MAX
    {
        return Err(Violation::TooManyNames);
    }
    for name in unsubscribe {
        let known = if name == WILDCARD {
            std::mem::take(&mut watch.wanted.wildcard)
        } else {
            watch.wanted.names.remove(&name)
        };
        if known {
            heard.removed.push(name);
        }
    }
    let held = request.initial_resource_versions;
    for (name, version) in &held {
        watch.sent.insert(name.as_str().into(), version.as_str().into());
    }
    for name in subscribe {
        if name == WILDCARD {
            watch.wanted.wildcard = true;
        } else {
            // Subscribing again asks for the resource again; what the client says it holds it need not be sent.
            if !held.contains_key(&name) {
                watch.owed.insert(name.clone());
            }
            watch.wanted.names.insert(name.clone());
        }
        heard.added.push(name);
    }
    let wanted = &watch.wanted;
    watch.sent.retain(|name, _| wanted.covers(name));
    watch.owed.retain(|name| wanted.covers(name));
    heard.respond = !heard.added.is_empty();
    watch.respond |= heard.respond;
    Ok(heard)
}

fn nothing_heard(type_url: String) -> Heard {
    Heard { type_url, answer: None, respond: false, added: Vec::new(), removed: Vec::new() }
}

/// Records an answer, unless the client just repeats the nonce of the last one to change its names. Answers come in
/// the order of the responses, so one also stands for those before it.
fn answered(watch: &mut Watch, nonce: String, error: Option<String>) -> Option<Answer> {
    let Some(at) = watch.outstanding.iter().position(|(sent, _)| *sent == nonce) else {
        return (nonce != watch.progress.nonce_sent).then_some(Answer::Stale { nonce });
    };
    let (_, version) = watch.outstanding.drain(..=at).next_back().expect("the range holds the found element");
    watch.progress.error.clone_from(&error);
    Some(match error {
        Some(error) => Answer::Nack { nonce, error },
        None => {
            watch.progress.nonce_acked.clone_from(&nonce);
            watch.progress.version_acked = version;
            Answer::Ack { nonce }
        }
    })
}
