//! Sends batches of spans and access-log entries to their collectors.
//!
//! One task for each collector, with a bounded queue of its own: a collector that is gone holds nobody else up. A
//! connection is kept from batch to batch. When none can be made, the batch is tried again after a pause; a batch that
//! was refused, or that is the last straw, is dropped and counted. Nothing here is waited for by a request.
//!
//! The collector's cluster is looked up in the tables each time a connection is made, so that collectors may be static,
//! resolved or discovered as any cluster.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use prost::Message as _;
use ringsail_tables::address::Address;
use ringsail_tables::endpoint::Health;
use ringsail_telemetry::export::{Batch, Batches, Call, Content, Destination, Dropped};
use ringsail_telemetry::{AccessLogs, AccessLogsCounter, Block, Registry, Spans, SpansCounter};
use ringsail_xds::envoy::config::core::v3::Node;
use ringsail_xds::envoy::service::accesslog::v3::StreamAccessLogsMessage;
use ringsail_xds::envoy::service::accesslog::v3::stream_access_logs_message::Identifier;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};

use crate::ads::Backoff;
use crate::limits::{
    CONNECT_TIMEOUT, EXPORT_CALL_TIMEOUT, EXPORT_DESTINATIONS_MAX, EXPORT_PAUSE_MAX, EXPORT_TRIES_MAX,
};
use crate::state::State;

/// Takes batches until there are no more.
///
/// `queue_max` batches may wait for each collector.
pub(crate) async fn run(
    mut batches: Batches,
    queue_max: usize,
    state: Rc<RefCell<State>>,
    stats: Arc<Registry>,
    node: Node,
) {
    let shared = Rc::new(Shared { state, stats, node, counted: Cell::default(), dropped: batches.dropped() });
    let mut workers: Vec<(Arc<Destination>, mpsc::Sender<Batch>)> = Vec::new();
    while let Some(batch) = batches.next().await {
        shared.count_dropped();
        let known = workers.iter().find(|(destination, _)| *destination == batch.destination);
        let queue = match known {
            Some((_, queue)) => queue.clone(),
            None => {
                if workers.len() >= EXPORT_DESTINATIONS_MAX {
                    // Those of configuration that is gone are idle; they end when their queue is dropped.
                    workers.clear();
                }
                let (sender, queue) = mpsc::channel(queue_max);
                workers.push((batch.destination.clone(), sender.clone()));
                tokio::task::spawn_local(work(batch.destination.clone(), queue, shared.clone()));
                sender
            }
        };
        if let Err(full) = queue.try_send(batch) {
            let batch = full.into_inner();
            shared.failed(batch.content, batch.items, Problem::NoRoom);
        }
    }
}

struct Shared {
    state: Rc<RefCell<State>>,
    stats: Arc<Registry>,
    node: Node,
    /// What of `dropped` is in the statistics.
    counted: Cell<[u64; Content::ALL.len()]>,
    dropped: Dropped,
}

/// Why a batch did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Problem {
    /// Its collector's queue is full.
    NoRoom,
    /// There is no such cluster, or it has no endpoint.
    NoEndpoint,
    /// No connection could be made.
    NotConnected,
    /// The call failed, or its answer was no success.
    Refused,
}

impl Shared {
    /// Entries that found no room between the writer and this thread.
    fn count_dropped(&self) {
        let mut counted = self.counted.get();
        for content in Content::ALL {
            let Some(before) = counted.get_mut(content as usize) else { continue };
            let now = self.dropped.count(content);
            if now > *before {
                self.failed(content, now - *before, Problem::NoRoom);
                *before = now;
            }
        }
        self.counted.set(counted);
    }

    fn sent(&self, content: Content, items: u64) {
        let (logs, spans) = (self.logs(), self.spans());
        match content {
            Content::GrpcLogs => logs.add(AccessLogsCounter::GrpcWritten, items),
            Content::OpenTelemetryLogs => logs.add(AccessLogsCounter::OpenTelemetryWritten, items),
            Content::ZipkinSpans => {
                spans.add(SpansCounter::ZipkinSpansSent, items);
                spans.add(SpansCounter::ZipkinReportsSent, 1);
            }
            Content::OpenTelemetrySpans => spans.add(SpansCounter::OpenTelemetrySpansSent, items),
        }
    }

    fn failed(&self, content: Content, items: u64, problem: Problem) {
        let (logs, spans) = (self.logs(), self.spans());
        match content {
            Content::GrpcLogs => logs.add(AccessLogsCounter::GrpcDropped, items),
            Content::OpenTelemetryLogs => logs.add(AccessLogsCounter::OpenTelemetryDropped, items),
            Content::ZipkinSpans => spans.add(
                match problem {
                    Problem::NoEndpoint => SpansCounter::ZipkinReportsSkippedNoCluster,
                    Problem::Refused => SpansCounter::ZipkinReportsDropped,
                    Problem::NoRoom | Problem::NotConnected => SpansCounter::ZipkinReportsFailed,
                },
                1,
            ),
            Content::OpenTelemetrySpans => spans.add(SpansCounter::OpenTelemetrySpansDropped, items),
        }
    }

