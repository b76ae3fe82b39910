//! The proxy's half: which requests to send, and what the responses change.
//!
//! [`Client`] outlives streams. It remembers what is subscribed and which version of which resource was accepted;
//! after a reconnect the first requests say so, and a delta server need not send again what has not changed.
//!
//! ```text
//!                subscribe()                          received()
//!   unknown ──────────────────▶ wanted ─▶ requested ─────────────▶ answering ─▶ accept() / reject()
//!                                ▲  connected(): every wanted type again            │
//!                                └──────────────────────────────────────────────────┘ idle
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use prost::Message as _;

use super::{
    Interest, Request, Resource, Response, Variant, WILDCARD, cut, is_complete_in_state_of_the_world,
};
use crate::envoy::config::core::v3::Node;
use crate::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
    Resource as WireResource,
};
use crate::google::rpc::Status;
use crate::limits::NACK_TEXT_BYTES_MAX;

/// Code of the error detail in a NACK. Source: Envoy answers with gRPC's INTERNAL.
const NACK_CODE: i32 = 13;

/// What one response changes. Apply it, then answer with [`Client::accept`] or [`Client::reject`].
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// Type of all resources here.
    pub type_url: String,
    /// Version of the whole response, for humans.
    pub version: String,
    /// New or changed resources, and such that are sent again unchanged.
    pub changed: Vec<Resource>,
    /// Names that are gone.
    pub removed: Vec<String>,
    /// Parts of the response that could not be understood. [`Client::accept`] reports them in a NACK.
    pub problems: Vec<String>,
    nonce: String,
    stream: u64,
}

/// A response that changes nothing and must not be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// Nobody subscribed to its type.
    #[error("response of type {0:?} without a subscription")]
    NotSubscribed(String),
    /// It belongs to the other variant of the protocol.
    #[error("response of the other protocol variant")]
    OtherVariant,
}

/// State per type.
#[derive(Debug, Default)]
struct Watch {
    wanted: Interest,
    /// What the server of this stream was told. `None`: nothing yet.
    requested: Option<Interest>,
    /// What the caller was given, by name, at the version it accepted last: empty before that.
    given: BTreeMap<Arc<str>, Arc<str>>,
    /// Version of the last accepted response (state of the world).
    version: String,
    /// Nonce of the last answered response on this stream (state of the world).
    nonce: String,
    /// Responses received and not answered yet.
    unanswered: usize,
}

/// The client half of one aggregated stream at a time.
#[derive(Debug)]
pub struct Client {
    variant: Variant,
    node: Node,
    node_sent: bool,
    /// Number of the current stream. Answers to updates of an earlier one are not sent.
    stream: u64,
    connected: bool,
    watches: BTreeMap<String, Watch>,
    outbox: VecDeque<Request>,
}

impl Client {
    /// A client that has subscribed to nothing.
    pub fn new(variant: Variant, node: Node) -> Client {
        Client {
            variant,
            node,
            node_sent: false,
            stream: 0,
            connected: false,
            watches: BTreeMap::new(),
            outbox: VecDeque::new(),
        }
    }

    /// Which protocol it speaks.
    pub fn variant(&self) -> Variant {
        self.variant
    }

    /// Sets what is wanted of a type, in place of what was wanted before.
    pub fn subscribe(&mut self, type_url: &str, wanted: Interest) {
        let watch = self.watches.entry(type_url.to_string()).or_default();
        if watch.wanted == wanted {
            return;
        }
        watch.given.retain(|name, _| wanted.covers(name));
        watch.wanted = wanted;
        self.ask(type_url);
    }

    /// What is wanted of a type.
    pub fn interest(&self, type_url: &str) -> Option<&Interest> {
        self.watches.get(type_url).map(|watch| &watch.wanted)
    }

