//! The gRPC service `envoy.service.discovery.v3.AggregatedDiscoveryService`.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ringsail_xds::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use ringsail_xds::protocol::{Request as XdsRequest, Response as XdsResponse, Variant};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::limits::{REQUEST_BYTES_MAX, RESPONSES_QUEUED_MAX};
use crate::plane::Plane;
use crate::stream::{self, Requests};

const STATE_OF_THE_WORLD: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
const DELTA: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// The service, cloned per connection.
#[derive(Clone, Debug)]
pub(crate) struct Discovery {
    pub(crate) plane: Arc<Plane>,
}

impl NamedService for Discovery {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

type BoxFuture<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl tower::Service<http::Request<Body>> for Discovery {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let plane = Arc::clone(&self.plane);
        match request.uri().path() {
            STATE_OF_THE_WORLD => Box::pin(async move {
                let codec = ProstCodec::<DiscoveryResponse, DiscoveryRequest>::default();
                let mut grpc = Grpc::new(codec)
                    .max_decoding_message_size(REQUEST_BYTES_MAX)
                    .max_encoding_message_size(usize::MAX);
                Ok(grpc.streaming(StateOfTheWorld(plane), request).await)
            }),
            DELTA => Box::pin(async move {
                let codec = ProstCodec::<DeltaDiscoveryResponse, DeltaDiscoveryRequest>::default();
                let mut grpc = Grpc::new(codec)
                    .max_decoding_message_size(REQUEST_BYTES_MAX)
                    .max_encoding_message_size(usize::MAX);
                Ok(grpc.streaming(Delta(plane), request).await)
            }),
            other => {
                let message = format!("{other} is not served; use ADS");
                Box::pin(async move { Ok(Status::unimplemented(message).into_http()) })
            }
        }
    }
}

/// `StreamAggregatedResources`.
struct StateOfTheWorld(Arc<Plane>);

/// `DeltaAggregatedResources`.
struct Delta(Arc<Plane>);

impl StreamingService<DiscoveryRequest> for StateOfTheWorld {
    type Response = DiscoveryResponse;
    type ResponseStream = Responses<DiscoveryResponse>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<Streaming<DiscoveryRequest>>) -> Self::Future {
        let inbound = Inbound { streaming: request.into_inner(), wrap: XdsRequest::StateOfTheWorld };
        start(&self.0, Variant::StateOfTheWorld, inbound, |response| match response {
            XdsResponse::StateOfTheWorld(response) => Some(response),
            XdsResponse::Delta(_) => None,
        })
    }
}

impl StreamingService<DeltaDiscoveryRequest> for Delta {
    type Response = DeltaDiscoveryResponse;
    type ResponseStream = Responses<DeltaDiscoveryResponse>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<Streaming<DeltaDiscoveryRequest>>) -> Self::Future {
        let inbound = Inbound { streaming: request.into_inner(), wrap: XdsRequest::Delta };
        start(&self.0, Variant::Delta, inbound, |response| match response {
            XdsResponse::Delta(response) => Some(response),
            XdsResponse::StateOfTheWorld(_) => None,
        })
    }
}

/// Responses of one variant, ended by a status when the stream failed.
type Responses<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

/// Starts the stream's task. It ends when the proxy closes either direction: dropping the response
/// stream closes the task's channel.
fn start<M: Send + 'static>(
    plane: &Arc<Plane>,
    variant: Variant,
    inbound: impl Requests + 'static,
    unwrap: fn(XdsResponse) -> Option<M>,
) -> BoxFuture<Response<Responses<M>>, Status> {
    let (responses, queued) = mpsc::channel(RESPONSES_QUEUED_MAX);
    let (end, ended) = mpsc::channel(1);
    let plane = Arc::clone(plane);
    tokio::spawn(async move {
        let gone = responses.clone();
        let served = stream::serve(Arc::clone(&plane), variant, inbound, responses);
        let result = tokio::select! {
            result = served => result,
            () = gone.closed() => Ok(()),
        };
        if let Err(status) = result {
            plane.metrics.stream_errors.add(&format!("{:?}", status.code()), 1);
            // The proxy may be gone already; then nobody needs to be told.
            let _ = end.send(status).await;
        }
    });
    use tokio_stream::StreamExt;
    let responses = ReceiverStream::new(queued).filter_map(move |response| unwrap(response).map(Ok));
    let ended = ReceiverStream::new(ended).map(Err);
    let all: Responses<M> = Box::pin(responses.chain(ended));
    Box::pin(async move { Ok(Response::new(all)) })
}

/// The requests of one variant.
struct Inbound<M> {
    streaming: Streaming<M>,
    wrap: fn(M) -> XdsRequest,
}

impl<M: Send + 'static> Requests for Inbound<M> {
    async fn next(&mut self) -> Result<Option<XdsRequest>, Status> {
        Ok(self.streaming.message().await?.map(self.wrap))
    }
}