    fn logs(&self) -> &Block<AccessLogs> {
        self.stats.access_logs()
    }

    fn spans(&self) -> &Block<Spans> {
        self.stats.spans()
    }

    /// An endpoint of a cluster, by chance, and whether it is to be reached by TLS.
    fn endpoint(&self, cluster: &str) -> Option<(Address, bool)> {
        let tables = self.state.borrow().tables.clone();
        let cluster = tables.cluster_named(cluster)?;
        let usable = |health| matches!(health, Health::Healthy | Health::Degraded);
        // The first priority that has a usable endpoint.
        let endpoints: Vec<_> =
            cluster.endpoints.iter().filter(|(.., endpoint)| usable(endpoint.health)).collect();
        let (first, ..) = endpoints.first()?;
        let candidates: Vec<_> = endpoints.iter().filter(|(priority, ..)| priority == first).collect();
        let (.., endpoint) = candidates.get(fastrand::usize(..candidates.len()))?;
        let transports = &cluster.cluster.connection.transports;
        Some((endpoint.address.clone(), transports.of(endpoint.metadata.as_deref()).is_some()))
    }
}

/// A connection to a collector.
enum Line {
    Grpc(Channel),
    /// The open stream of an access-log service takes messages here.
    Stream(mpsc::Sender<Bytes>),
    Http(http1::SendRequest<Full<Bytes>>),
}

async fn work(destination: Arc<Destination>, mut queue: mpsc::Receiver<Batch>, shared: Rc<Shared>) {
    let mut line: Option<Line> = None;
    let mut pause = Backoff::default();
    while let Some(batch) = queue.recv().await {
        let (content, items) = (batch.content, batch.items);
        let body = Bytes::from(batch.body);
        let mut tries = 0;
        let outcome = loop {
            tries += 1;
            match deliver(&destination, &shared, &mut line, body.clone()).await {
                Ok(()) => break Ok(()),
                Err((problem, reason)) => {
                    line = None;
                    tracing::debug!(
                        cluster = destination.cluster,
                        tries,
                        reason,
                        "telemetry was not delivered"
                    );
                    if problem == Problem::Refused || tries >= EXPORT_TRIES_MAX {
                        break Err(problem);
                    }
                }
            }
            tokio::time::sleep(pause.next().min(EXPORT_PAUSE_MAX)).await;
        };
        match outcome {
            Ok(()) => {
                pause.reset();
                shared.sent(content, items);
            }
            Err(problem) => shared.failed(content, items, problem),
        }
    }
}

/// Sends one message, on the line there is or on a new one.
async fn deliver(
    destination: &Destination,
    shared: &Shared,
    line: &mut Option<Line>,
    body: Bytes,
) -> Result<(), (Problem, String)> {
    let limit = destination.timeout.unwrap_or(EXPORT_CALL_TIMEOUT);
    let usable = match line {
        Some(Line::Stream(messages)) => !messages.is_closed(),
        Some(Line::Http(sender)) => !sender.is_closed(),
        Some(Line::Grpc(_)) => true,
        None => false,
    };
    if !usable {
        *line = Some(connect(destination, shared).await?);
    }
    let refused = |reason: String| (Problem::Refused, reason);
    let Some(line) = line else { return Err((Problem::NotConnected, String::new())) };
    let sent = async {
        match (line, &destination.call) {
            (Line::Grpc(channel), Call::GrpcUnary { method, .. }) => {
                unary(channel.clone(), destination, method, body).await.map_err(|status| {
                    let lost = status.code() == tonic::Code::Unavailable;
                    (if lost { Problem::NotConnected } else { Problem::Refused }, status.message().to_owned())
                })
            }
            (Line::Stream(messages), _) => {
                messages.send(body).await.map_err(|_| (Problem::NotConnected, "the stream ended".to_owned()))
            }
            (Line::Http(sender), Call::HttpPost { host, path, content_type }) => {
                let mut request = http::Request::post(path.as_str())
                    .header("host", host)
                    .header("content-type", *content_type)
                    .header("content-length", body.len());
                for (name, value) in &destination.headers {
                    request = request.header(name, value);
                }
                let request = request.body(Full::new(body)).map_err(|error| refused(error.to_string()))?;
                sender.ready().await.map_err(|error| (Problem::NotConnected, error.to_string()))?;
                let answer = sender.send_request(request).await.map_err(|error| {
                    // A connection that was idle too long is no refusal.
                    (Problem::NotConnected, error.to_string())
                })?;
                let status = answer.status();
                // Read to its end, or the connection cannot be used again.
                let _ = answer.into_body().collect().await;
                if status.is_success() { Ok(()) } else { Err(refused(format!("answered {status}"))) }
            }
            (Line::Grpc(_) | Line::Http(_), _) => Err(refused("another kind of call".to_owned())),
        }
    };
    match tokio::time::timeout(limit, sent).await {
        Ok(result) => result,
        Err(_) => Err((Problem::Refused, "no answer in time".to_owned())),
    }
}

