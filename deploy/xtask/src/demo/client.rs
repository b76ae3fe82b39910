//! Requests as a browser would send them: kept connections, one request at a time on each.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// Longest page that is read, in bytes.
const PAGE_BYTES_MAX: usize = 256 * 1024;

/// A request that takes longer has failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

type Connection = SendRequest<Empty<Bytes>>;

/// A client of one address.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    idle: Rc<RefCell<Vec<Connection>>>,
}

/// What came back.
pub struct Page {
    /// HTTP status.
    pub status: u16,
    /// From sending to the last byte.
    pub elapsed: Duration,
    /// The body, when it is JSON.
    pub answer: Option<Value>,
}

impl Client {
    /// Connects to `address` when first used.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, idle: Rc::default() }
    }

    /// Gets a page with extra header fields.
    pub async fn get(&self, target: &str, fields: &[(&str, &str)]) -> Result<Page> {
        tokio::time::timeout(REQUEST_TIMEOUT, self.exchange(target, fields))
            .await
            .context("no answer in time")?
    }

    async fn exchange(&self, target: &str, fields: &[(&str, &str)]) -> Result<Page> {
        let mut request = Request::get(target).header("host", "bookinfo.example.com");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::new())?;
        let begun = Instant::now();
        let mut connection = self.connection().await?;
        let response = connection.send_request(request).await?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), PAGE_BYTES_MAX).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
        let elapsed = begun.elapsed();
        self.idle.borrow_mut().push(connection);
        Ok(Page { status, elapsed, answer: serde_json::from_slice(&body).ok() })
    }

    async fn connection(&self) -> Result<Connection> {
        loop {
            let kept = self.idle.borrow_mut().pop();
            let Some(mut kept) = kept else { break };
            if kept.ready().await.is_ok() {
                return Ok(kept);
            }
        }
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (connection, driver) = handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn_local(driver);
        Ok(connection)
    }
}
