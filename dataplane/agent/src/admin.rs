//! The admin endpoint: Envoy's paths, methods and formats, because istioctl, Kiali and people's scripts read them.
//!
//! It runs on the agent's thread. What shards know is read from counter blocks; what they are told goes through
//! [`Process`]. Nothing here borrows from a shard.

mod certs;
mod clusters;
mod config_dump;
mod endpoints;
mod listeners;
mod server_info;

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ringsail_telemetry::Registry;
use serde::Serialize as _;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use crate::bootstrap::{AdminAddress, Bootstrap};
use crate::limits::{ADMIN_BODY_BYTES_MAX, ADMIN_CONNECTIONS_MAX, ADMIN_HEAD_TIMEOUT};
use crate::options::Options;
use crate::process::Process;
use crate::state::State;

/// What the endpoint answers from.
pub(crate) struct Admin {
    pub(crate) options: Options,
    pub(crate) bootstrap: Bootstrap,
    pub(crate) state: Rc<RefCell<State>>,
    pub(crate) stats: Arc<Registry>,
    pub(crate) process: Arc<dyn Process>,
}

/// A bound socket that does not accept yet.
pub(crate) enum Socket {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Socket {
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            Socket::Unix(_) => None,
        }
    }
}

/// Binds the admin address.
pub(crate) fn bind(address: &AdminAddress) -> io::Result<Socket> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("admin address {address}: {error}"));
    match address {
        AdminAddress::Socket(at) => {
            let listener = std::net::TcpListener::bind(at).map_err(named)?;
            listener.set_nonblocking(true)?;
            Ok(Socket::Tcp(listener))
        }
        AdminAddress::Pipe(path) => {
            // A socket left by an earlier process would be in the way.
            let _ = std::fs::remove_file(path);
            let listener = std::os::unix::net::UnixListener::bind(path).map_err(named)?;
            listener.set_nonblocking(true)?;
            Ok(Socket::Unix(listener))
        }
    }
}

/// Accepts until the agent stops.
pub(crate) async fn serve(socket: Socket, admin: Rc<Admin>) {
    let slots = Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX));
    let outcome = match socket {
        Socket::Tcp(listener) => match TcpListener::from_std(listener) {
            Ok(listener) => loop {
                let Ok(slot) = slots.clone().acquire_owned().await else { return };
                match listener.accept().await {
                    Ok((stream, _)) => spawn(stream, admin.clone(), slot),
                    Err(error) => pause(&error).await,
                }
            },
            Err(error) => error,
        },
        Socket::Unix(listener) => match UnixListener::from_std(listener) {
            Ok(listener) => loop {
                let Ok(slot) = slots.clone().acquire_owned().await else { return };
                match listener.accept().await {
                    Ok((stream, _)) => spawn(stream, admin.clone(), slot),
                    Err(error) => pause(&error).await,
                }
            },
            Err(error) => error,
        },
    };
    tracing::error!(error = %outcome, "the admin endpoint cannot be served");
}

/// Out of file descriptors, most likely: trying again at once would burn the thread.
async fn pause(error: &io::Error) {
    tracing::warn!(%error, "admin: accept");
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
}

fn spawn(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    admin: Rc<Admin>,
    slot: tokio::sync::OwnedSemaphorePermit,
) {
    tokio::task::spawn_local(async move {
        let _slot = slot;
        let service = service_fn(move |request| {
            let admin = admin.clone();
            async move { Ok::<_, Infallible>(answer(&admin, request).await) }
        });
        let mut server = hyper::server::conn::http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(ADMIN_HEAD_TIMEOUT);
        if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
            tracing::debug!(%error, "admin: connection");
        }
    });
}

async fn answer(admin: &Admin, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    // Parameters of a form count as well. Source: Envoy's admin reads both.
    let form = match Limited::new(body, ADMIN_BODY_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => {
            return Page::text(StatusCode::PAYLOAD_TOO_LARGE, "Payload Too Large".to_string())
                .into_response();
        }
    };
    let mut query = Query::parse(head.uri.query().unwrap_or_default());
    let is_form = head
        .headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
    if is_form {
        query.extend(&String::from_utf8_lossy(&form));
    }
    respond(admin, &head.method, head.uri.path(), &query).into_response()
}

/// The page for a request.
fn respond(admin: &Admin, method: &Method, path: &str, query: &Query) -> Page {
    let Some(endpoint) = endpoints::ENDPOINTS.iter().find(|endpoint| endpoint.path == path) else {
        return Page::text(StatusCode::NOT_FOUND, format!("invalid path. {}", endpoints::help()));
    };
    if endpoint.post && method != Method::POST {
        let text = format!("Method {method} not allowed, POST required.");
        return Page::text(StatusCode::METHOD_NOT_ALLOWED, text);
    }
    (endpoint.page)(admin, query)
}

/// An answer.
pub(crate) struct Page {
    status: StatusCode,
    content_type: &'static str,
    body: String,
}

impl Page {
    fn text(status: StatusCode, body: String) -> Page {
        Page { status, content_type: "text/plain; charset=UTF-8", body }
    }

    fn ok(body: impl Into<String>) -> Page {
        Page::text(StatusCode::OK, body.into())
    }

    fn html(body: String) -> Page {
        Page { status: StatusCode::OK, content_type: "text/html; charset=UTF-8", body }
    }

    /// Compat: Envoy indents by one blank and ends with a line end.
    fn json(value: &Value) -> Page {
        let mut body = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b" ");
        let mut serializer = serde_json::Serializer::with_formatter(&mut body, formatter);
        value.serialize(&mut serializer).expect("values can be written to memory");
        body.push(b'\n');
        let body = String::from_utf8(body).expect("JSON is UTF-8");
        Page { status: StatusCode::OK, content_type: "application/json", body }
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        Response::builder()
            .status(self.status)
            .header(header::CONTENT_TYPE, self.content_type)
            .header(header::CACHE_CONTROL, "no-cache, max-age=0")
            .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
            .header(header::SERVER, "envoy")
            .body(Full::new(Bytes::from(self.body)))
            .expect("these headers are valid")
    }
}

/// Parameters of a request, in order.
#[derive(Debug, Default)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    fn parse(text: &str) -> Query {
        let mut query = Query::default();
        query.extend(text);
        query
    }

    fn extend(&mut self, text: &str) {
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            self.pairs.push((decode(key), decode(value)));
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The regular expression in a parameter, or the page that says what is wrong with it.
    fn regex(&self, name: &str) -> Result<Option<regex::Regex>, Page> {
        let Some(pattern) = self.get(name) else { return Ok(None) };
        regex::Regex::new(pattern).map(Some).map_err(|error| {
            let text =
                format!("Invalid regex: \"{}\"\n", error.to_string().lines().last().unwrap_or_default());
            Page::text(StatusCode::BAD_REQUEST, text)
        })
    }
}

/// Percent-decodes; what is no escape stays as it is.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escape = (byte == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(value) => {
                decoded.push(value);
                at += 3;
            }
            None => {
                decoded.push(if byte == b'+' { b' ' } else { byte });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
