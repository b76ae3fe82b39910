//! A control plane for tests: serves what it is given, in both variants, and remembers what it heard.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use ringsail_xds::envoy::config::core::v3::Node;
use ringsail_xds::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use ringsail_xds::json::Schema;
use ringsail_xds::protocol::server::{Heard, Server, State};
use ringsail_xds::protocol::{Request, Resource, Response, Variant};
use serde_json::Value;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::{UnboundedReceiverStream, UnixListenerStream};
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

type World = BTreeMap<String, (String, Vec<Arc<Resource>>)>;

/// What it serves, and what it heard on all streams.
#[derive(Clone)]
pub struct ControlPlane {
    world: watch::Sender<World>,
    pub heard: Arc<Mutex<Vec<Heard>>>,
    pub nodes: Arc<Mutex<Vec<Node>>>,
    pub sent: Arc<Mutex<Vec<Response>>>,
    streams: Arc<AtomicU64>,
}

/// While this lives, the control plane listens.
pub struct Listening {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().map(JoinHandle::join);
    }
}

impl ControlPlane {
    pub fn new() -> ControlPlane {
        ControlPlane {
            world: watch::Sender::new(World::new()),
            heard: Arc::default(),
            nodes: Arc::default(),
            sent: Arc::default(),
            streams: Arc::default(),
        }
    }

    /// Listens on a Unix socket.
    pub fn listen(&self, path: &Path) -> Listening {
        let _ = std::fs::remove_file(path);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let listener = runtime.block_on(async { UnixListener::bind(path).expect("bound") });
        let service = Discovery { plane: self.clone() };
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let serving = tonic::transport::Server::builder()
                .add_service(Secrets(service.clone()))
                .add_service(service)
                .serve_with_incoming(UnixListenerStream::new(listener));
            runtime.block_on(async {
                tokio::select! {
                    _ = serving => {}
                    _ = stopped => {}
                }
            });
        });
        Listening { stop: Some(stop), thread: Some(thread) }
    }

    /// Replaces all resources of a type, given as JSON.
    pub fn set(&self, type_url: &str, version: &str, resources: &[Value]) {
        let schema = Schema::shared();
        let resources = resources.iter().map(|value| {
            let name = value["name"].as_str().or_else(|| value["cluster_name"].as_str()).expect("a name");
            let mut typed = value.clone();
            typed["@type"] = type_url.into();
            let body = schema.any_from_json(&typed).expect("a valid resource");
            // The version is of the contents, so that unchanged ones are not sent again.
            let version = format!(
                "{:x}",
                body.value.iter().fold(7u64, |hash, byte| hash.wrapping_mul(31) + u64::from(*byte))
            );
            Arc::new(Resource { name: name.into(), version: version.into(), body })
        });
        let resources = resources.collect();
        self.world
            .send_modify(|world| drop(world.insert(type_url.to_string(), (version.to_string(), resources))));
    }

    async fn serve(
        self,
        variant: Variant,
        mut requests: impl tokio_stream::Stream<Item = Request> + Unpin,
        responses: mpsc::UnboundedSender<Response>,
    ) {
        let mut server = Server::new(variant, self.streams.fetch_add(1, Ordering::SeqCst));
        let mut world = self.world.subscribe();
        loop {
            tokio::select! {
                request = requests.next() => {
                    let Some(request) = request else { return };
                    let heard = server.received(request).expect("no violation");
                    if let (Some(node), true) = (server.node(), self.heard.lock().expect("lock").is_empty()) {
                        self.nodes.lock().expect("lock").push(node.clone());
                    }
                    self.heard.lock().expect("lock").push(heard);
                }
                _ = world.changed() => {}
            }
            let world = world.borrow_and_update().clone();
            for (type_url, (version, resources)) in &world {
                if let Some(response) = server.push(type_url, version, State::Complete(resources)) {
                    self.sent.lock().expect("lock").push(response.clone());
                    let _ = responses.send(response);
                }
            }
        }
    }
}

#[derive(Clone)]
struct Discovery {
    plane: ControlPlane,
}

impl NamedService for Discovery {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

/// Secrets on a stream of their own.
#[derive(Clone)]
struct Secrets(Discovery);

impl NamedService for Secrets {
    const NAME: &'static str = "envoy.service.secret.v3.SecretDiscoveryService";
}

impl tower::Service<http::Request<Body>> for Secrets {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        tower::Service::call(&mut self.0, request)
    }
}

type BoxFuture<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;
type Responses<M> = Pin<Box<dyn tokio_stream::Stream<Item = Result<M, Status>> + Send>>;

impl tower::Service<http::Request<Body>> for Discovery {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let plane = self.plane.clone();
        let is_delta = request.uri().path().ends_with("/DeltaAggregatedResources");
        Box::pin(async move {
            Ok(if is_delta {
                Grpc::new(ProstCodec::<DeltaDiscoveryResponse, DeltaDiscoveryRequest>::default())
                    .streaming(Delta(plane), request)
                    .await
            } else {
                Grpc::new(ProstCodec::<DiscoveryResponse, DiscoveryRequest>::default())
                    .streaming(StateOfTheWorld(plane), request)
                    .await
            })
        })
    }
}

struct StateOfTheWorld(ControlPlane);
struct Delta(ControlPlane);

impl StreamingService<DiscoveryRequest> for StateOfTheWorld {
    type Response = DiscoveryResponse;
    type ResponseStream = Responses<DiscoveryResponse>;
    type Future = BoxFuture<tonic::Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: tonic::Request<Streaming<DiscoveryRequest>>) -> Self::Future {
        start(&self.0, Variant::StateOfTheWorld, request.into_inner(), Request::StateOfTheWorld, |response| {
            match response {
                Response::StateOfTheWorld(response) => Some(response),
                Response::Delta(_) => None,
            }
        })
    }
}

impl StreamingService<DeltaDiscoveryRequest> for Delta {
    type Response = DeltaDiscoveryResponse;
    type ResponseStream = Responses<DeltaDiscoveryResponse>;
    type Future = BoxFuture<tonic::Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: tonic::Request<Streaming<DeltaDiscoveryRequest>>) -> Self::Future {
        start(&self.0, Variant::Delta, request.into_inner(), Request::Delta, |response| match response {
            Response::Delta(response) => Some(response),
            Response::StateOfTheWorld(_) => None,
        })
    }
}

fn start<Q: Send + 'static, S: Send + 'static>(
    plane: &ControlPlane,
    variant: Variant,
    requests: Streaming<Q>,
    wrap: fn(Q) -> Request,
    unwrap: fn(Response) -> Option<S>,
) -> BoxFuture<tonic::Response<Responses<S>>, Status> {
    let (responses, queued) = mpsc::unbounded_channel();
    let requests = requests.filter_map(move |request| request.ok().map(wrap));
    tokio::spawn(plane.clone().serve(variant, Box::pin(requests), responses));
    let stream = UnboundedReceiverStream::new(queued).filter_map(move |response| unwrap(response).map(Ok));
    Box::pin(async move { Ok(tonic::Response::new(Box::pin(stream) as Responses<S>)) })
}
