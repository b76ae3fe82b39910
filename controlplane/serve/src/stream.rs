//! One proxy's stream: requests in, responses out.
//!
//! ```text
//!   request ──▶ Server::received ──▶ answer recorded, or types to respond to
//!   newest snapshot changed ──▶ translate ──▶ every subscribed type is looked at
//!                                                │ in push order: CDS, EDS, LDS, RDS
//!                                                ▼
//!                         Server::push gives what the proxy lacks ──▶ response
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use ringsail_model::Proxy;
use ringsail_xds::envoy::config::core::v3::Node;
use ringsail_xds::protocol::server::{Answer, Heard, Server, State};
use ringsail_xds::protocol::{Request, Resource, Response, Variant};
use ringsail_xds::type_url;
use tokio::sync::{mpsc, watch};
use tonic::{Code, Status};

use crate::connections::Registration;
use crate::limits::FIRST_REQUEST_TIMEOUT;
use crate::metrics::short_name;
use crate::plane::{Plane, Published};

/// Where requests come from, without the variant's message types.
pub(crate) trait Requests: Send {
    /// The next request; `None` when the proxy has closed its side.
    fn next(&mut self) -> impl Future<Output = Result<Option<Request>, Status>> + Send;
}

/// Serves one stream until either side ends it. A returned status is what the proxy is told.
pub(crate) async fn serve(
    plane: Arc<Plane>,
    variant: Variant,
    mut requests: impl Requests,
    responses: mpsc::Sender<Response>,
) -> Result<(), Status> {
    let id = plane.connections.next_id();
    let mut server = Server::new(variant, id);
    let Some(first) = first_request(&mut requests).await? else { return Ok(()) };
    let node = node_of(&first).cloned().unwrap_or_default();
    let heard = received(&mut server, first)?;
    let proxy = Proxy::from_node(&node).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let registration = plane
        .connections
        .register(id, proxy, metadata_text(&node, "ISTIO_VERSION"))
        .ok_or_else(|| Status::resource_exhausted("too many proxies are connected; try another replica"))?;
    tracing::info!(proxy = node.id, variant = ?variant, "proxy connected");
    let mut stream = Stream {
        snapshots: plane.watch(),
        plane: &plane,
        registration: &registration,
        server,
        responses,
        taken: None,
        resources: BTreeMap::new(),
        respond: BTreeSet::new(),
        behind_since: None,
    };
    stream.heard(heard);
    let result = stream.run(&mut requests).await;
    match &result {
        Ok(()) => tracing::info!(proxy = node.id, "proxy disconnected"),
        Err(status) => tracing::warn!(proxy = node.id, error = status.message(), "stream ended"),
    }
    result
}

struct Stream<'a> {
    plane: &'a Plane,
    registration: &'a Registration<'a>,
    server: Server,
    responses: mpsc::Sender<Response>,
    snapshots: watch::Receiver<Option<Arc<Published>>>,
    /// The snapshot whose resources are in `resources`.
    taken: Option<Arc<Published>>,
    resources: BTreeMap<&'static str, Arc<[Arc<Resource>]>>,
    /// Types the proxy waits for.
    respond: BTreeSet<String>,
    /// When the change arrived that the proxy has not confirmed yet.
    behind_since: Option<Instant>,
}