    /// Marks a resource as held although no stream brought it, so that a delta server can skip it.
    pub fn restore(&mut self, type_url: &str, name: Arc<str>, version: Arc<str>) {
        self.watches.entry(type_url.to_string()).or_default().given.insert(name, version);
    }

    /// A new stream stands. Everything wanted is asked for again.
    pub fn connected(&mut self) {
        self.stream += 1;
        self.connected = true;
        self.node_sent = false;
        self.outbox.clear();
        for watch in self.watches.values_mut() {
            watch.requested = None;
            watch.nonce.clear();
            watch.unanswered = 0;
        }
        // Compat: Envoy asks for clusters before anything else, and istiod prepares the push order by it.
        let mut types: Vec<String> = self.watches.keys().cloned().collect();
        types.sort_by_key(|name| {
            crate::type_url::TRAFFIC.iter().position(|known| known == name).unwrap_or(usize::MAX)
        });
        for type_url in types {
            self.ask(&type_url);
        }
    }

    /// The stream is gone. What was accepted stays.
    pub fn disconnected(&mut self) {
        self.connected = false;
        self.outbox.clear();
    }

    /// The next request to send.
    pub fn poll(&mut self) -> Option<Request> {
        self.outbox.pop_front()
    }

    /// Takes a response apart.
    ///
    /// # Errors
    /// When it answers nothing that was asked. It is dropped without an answer, as Envoy does.
    pub fn received(&mut self, response: Response) -> Result<Update, Ignored> {
        let type_url = response.type_url().to_string();
        let Some(watch) = self.watches.get_mut(&type_url).filter(|watch| watch.requested.is_some()) else {
            return Err(Ignored::NotSubscribed(type_url));
        };
        let update = match (response, self.variant) {
            (Response::StateOfTheWorld(response), Variant::StateOfTheWorld) => {
                sotw_update(watch, response, self.stream)
            }
            (Response::Delta(response), Variant::Delta) => delta_update(response, self.stream),
            (Response::StateOfTheWorld(_), Variant::Delta)
            | (Response::Delta(_), Variant::StateOfTheWorld) => {
                return Err(Ignored::OtherVariant);
            }
        };
        watch.unanswered += 1;
        // A stream may end before the answer: what the caller holds must still be known, to tell it what goes.
        for resource in update.changed.iter().filter(|resource| watch.wanted.covers(&resource.name)) {
            watch.given.entry(resource.name.clone()).or_default();
        }
        for name in &update.removed {
            watch.given.remove(name.as_str());
        }
        Ok(update)
    }

    /// The update is in use. Sends an ACK, or a NACK if parts of the response could not be understood.
    pub fn accept(&mut self, update: &Update) {
        self.answer(update, &[], update.problems.join("; "));
    }

    /// Some of the update's resources are refused, for the reason given; the others are in use. Sends a NACK.
    pub fn reject(&mut self, update: &Update, refused: &[&str], reason: &str) {
        let mut text = reason.to_string();
        for problem in &update.problems {
            text.push_str("; ");
            text.push_str(problem);
        }
        self.answer(update, refused, text);
    }

    fn answer(&mut self, update: &Update, refused: &[&str], error: String) {
        let Some(watch) = self.watches.get_mut(&update.type_url) else { return };
        for resource in &update.changed {
            let name: &str = &resource.name;
            // Removed or unsubscribed meanwhile: no longer there.
            if let Some(version) = watch.given.get_mut(name)
                && !refused.contains(&name)
            {
                version.clone_from(&resource.version);
            }
        }
        if error.is_empty() {
            watch.version.clone_from(&update.version);
        }
        // An answer belongs to the stream that asked for it.
        if update.stream != self.stream || !self.connected {
            return;
        }
        watch.unanswered = watch.unanswered.saturating_sub(1);
        let error_detail = (!error.is_empty()).then(|| Status {
            code: NACK_CODE,
            message: cut(&error, NACK_TEXT_BYTES_MAX).to_string(),
            details: Vec::new(),
        });
        match self.variant {
            Variant::StateOfTheWorld => {
                watch.nonce.clone_from(&update.nonce);
                watch.requested = Some(watch.wanted.clone());
                let request = sotw_request(&update.type_url, watch, error_detail);
                self.send(Request::StateOfTheWorld(request));
            }
            Variant::Delta => self.send(Request::Delta(DeltaDiscoveryRequest {
                type_url: update.type_url.clone(),
                response_nonce: update.nonce.clone(),
                error_detail,
                ..DeltaDiscoveryRequest::default()
            })),
        }
    }

