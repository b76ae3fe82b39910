//! A control plane in this process and proxies that only speak the protocol.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use ringsail_model::Change;
use ringsail_serve::{Debounce, Listening, Plane, Update, Updater, serve_debug, serve_discovery};
use ringsail_xds::envoy::config::core::v3::Node;
use ringsail_xds::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use ringsail_xds::google::rpc::Status as RpcStatus;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

/// Longest any step of a test may take; steps normally take milliseconds.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Quiet time of the tests' control planes.
pub const QUIET: Duration = Duration::from_millis(10);

/// A control plane with its sockets.
pub struct ControlPlane {
    pub updates: mpsc::Sender<Update>,
    socket: PathBuf,
    debug: std::net::SocketAddr,
    dir: TempDir,
    stop: tokio::sync::oneshot::Sender<()>,
}

impl ControlPlane {
    /// One that has read this YAML.
    pub async fn with(yaml: &str) -> Self {
        let plane = Self::empty().await;
        plane.put(yaml).await;
        plane
    }

    /// One that waits for its first objects.
    pub async fn empty() -> Self {
        Self::in_dir(tempfile::tempdir().expect("a temporary folder")).await
    }

    async fn in_dir(dir: TempDir) -> Self {
        let socket = dir.path().join("xds.sock");
        let plane = Arc::new(Plane::default());
        let listening = Listening::unix(&socket).await.expect("a free path");
        let (stop, stopped) = tokio::sync::oneshot::channel();
        tokio::spawn(serve_discovery(Arc::clone(&plane), listening, async {
            let _ = stopped.await;
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let debug = listener.local_addr().expect("bound");
        tokio::spawn(serve_debug(Arc::clone(&plane), listener));
        let (updates, received) = mpsc::channel(16);
        let debounce = Debounce::new(QUIET, Duration::from_secs(1));
        tokio::spawn(Updater::new(plane, debounce, "cluster.local").run(received));
        Self { updates, socket, debug, dir, stop }
    }

    /// Stops it and starts another one on the same socket, which knows nothing yet.
    pub async fn restart(self) -> Self {
        let _ = self.stop.send(());
        let gone = async {
            while UnixStream::connect(&self.socket).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.expect("the socket is closed");
        Self::in_dir(self.dir).await
    }

    /// Adds or replaces the objects of this YAML, which must be accepted.
    pub async fn put(&self, yaml: &str) {
        let decoded = ringsail_api::decode(yaml, "test.yaml");
        assert_eq!(decoded.refused, [], "{:?}", decoded.diagnostics);
        let changes = decoded.objects.into_iter().map(|object| Change::Put(Arc::new(object))).collect();
        let update = Update { changes, diagnostics: Arc::from(decoded.diagnostics) };
        self.updates.send(update).await.expect("the updater runs");
    }

    pub async fn channel(&self) -> Channel {
        let socket = self.socket.clone();
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://xds");
        patient(endpoint.connect_with_connector(connector)).await.expect("the socket accepts")
    }

    /// The body of a debug page.
    pub async fn page(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.debug).await.expect("the debug port accepts");
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("UTF-8");
        answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
    }

    /// Waits until a debug page satisfies a condition, and gives it.
    pub async fn page_until(&self, path: &str, condition: impl Fn(&str) -> bool) -> String {
        patient(async {
            loop {
                let page = self.page(path).await;
                if condition(&page) {
                    return page;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await
    }
}

/// The future's result, or a failed test after [`PATIENCE`].
pub async fn patient<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("within the patience of a test")
}

/// The node of a sidecar in that namespace.
pub fn sidecar(name: &str) -> Node {
    let text = |value: &str| Value { kind: Some(Kind::StringValue(value.to_owned())) };
    let fields = [("NAMESPACE", "default"), ("INSTANCE_IPS", "10.0.0.9"), ("ISTIO_VERSION", "1.32.0")];
    let fields = fields.into_iter().map(|(key, value)| (key.to_owned(), text(value))).collect();
    Node {
        id: format!("sidecar~10.0.0.9~{name}.default~default.svc.cluster.local"),
        metadata: Some(Struct { fields }),
        ..Node::default()
    }
}

/// One side of a stream: what a proxy sends and what it got.
pub struct Proxy<Q, R> {
    pub requests: mpsc::Sender<Q>,
    pub responses: Streaming<R>,
}

pub type Delta = Proxy<DeltaDiscoveryRequest, DeltaDiscoveryResponse>;
pub type StateOfTheWorld = Proxy<DiscoveryRequest, DiscoveryResponse>;

async fn open<Q, R>(plane: &ControlPlane, method: &'static str) -> Proxy<Q, R>
where
    Q: prost::Message + Default + Send + 'static,
    R: prost::Message + Default + Send + 'static,
{
    let (requests, queued) = mpsc::channel(64);
    let mut grpc = tonic::client::Grpc::new(plane.channel().await);
    patient(grpc.ready()).await.expect("ready");
    let codec: ProstCodec<Q, R> = ProstCodec::default();
    let path = PathAndQuery::from_static(method);
    let streaming = grpc.streaming(Request::new(ReceiverStream::new(queued)), path, codec);
    Proxy { requests, responses: patient(streaming).await.expect("the method is served").into_inner() }
}

impl<Q, R> Proxy<Q, R> {
    pub async fn send(&self, request: Q) {
        self.requests.send(request).await.unwrap_or_else(|_| panic!("the stream is open"));
    }

    /// The next response.
    pub async fn next(&mut self) -> R {
        self.result().await.unwrap_or_else(|status| panic!("{status}")).expect("the stream goes on")
    }

    /// The next response, the end, or a status.
    pub async fn result(&mut self) -> Result<Option<R>, Status> {
        patient(self.responses.message()).await
    }

    /// True when nothing comes within a moment.
    pub async fn is_quiet(&mut self) -> bool {
        tokio::time::timeout(10 * QUIET, self.responses.message()).await.is_err()
    }
}

impl Delta {
    pub async fn open(plane: &ControlPlane) -> Self {
        open(plane, "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources").await
    }

    /// Subscribes to names of a type, or to all of it without names.
    pub async fn subscribe(&self, node: Option<Node>, type_url: &str, names: &[&str]) {
        let resource_names_subscribe = names.iter().map(|name| (*name).to_owned()).collect();
        let type_url = type_url.to_owned();
        self.send(DeltaDiscoveryRequest { node, type_url, resource_names_subscribe, ..Default::default() })
            .await;
    }

    pub async fn ack(&self, response: &DeltaDiscoveryResponse) {
        self.answer(response, None).await;
    }

    pub async fn nack(&self, response: &DeltaDiscoveryResponse, reason: &str) {
        self.answer(response, Some(reason)).await;
    }

    async fn answer(&self, response: &DeltaDiscoveryResponse, reason: Option<&str>) {
        let status = |reason: &str| RpcStatus { code: 13, message: reason.to_owned(), ..Default::default() };
        self.send(DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: reason.map(status),
            ..Default::default()
        })
        .await;
    }
}

impl StateOfTheWorld {
    pub async fn open(plane: &ControlPlane) -> Self {
        open(plane, "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources").await
    }

    pub async fn subscribe(&self, node: Option<Node>, type_url: &str, names: &[&str]) {
        let resource_names = names.iter().map(|name| (*name).to_owned()).collect();
        let type_url = type_url.to_owned();
        self.send(DiscoveryRequest { node, type_url, resource_names, ..Default::default() }).await;
    }

    pub async fn ack(&self, response: &DiscoveryResponse) {
        self.send(DiscoveryRequest {
            type_url: response.type_url.clone(),
            version_info: response.version_info.clone(),
            response_nonce: response.nonce.clone(),
            ..Default::default()
        })
        .await;
    }
}