async fn connect(destination: &Destination, shared: &Shared) -> Result<Line, (Problem, String)> {
    let Some((address, is_secured)) = shared.endpoint(&destination.cluster) else {
        return Err((Problem::NoEndpoint, "no such cluster, or none of its endpoints is healthy".to_owned()));
    };
    let not_connected = |reason: String| (Problem::NotConnected, reason);
    if is_secured {
        // What is to be sealed is not sent in the clear.
        return Err(not_connected(
            "the collector's cluster asks for TLS, which is not spoken to collectors".to_owned(),
        ));
    }
    match &destination.call {
        Call::HttpPost { .. } => http_line(&address).await.map_err(not_connected),
        Call::GrpcUnary { authority, .. } => {
            let channel =
                channel(&address, authority).await.map_err(|error| not_connected(error.to_string()))?;
            Ok(Line::Grpc(channel))
        }
        Call::AccessLogStream { authority, log_name } => {
            let channel =
                channel(&address, authority).await.map_err(|error| not_connected(error.to_string()))?;
            let identifier = Identifier { node: Some(shared.node.clone()), log_name: log_name.clone() };
            let first = StreamAccessLogsMessage { identifier: Some(identifier), log_entries: None };
            Ok(Line::Stream(access_log_stream(channel, destination, first)))
        }
    }
}

async fn http_line(address: &Address) -> Result<Line, String> {
    let words = |error: &dyn std::error::Error| error.to_string();
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, async {
        match address {
            Address::Socket(address) => {
                let stream = TcpStream::connect(address).await.map_err(|error| words(&error))?;
                let _ = stream.set_nodelay(true);
                http_on(stream).await
            }
            Address::Pipe(path) => {
                http_on(UnixStream::connect(path.as_str()).await.map_err(|error| words(&error))?).await
            }
        }
    });
    connected.await.map_err(|_| "no connection in time".to_owned())?
}

async fn http_on<S>(stream: S) -> Result<Line, String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
{
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    tokio::task::spawn_local(async move {
        // Its end shows in the sender.
        let _ = connection.await;
    });
    Ok(Line::Http(sender))
}

async fn channel(address: &Address, authority: &str) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_static("http://collector").connect_timeout(CONNECT_TIMEOUT);
    // The authority is a name for the server to see, not where to connect.
    let endpoint = match format!("http://{authority}").parse() {
        Ok(origin) => endpoint.origin(origin),
        Err(_) => endpoint,
    };
    match address.clone() {
        Address::Socket(address) => {
            let dial = move |_| async move {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            };
            endpoint.connect_with_connector(tower::service_fn(dial)).await
        }
        Address::Pipe(path) => {
            let dial = move |_| {
                let path = path.clone();
                async move { UnixStream::connect(path.as_str()).await.map(TokioIo::new) }
            };
            endpoint.connect_with_connector(tower::service_fn(dial)).await
        }
    }
}

/// One call with one message.
async fn unary(
    channel: Channel,
    destination: &Destination,
    method: &'static str,
    body: Bytes,
) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let mut request = tonic::Request::new(body);
    *request.metadata_mut() = metadata(destination);
    grpc.unary(request, PathAndQuery::from_static(method), Raw).await.map(|_| ())
}

/// Opens the stream of an access-log service; messages go into the queue it gives. Its end closes the queue.
fn access_log_stream(
    channel: Channel,
    destination: &Destination,
    first: StreamAccessLogsMessage,
) -> mpsc::Sender<Bytes> {
    let (sender, queue) = mpsc::channel(1);
    let metadata = metadata(destination);
    let mut preamble = Some(first.encode_to_vec());
    tokio::task::spawn_local(async move {
        let mut grpc = tonic::client::Grpc::new(channel);
        if grpc.ready().await.is_err() {
            return;
        }
        let messages = tokio_stream::StreamExt::map(ReceiverStream::new(queue), move |body: Bytes| {
            // The fields of two messages one after the other are those of one message.
            let mut bytes = preamble.take().unwrap_or_default();
            bytes.extend_from_slice(&body);
            Bytes::from(bytes)
        });
        let mut request = tonic::Request::new(messages);
        *request.metadata_mut() = metadata;
        let path = PathAndQuery::from_static("/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs");
        if let Err(status) = grpc.client_streaming(request, path, Raw).await {
            tracing::debug!(%status, "the access-log service ended the stream");
        }
    });
    sender
}

fn metadata(destination: &Destination) -> MetadataMap {
    let mut map = MetadataMap::new();
    for (name, value) in &destination.headers {
        if let (Ok(name), Ok(value)) =
            (MetadataKey::from_bytes(name.as_bytes()), MetadataValue::try_from(value.as_str()))
        {
            map.append(name, value);
        }
    }
    map
}

/// Messages that are encoded already; answers are not looked into.
#[derive(Clone, Copy, Debug, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = ();
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        from.advance(from.remaining());
        Ok(Some(()))
    }
}