impl Stream<'_> {
    async fn run(&mut self, requests: &mut impl Requests) -> Result<(), Status> {
        loop {
            if !self.push().await? {
                return Ok(());
            }
            tokio::select! {
                request = requests.next() => {
                    let Some(request) = request? else { return Ok(()) };
                    let heard = received(&mut self.server, request)?;
                    self.heard(heard);
                }
                // Cannot fail: the plane, which sends, outlives the stream.
                _ = self.snapshots.changed() => {}
                () = self.plane.closed() => {
                    return Err(Status::unavailable("the control plane is shutting down"));
                }
            }
        }
    }

    /// Records what a request said.
    fn heard(&mut self, heard: Heard) {
        let proxy = &self.registration.connection.proxy.id;
        let kind = short_name(&heard.type_url);
        match &heard.answer {
            Some(Answer::Nack { error, .. }) => {
                self.plane.metrics.rejects.add(kind, 1);
                tracing::warn!(proxy, r#type = kind, error, "proxy refused a response");
            }
            Some(Answer::Stale { .. }) => self.plane.metrics.expired_nonces.add(kind, 1),
            Some(Answer::Ack { .. }) | None => {}
        }
        if heard.respond {
            self.respond.insert(heard.type_url.clone());
        }
        self.record_progress(&heard.type_url);
        self.note_convergence();
    }

    /// Sends what the proxy lacks of the newest snapshot; false when it is gone.
    async fn push(&mut self) -> Result<bool, Status> {
        self.take_newest().await?;
        let Some(published) = self.taken.clone() else { return Ok(true) };
        for type_url in self.types_in_order() {
            let asked = self.respond.contains(&type_url);
            if self.server.awaits_answer(&type_url) && !asked {
                continue;
            }
            let resources = self.resources.get(type_url.as_str()).cloned().unwrap_or_default();
            let response = self.server.push(&type_url, &published.version, State::Complete(&resources));
            self.respond.remove(&type_url);
            let Some(response) = response else { continue };
            if type_url == type_url::CLUSTER {
                self.resend_endpoints(&response);
            }
            let started = Instant::now();
            if self.responses.send(response).await.is_err() {
                return Ok(false);
            }
            self.plane.metrics.sent(&type_url, started.elapsed());
            self.record_progress(&type_url);
        }
        self.note_convergence();
        Ok(true)
    }

    /// Envoy warms a cluster that was replaced until endpoints arrive, and does not ask for those it knew.
    /// Compat: istiod pushes endpoints again after clusters for the same reason.
    fn resend_endpoints(&mut self, response: &Response) {
        let names: Vec<String> = match response {
            Response::Delta(response) => {
                response.resources.iter().map(|resource| resource.name.clone()).collect()
            }
            // The variant sends all clusters whenever one changed.
            Response::StateOfTheWorld(_) => self
                .resources
                .get(type_url::ENDPOINT)
                .map(|all| all.iter().map(|resource| resource.name.to_string()).collect())
                .unwrap_or_default(),
        };
        self.server.resend(type_url::ENDPOINT, names);
    }

    /// Translates the newest snapshot, unless it was taken already.
    async fn take_newest(&mut self) -> Result<(), Status> {
        let Some(newest) = self.snapshots.borrow_and_update().clone() else { return Ok(()) };
        if self.taken.as_ref().is_some_and(|taken| Arc::ptr_eq(taken, &newest)) {
            return Ok(());
        }
        let same_mesh = self.taken.as_ref().is_some_and(|taken| Arc::ptr_eq(&taken.mesh, &newest.mesh));
        if !same_mesh {
            let proxy = &self.registration.connection.proxy;
            let translated = self.plane.translate(&newest.mesh, proxy).await.map_err(|error| {
                tracing::error!(proxy = proxy.id, %error, "translation failed");
                Status::internal("the configuration of this proxy could not be computed")
            })?;
            for type_url in type_url::TRAFFIC {
                let list = translated.of_type(type_url).unwrap_or_default();
                self.resources.insert(type_url, Arc::from(self.plane.wire.pack(type_url, list)));
            }
            self.behind_since.get_or_insert(newest.changed_at);
            let (resources, version) = (self.resources.clone(), newest.version.clone());
            self.registration.connection.update(|status| {
                status.resources = resources;
                status.version = version;
            });
        }
        self.taken = Some(newest);
        Ok(())
    }

    /// Subscribed types: those that configure traffic first, in push order.
    fn types_in_order(&self) -> Vec<String> {
        let subscribed: Vec<String> = self.server.types().map(str::to_owned).collect();
        let known = type_url::TRAFFIC.iter().map(|known| (*known).to_owned());
        let others = subscribed.iter().filter(|name| !type_url::TRAFFIC.contains(&name.as_str())).cloned();
        known.filter(|name| subscribed.contains(name)).chain(others).collect()
    }

    fn record_progress(&self, type_url: &str) {
        if let Some(progress) = self.server.progress(type_url) {
            let progress = progress.clone();
            self.registration.connection.update(|status| {
                status.progress.insert(type_url.to_owned(), progress);
            });
        }
    }

    /// The proxy has converged when nothing it was sent is unanswered.
    fn note_convergence(&mut self) {
        let waits = self.server.types().any(|type_url| self.server.awaits_answer(type_url));
        if !waits
            && self.respond.is_empty()
            && let Some(since) = self.behind_since.take()
        {
            self.plane.metrics.converged(since.elapsed());
        }
    }
}

async fn first_request(requests: &mut impl Requests) -> Result<Option<Request>, Status> {
    match tokio::time::timeout(FIRST_REQUEST_TIMEOUT, requests.next()).await {
        Ok(first) => first,
        Err(_) => Err(Status::deadline_exceeded("no request within 10 s of opening the stream")),
    }
}

fn received(server: &mut Server, request: Request) -> Result<Heard, Status> {
    server.received(request).map_err(|violation| Status::new(Code::InvalidArgument, violation.to_string()))
}

fn node_of(request: &Request) -> Option<&Node> {
    match request {
        Request::StateOfTheWorld(request) => request.node.as_ref(),
        Request::Delta(request) => request.node.as_ref(),
    }
}

/// A string of the node's metadata, or nothing.
fn metadata_text(node: &Node, key: &str) -> String {
    use prost_types::value::Kind;
    let value = node.metadata.as_ref().and_then(|metadata| metadata.fields.get(key));
    match value.and_then(|value| value.kind.as_ref()) {
        Some(Kind::StringValue(text)) => text.clone(),
        _ => String::new(),
    }
}
