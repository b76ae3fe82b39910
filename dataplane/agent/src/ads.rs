//! The stream to the control plane: connects, moves messages, and comes back after a pause when it ends.
//!
//! What the messages mean is `ringsail_xds::protocol::client`'s business. Each connection has its own queue of
//! requests, so that nothing meant for one stream is sent on the next.

use std::time::Duration;

use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use prost::Message;
use ringsail_xds::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use ringsail_xds::protocol::{Request, Response, Variant};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::metadata::{MetadataKey, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use crate::bootstrap::{AdsSource, Service, Target};
use crate::limits::{
    ADS_PING_INTERVAL, ADS_PING_TIMEOUT, ADS_WINDOW_BYTES, RECONNECT_MAX, RECONNECT_MIN, RESPONSE_BYTES_MAX,
};

/// What happens on the stream.
#[derive(Debug)]
pub enum AdsEvent {
    /// A stream stands; requests for it go here.
    Connected(mpsc::UnboundedSender<Request>),
    /// The control plane said something.
    Response(Response),
    /// The stream ended, or none could be opened, for this reason. Another try follows.
    Disconnected(String),
}

/// Keeps a stream open until nobody listens to its events.
pub async fn run(source: AdsSource, events: mpsc::Sender<AdsEvent>) {
    let mut pause = Backoff::default();
    while !events.is_closed() {
        let reason = match attempt(&source, &events, &mut pause).await {
            Ok(()) => "the control plane ended the stream".to_string(),
            Err(status) => describe(&status),
        };
        if events.send(AdsEvent::Disconnected(reason)).await.is_err() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(pause.next()) => {}
            () = events.closed() => return,
        }
    }
}

/// Doubles from [`RECONNECT_MIN`] to [`RECONNECT_MAX`]; a random half is taken off, so that proxies that lost one
/// control plane do not come back at once.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next pause.
    pub(crate) fn next(&mut self) -> Duration {
        let full = RECONNECT_MIN.saturating_mul(1 << self.failures.min(16)).min(RECONNECT_MAX);
        self.failures += 1;
        full.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// It worked.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

async fn attempt(
    source: &AdsSource,
    events: &mpsc::Sender<AdsEvent>,
    pause: &mut Backoff,
) -> Result<(), Status> {
    let channel = connect(source)
        .await
        .map_err(|error| Status::unavailable(format!("cannot connect: {}", chain(&error))))?;
    let (requests, queue) = mpsc::unbounded_channel();
    // A server may send nothing at all, not even headers, before it has read the first request.
    let _ = events.send(AdsEvent::Connected(requests)).await;
    let queue = UnboundedReceiverStream::new(queue);
    match source.variant {
        Variant::StateOfTheWorld => {
            let requests = queue.filter_map(|request| match request {
                Request::StateOfTheWorld(request) => Some(request),
                Request::Delta(_) => None,
            });
            let responses = open::<DiscoveryRequest, DiscoveryResponse>(
                source,
                channel,
                requests,
                "StreamAggregatedResources",
            );
            forward(responses.await?, events, pause, Response::StateOfTheWorld).await
        }
        Variant::Delta => {
            let requests = queue.filter_map(|request| match request {
                Request::Delta(request) => Some(request),
                Request::StateOfTheWorld(_) => None,
            });
            let responses = open::<DeltaDiscoveryRequest, DeltaDiscoveryResponse>(
                source,
                channel,
                requests,
                "DeltaAggregatedResources",
            );
            forward(responses.await?, events, pause, Response::Delta).await
        }
    }
}

async fn forward<M>(
    mut responses: Streaming<M>,
    events: &mpsc::Sender<AdsEvent>,
    pause: &mut Backoff,
    wrap: fn(M) -> Response,
) -> Result<(), Status> {
    loop {
        let message = tokio::select! {
            message = responses.message() => message?,
            () = events.closed() => return Ok(()),
        };
        let Some(message) = message else { return Ok(()) };
        pause.reset();
        if events.send(AdsEvent::Response(wrap(message))).await.is_err() {
            return Ok(());
        }
    }
}

async fn open<Q, S>(
    source: &AdsSource,
    channel: Channel,
    requests: impl tokio_stream::Stream<Item = Q> + Send + 'static,
    method: &str,
) -> Result<Streaming<S>, Status>
where
    Q: Message + Default + 'static,
    S: Message + Default + 'static,
{
    let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(RESPONSE_BYTES_MAX);
    grpc.ready().await.map_err(|error| Status::unavailable(chain(&error)))?;
    let mut request = tonic::Request::new(requests);
    for (key, value) in &source.metadata {
        let (Ok(key), Ok(value)) =
            (MetadataKey::from_bytes(key.as_bytes()), MetadataValue::try_from(value.as_str()))
        else {
            return Err(Status::invalid_argument(format!("initial_metadata {key:?} is no valid header")));
        };
        request.metadata_mut().insert(key, value);
    }
    let path = match source.service {
        Service::Aggregated => format!("/envoy.service.discovery.v3.AggregatedDiscoveryService/{method}"),
        Service::Secrets => "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets".to_string(),
    };
    let path = PathAndQuery::try_from(path).map_err(|error| Status::internal(error.to_string()))?;
    let codec = tonic_prost::ProstCodec::<Q, S>::default();
    Ok(grpc.streaming(request, path, codec).await?.into_inner())
}

async fn connect(source: &AdsSource) -> Result<Channel, tonic::transport::Error> {
    let uri = match &source.target {
        Target::Tcp(host, port) if host.contains(':') => format!("http://[{host}]:{port}"),
        Target::Tcp(host, port) => format!("http://{host}:{port}"),
        // Names only; the connector below knows where to go.
        Target::Pipe(_) => "http://localhost".to_string(),
    };
    let endpoint = Endpoint::from_shared(uri)?
        .connect_timeout(source.connect_timeout)
        .initial_stream_window_size(ADS_WINDOW_BYTES)
        .initial_connection_window_size(ADS_WINDOW_BYTES)
        .http2_keep_alive_interval(ADS_PING_INTERVAL)
        .keep_alive_timeout(ADS_PING_TIMEOUT)
        .keep_alive_while_idle(true);
    // The authority is a name for the server to see, not where to connect.
    let endpoint = match format!("http://{}", source.authority).parse() {
        Ok(origin) => endpoint.origin(origin),
        Err(_) => endpoint,
    };
    match &source.target {
        Target::Tcp(..) => endpoint.connect().await,
        Target::Pipe(path) => {
            let path = path.clone();
            let connector = tower::service_fn(move |_| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            });
            endpoint.connect_with_connector(connector).await
        }
    }
}

fn describe(status: &Status) -> String {
    format!("{}: {}", status.code(), status.message())
}

/// An error with its causes, which are where the reason is.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_its_bound_and_starts_over() {
        let mut pause = Backoff::default();
        for attempt in 0..20 {
            let full = RECONNECT_MIN.saturating_mul(1 << attempt.min(16)).min(RECONNECT_MAX);
            let next = pause.next();
            assert!(next >= full / 2 && next <= full, "{attempt}: {next:?}");
        }
        pause.reset();
        assert!(pause.next() <= RECONNECT_MIN);
    }
}
