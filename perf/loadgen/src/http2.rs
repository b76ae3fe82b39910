//! HTTP/2 from the first byte on, and gRPC: many exchanges at a time on a connection.

use std::io;

use anyhow::{Context, bail};
use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderName, HeaderValue};
use tokio::net::TcpStream;

use crate::limits::HTTP2_WINDOW_BYTES;
use crate::options::Options;

/// What every stream sends.
#[derive(Debug)]
pub struct Request {
    head: http::request::Parts,
    body: Bytes,
    grpc: bool,
}

/// A handle on a shared connection.
#[derive(Debug, Clone)]
pub struct Connection(SendRequest<Bytes>);

impl Request {
    /// What `options` ask for; with gRPC the body is one message.
    ///
    /// # Errors
    /// When they make no request.
    pub fn new(options: &Options) -> anyhow::Result<Request> {
        let uri = format!("http://{}{}", options.host, options.path);
        let mut request = http::Request::builder().method(options.method()).uri(&uri);
        for field in &options.headers {
            let Some((name, value)) = field.split_once(':') else {
                bail!("header field {field:?} is not NAME: VALUE")
            };
            let name = HeaderName::try_from(name.trim()).with_context(|| field.clone())?;
            request = request.header(name, HeaderValue::try_from(value.trim())?);
        }
        let mut body = vec![b'x'; options.body];
        if options.grpc {
            request = request.header("content-type", "application/grpc").header("te", "trailers");
            let length = u32::try_from(body.len())?.to_be_bytes();
            body.splice(0..0, [&[0], length.as_slice()].concat());
        }
        let (head, ()) =
            request.body(()).with_context(|| format!("{uri:?} is no request target"))?.into_parts();
        Ok(Request { head, body: body.into(), grpc: options.grpc })
    }
}

impl Connection {
    /// Shakes hands over `stream`.
    ///
    /// # Errors
    /// When the server does not speak HTTP/2.
    pub async fn new(stream: TcpStream) -> io::Result<Connection> {
        let (client, connection) = h2::client::Builder::new()
            .initial_window_size(HTTP2_WINDOW_BYTES)
            .initial_connection_window_size(HTTP2_WINDOW_BYTES)
            .handshake(stream)
            .await
            .map_err(io::Error::other)?;
        // What ends the connection ends its streams, which tell it.
        tokio::task::spawn_local(connection);
        Ok(Connection(client))
    }

    /// One stream from request to the answer's end.
    ///
    /// # Errors
    /// When the stream or its connection fails.
    pub async fn run(&mut self, request: &Request) -> io::Result<bool> {
        self.exchange(request).await.map_err(io::Error::other)
    }

    async fn exchange(&mut self, request: &Request) -> Result<bool, h2::Error> {
        let mut client = self.0.clone().ready().await?;
        let head = http::Request::from_parts(request.head.clone(), ());
        let (answer, mut out) = client.send_request(head, request.body.is_empty())?;
        let mut body = request.body.clone();
        while !body.is_empty() {
            out.reserve_capacity(body.len());
            let Some(granted) = std::future::poll_fn(|cx| out.poll_capacity(cx)).await else { break };
            let piece = body.split_to(granted?.min(body.len()));
            out.send_data(piece, body.is_empty())?;
        }
        let answer = answer.await?;
        let success = answer.status().is_success();
        let inline_status = answer.headers().get("grpc-status").cloned();
        let mut body = answer.into_body();
        while let Some(bytes) = body.data().await {
            let length = bytes?.len();
            body.flow_control().release_capacity(length)?;
        }
        let trailers = body.trailers().await?;
        let status = trailers.and_then(|trailers| trailers.get("grpc-status").cloned()).or(inline_status);
        Ok(success && (!request.grpc || status.is_some_and(|status| status == "0")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn request(arguments: &[&str]) -> anyhow::Result<Request> {
        Request::new(&Options::parse_from([&["ringsail-loadgen", "127.0.0.1:1"], arguments].concat()))
    }

    #[test]
    fn a_grpc_message_goes_behind_its_prefix() {
        let request = request(&["--grpc", "--body", "258", "--path", "/shop.Cart/Add"]).unwrap();
        assert_eq!((request.body.len(), &request.body[..5]), (263, &[0, 0, 0, 1, 2][..]));
        assert_eq!((request.head.method.as_str(), request.head.uri.path()), ("POST", "/shop.Cart/Add"));
        assert_eq!(request.head.headers["te"], "trailers");
    }

    #[test]
    fn a_field_without_colon_is_refused() {
        assert!(request(&["--http2", "-H", "a"]).is_err());
        assert_eq!(request(&["--http2", "-H", "a: b"]).unwrap().head.headers["a"], "b");
    }
}