    /// Tells the server what is wanted, unless it knows.
    fn ask(&mut self, type_url: &str) {
        if !self.connected {
            return;
        }
        let Some(watch) = self.watches.get_mut(type_url) else { return };
        // A first request without names would mean "everything".
        let known = watch.requested.clone();
        if known.as_ref() == Some(&watch.wanted) || known.is_none() && watch.wanted.is_empty() {
            return;
        }
        let request = match self.variant {
            // A request that names a response is an answer to it. While one is being worked on, its answer will
            // carry the new names; an earlier nonce would be ignored as stale.
            Variant::StateOfTheWorld if watch.unanswered > 0 => return,
            Variant::StateOfTheWorld => Request::StateOfTheWorld(sotw_request(type_url, watch, None)),
            Variant::Delta => Request::Delta(delta_subscription(type_url, watch, known.as_ref())),
        };
        watch.requested = Some(watch.wanted.clone());
        self.send(request);
    }

    fn send(&mut self, mut request: Request) {
        // Source: xDS protocol: only the first request of a stream must carry the node.
        if !self.node_sent {
            self.node_sent = true;
            match &mut request {
                Request::StateOfTheWorld(request) => request.node = Some(self.node.clone()),
                Request::Delta(request) => request.node = Some(self.node.clone()),
            }
        }
        self.outbox.push_back(request);
    }
}

fn sotw_request(type_url: &str, watch: &Watch, error_detail: Option<Status>) -> DiscoveryRequest {
    let mut resource_names: Vec<String> = watch.wanted.names.iter().cloned().collect();
    // Without names the old form of the wildcard does, which every server knows.
    if watch.wanted.wildcard && !resource_names.is_empty() {
        resource_names.insert(0, WILDCARD.to_string());
    }
    DiscoveryRequest {
        type_url: type_url.to_string(),
        version_info: watch.version.clone(),
        response_nonce: watch.nonce.clone(),
        resource_names,
        error_detail,
        ..DiscoveryRequest::default()
    }
}

/// Compat: istiod takes a subscription change with a nonce for a protocol error, so changes go in a request of their
/// own, without one.
fn delta_subscription(type_url: &str, watch: &Watch, known: Option<&Interest>) -> DeltaDiscoveryRequest {
    let none = Interest::default();
    let before = known.unwrap_or(&none);
    let wanted = &watch.wanted;
    let mut subscribe: Vec<String> = wanted.names.difference(&before.names).cloned().collect();
    let mut unsubscribe: Vec<String> = before.names.difference(&wanted.names).cloned().collect();
    // The first request of a type without names is the old form of the wildcard, which every server knows.
    let implied = known.is_none() && subscribe.is_empty();
    if wanted.wildcard && !before.wildcard && !implied {
        subscribe.insert(0, WILDCARD.to_string());
    }
    if before.wildcard && !wanted.wildcard {
        unsubscribe.insert(0, WILDCARD.to_string());
    }
    let initial_resource_versions = match known {
        Some(_) => BTreeMap::new(),
        None => watch.given.iter().map(|(name, version)| (name.to_string(), version.to_string())).collect(),
    };
    DeltaDiscoveryRequest {
        type_url: type_url.to_string(),
        resource_names_subscribe: subscribe,
        resource_names_unsubscribe: unsubscribe,
        initial_resource_versions,
        ..DeltaDiscoveryRequest::default()
    }
}

fn sotw_update(watch: &Watch, response: DiscoveryResponse, stream: u64) -> Update {
    let DiscoveryResponse { version_info, resources, type_url, nonce, .. } = response;
    let mut gathered = Gathered::new(&type_url);
    for any in resources {
        // A server may wrap a resource to give it a name and a time to live.
        if any.type_url == <WireResource as prost::Name>::type_url() {
            match WireResource::decode(any.value.as_slice()) {
                Ok(wrapped) => gathered.wrapped(wrapped),
                Err(error) => gathered.problems.push(format!("a wrapped resource cannot be read: {error}")),
            }
        } else {
            let name = name_in(&any.value).map(str::to_string);
            gathered.add(name, &version_info, any);
        }
    }
    let mut removed = Vec::new();
    // An unreadable resource has no name: what it stood for cannot be told from what is gone.
    if is_complete_in_state_of_the_world(&type_url) && watch.wanted.wildcard && gathered.problems.is_empty() {
        removed = watch
            .given
            .keys()
            .filter(|name| !gathered.names.contains(*name))
            .map(|name| name.to_string())
            .collect();
    }
    let Gathered { changed, problems, .. } = gathered;
    Update { type_url, version: version_info, changed, removed, problems, nonce, stream }
}

fn delta_update(response: DeltaDiscoveryResponse, stream: u64) -> Update {
    let DeltaDiscoveryResponse { system_version_info, resources, type_url, removed_resources, nonce, .. } =
        response;
    let mut gathered = Gathered::new(&type_url);
    for resource in resources {
        gathered.wrapped(resource);
    }
    let Gathered { changed, problems, names, .. } = gathered;
    // Envoy refuses a response that changes and removes one name; the newer meaning cannot be told, so it stays.
    let removed = removed_resources.into_iter().filter(|name| !names.contains(name.as_str())).collect();
    Update { type_url, version: system_version_info, changed, removed, problems, nonce, stream }
}

/// The resources of one response, with what is wrong among them.
struct Gathered<'a> {
    type_url: &'a str,
    changed: Vec<Resource>,
    names: BTreeSet<Arc<str>>,
    problems: Vec<String>,
}

impl<'a> Gathered<'a> {
    fn new(type_url: &'a str) -> Gathered<'a> {
        Gathered { type_url, changed: Vec::new(), names: BTreeSet::new(), problems: Vec::new() }
    }

    fn wrapped(&mut self, resource: WireResource) {
        match resource.resource {
            Some(body) => self.add(Some(resource.name), &resource.version, body),
            // A heartbeat prolongs a time to live. Compat: we keep resources until they are removed.
            None if resource.ttl.is_some() => {}
            None => self.problems.push(format!("resource {:?} has no body", resource.name)),
        }
    }

    fn add(&mut self, name: Option<String>, version: &str, body: prost_types::Any) {
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            self.problems.push("a resource has no name".to_string());
            return;
        };
        if body.type_url != self.type_url {
            self.problems.push(format!("resource {name:?} is of type {:?}", body.type_url));
            return;
        }
        let name: Arc<str> = name.into();
        if !self.names.insert(name.clone()) {
            self.problems.push(format!("resource {name:?} is there twice"));
            return;
        }
        self.changed.push(Resource { name, version: version.into(), body });
    }
}

/// The name of a resource that came without one: the string in field 1, where every resource type of xDS has it.
fn name_in(body: &[u8]) -> Option<&str> {
    use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
    let mut rest = body;
    while !rest.is_empty() {
        let (number, wire_type) = decode_key(&mut rest).ok()?;
        if number == 1 && wire_type == WireType::LengthDelimited {
            let len = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
            return std::str::from_utf8(rest.get(..len)?).ok();
        }
        skip_field(wire_type, number, &mut rest, DecodeContext::default()).ok()?;
    }
    None
}
