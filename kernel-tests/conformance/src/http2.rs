//! HTTP/2 with prior knowledge: a client that shows everything it was sent, and backends that play the same scripts as
//! those of [`crate::backend`].

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server};
use http::{HeaderMap, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::backend::{Journal, Seen, Step};
use crate::case::masked_field;

/// Backends that speak HTTP/2.
pub const BACKENDS: [&str; 2] = ["ha", "hb"];

/// How long a client waits for anything.
const PATIENCE: Duration = Duration::from_secs(10);

/// One request of a client.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// The method.
    pub method: &'static str,
    /// The path.
    pub path: String,
    /// The authority.
    pub authority: String,
    /// The protocol of an extended CONNECT.
    pub protocol: Option<&'static str>,
    /// Further fields.
    pub fields: Vec<(String, String)>,
    /// Pieces of the body; none ends the stream with the head.
    pub body: Vec<Vec<u8>>,
    /// Fields after the body.
    pub trailers: Vec<(String, String)>,
    /// Do not end the stream; reset it when this many bytes of a body have come.
    pub tunnel: Option<usize>,
    /// Reset the stream when the response head has come, with this code.
    pub cancel: Option<Reason>,
}

/// What came back on one stream, as text with masked fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// The status; 0 when the stream ended without one.
    pub status: u16,
    /// Head fields, sorted by name.
    pub fields: String,
    /// The body.
    pub body: Vec<u8>,
    /// Trailers, sorted by name.
    pub trailers: String,
    /// How the stream ended when not in the orderly way.
    pub error: String,
}

/// Makes `calls` at the same time on one connection to `proxy`.
pub fn calls(proxy: SocketAddr, calls: Vec<Call>) -> Result<Vec<Reply>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        let stream = timeout(PATIENCE, TcpStream::connect(proxy)).await??;
        stream.set_nodelay(true)?;
        let (mut client, connection) = h2::client::handshake(stream).await?;
        let driver = tokio::spawn(async move {
            // How a connection ends shows on its streams.
            let _ = connection.await;
        });
        let mut running = Vec::new();
        for call in calls {
            client = timeout(PATIENCE, client.ready()).await.context("no stream was granted")??;
            let uri = match (call.method, call.protocol) {
                ("CONNECT", None) => call.authority.clone(),
                _ => format!("http://{}{}", call.authority, call.path),
            };
            let mut request = Request::builder().method(call.method).uri(uri).version(http::Version::HTTP_2);
            if let Some(protocol) = call.protocol {
                timeout(PATIENCE, connect_protocol(&client))
                    .await
                    .context("no extended CONNECT is allowed")?;
                request = request.extension(h2::ext::Protocol::from_static(protocol));
            }
            for (name, value) in &call.fields {
                request = request.header(name.as_str(), value.as_str());
            }
            let ends = call.body.is_empty() && call.trailers.is_empty();
            let (response, body) = client.send_request(request.body(())?, ends)?;
            running.push(tokio::spawn(async move {
                match timeout(PATIENCE, exchange(response, body, call)).await {
                    Ok(reply) => reply,
                    Err(_) => Reply { error: "no end within patience".to_string(), ..Reply::default() },
                }
            }));
        }
        let mut replies = Vec::new();
        for task in running {
            replies.push(task.await.map_err(|error| anyhow!("a call panicked: {error}"))?);
        }
        driver.abort();
        Ok(replies)
    })
}

/// Waits for the settings that allow an extended CONNECT.
async fn connect_protocol(client: &h2::client::SendRequest<Bytes>) {
    while !client.is_extended_connect_protocol_enabled() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn exchange(response: h2::client::ResponseFuture, mut body: SendStream<Bytes>, call: Call) -> Reply {
    let mut reply = Reply::default();
    let pieces = call.body.len();
    for (index, piece) in call.body.into_iter().enumerate() {
        let last = index + 1 == pieces && call.trailers.is_empty() && call.tunnel.is_none();
        // A refused body shows in the response.
        if body.send_data(piece.into(), last).is_err() {
            break;
        }
    }
    if !call.trailers.is_empty() {
        let _ = body.send_trailers(header_map(&call.trailers));
    }
    match response.await {
        Ok(response) => {
            reply.status = response.status().as_u16();
            reply.fields = show(response.headers());
            if let Some(reason) = call.cancel {
                body.send_reset(reason);
                reply.error = "cancelled".to_string();
                return reply;
            }
            let most = call.tunnel.unwrap_or(usize::MAX);
            read_body(response.into_body(), most, &mut reply).await;
            if call.tunnel.is_some() && reply.error.is_empty() {
                body.send_reset(Reason::CANCEL);
            }
        }
        Err(error) => reply.error = describe(&error),
    }
    reply
}

async fn read_body(mut stream: RecvStream, most: usize, reply: &mut Reply) {
    while let Some(piece) = stream.data().await {
        match piece {
            Ok(piece) => {
                reply.body.extend_from_slice(&piece);
                // Fails only when the stream is gone, which the next piece tells.
                let _ = stream.flow_control().release_capacity(piece.len());
                if reply.body.len() >= most {
                    return;
                }
            }
            Err(error) => {
                reply.error = describe(&error);
                return;
            }
        }
    }
    match stream.trailers().await {
        Ok(trailers) => reply.trailers = trailers.map(|trailers| show(&trailers)).unwrap_or_default(),
        Err(error) => reply.error = describe(&error),
    }
}

fn describe(error: &h2::Error) -> String {
    match (error.reason(), error.is_go_away()) {
        (Some(reason), true) => format!("GOAWAY {reason:?}"),
        (Some(reason), false) => format!("RST_STREAM {reason:?}"),
        (None, _) => "the connection ended".to_string(),
    }
}

fn show(headers: &HeaderMap) -> String {
    let mut lines: Vec<String> = headers
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).to_string();
            format!("{name}: {}", masked_field(name.as_str(), &value))
        })
        .collect();
    lines.sort();
    lines.join("\n")
}

fn header_map(fields: &[(String, String)]) -> HeaderMap {
    let fields = fields.iter().filter_map(|(name, value)| {
        Some((http::HeaderName::try_from(name.as_str()).ok()?, http::HeaderValue::try_from(value).ok()?))
    });
    fields.collect()
}

/// Starts a backend that speaks HTTP/2 and lives as long as the process.
pub fn start_backend(name: &'static str, journal: Arc<Journal>) -> SocketAddr {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback listener");
    listener.set_nonblocking(true).expect("a socket can be made non-blocking");
    let address = listener.local_addr().expect("a bound listener has an address");
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).expect("a listening socket");
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(name, stream, journal.clone()));
            }
        });
    });
    address
}

async fn serve(name: &'static str, stream: TcpStream, journal: Arc<Journal>) {
    let _ = stream.set_nodelay(true);
    let Ok(mut connection) =
        server::Builder::new().enable_connect_protocol().handshake::<_, Bytes>(stream).await
    else {
        return;
    };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(answer(name, request, respond, journal.clone()));
    }
}

async fn answer(
    name: &'static str,
    request: Request<RecvStream>,
    mut respond: server::SendResponse<Bytes>,
    journal: Arc<Journal>,
) {
    let (head, mut stream) = request.into_parts();
    let field =
        |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_string();
    let run = field("x-run");
    let start = format!("{} {}", head.method, head.uri.path_and_query().map_or("", |path| path.as_str()));
    let authority = head.uri.authority().map(ToString::to_string).unwrap_or_default();
    let script = field("x-script");
    let (text, step) = Step::of(&script, journal.of(&run).len());
    journal.note(&run, Seen { backend: name, start: start.clone(), host: authority.clone(), step: text });
    let grpc = field("content-type").starts_with("application/grpc");
    if field("x-protocol").is_empty() && head.extensions.get::<h2::ext::Protocol>().is_some() {
        tunnel(respond, stream).await;
        return;
    }
    if start.ends_with("/grpc.health.v1.Health/Check") && step == Step::of("", 0).1 {
        return health(respond, &field("x-serving"), stream).await;
    }
    let (status, fields) = match step {
        Step::Close => return respond.send_reset(Reason::INTERNAL_ERROR),
        Step::Reset(code) => return respond.send_reset(Reason::from(code)),
        Step::Hang => return tokio::time::sleep(Duration::from_secs(20)).await,
        Step::HeadOnly => {
            let _stream = respond.send_response(Response::new(()), false);
            return tokio::time::sleep(Duration::from_secs(20)).await;
        }
        Step::Grpc(status) => {
            let response = Response::builder()
                .header("content-type", "application/grpc")
                .header("grpc-status", status)
                .header("x-backend", name);
            let _ = respond.send_response(response.body(()).unwrap_or_default(), true);
            return;
        }
        Step::Answer { status, fields, delay } => {
            tokio::time::sleep(delay).await;
            (status, fields)
        }
    };
    let mut body = format!("{start}\nauthority {authority}\n").into_bytes();
    let mut lines: Vec<String> = head
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap_or("?")))
        .collect();
    lines.sort();
    body.extend_from_slice(lines.join("\n").as_bytes());
    body.extend_from_slice(b"\n\n");
    if grpc {
        body.clear();
    }
    while let Some(Ok(piece)) = stream.data().await {
        let _ = stream.flow_control().release_capacity(piece.len());
        body.extend_from_slice(&piece);
    }
    let trailers = stream.trailers().await.ok().flatten();
    let mut response = Response::builder().status(status).header("x-backend", name);
    if !field("x-show").is_empty() {
        let shown = field("x-show");
        response = response.header("x-shown", shown.split(',').map(&field).collect::<Vec<_>>().join("|"));
    }
    let typed = fields.iter().any(|(name, _)| name == "content-type");
    for (name, value) in fields {
        response = response.header(name, value);
    }
    if grpc && !typed {
        response = response.header("content-type", "application/grpc");
    }
    let Ok(mut out) = respond.send_response(response.body(()).unwrap_or_default(), false) else { return };
    let mut end = trailers.unwrap_or_default();
    if grpc && !typed {
        end.insert("grpc-status", http::HeaderValue::from_static("0"));
    }
    if grpc && typed {
        body = b"not \xc3\xa4 call".to_vec();
    }
    let _ = out.send_data(body.into(), end.is_empty());
    if !end.is_empty() {
        let _ = out.send_trailers(end);
    }
}

/// Answers a health check with the status of `x-serving`; without one, 1 (SERVING) where no service or `app` is asked
/// about, else 3 (SERVICE_UNKNOWN).
async fn health(mut respond: server::SendResponse<Bytes>, serving: &str, mut stream: RecvStream) {
    let mut question = Vec::new();
    while let Some(Ok(piece)) = stream.data().await {
        question.extend_from_slice(&piece);
    }
    // Flag and length of the message, then field 1 with its length.
    let known = matches!(question.get(7..), None | Some(b"app"));
    let status = serving.parse().unwrap_or(if known { 1 } else { 3 });
    let response = Response::builder().header("content-type", "application/grpc");
    let Ok(mut out) = respond.send_response(response.body(()).unwrap_or_default(), false) else { return };
    let _ = out.send_data(Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 8, status]), false);
    let mut end = HeaderMap::new();
    end.insert("grpc-status", http::HeaderValue::from_static("0"));
    let _ = out.send_trailers(end);
}

/// Sends back what comes in on an extended CONNECT.
async fn tunnel(mut respond: server::SendResponse<Bytes>, mut stream: RecvStream) {
    let Ok(mut out) = respond.send_response(Response::new(()), false) else { return };
    while let Some(Ok(piece)) = stream.data().await {
        let _ = stream.flow_control().release_capacity(piece.len());
        if out.send_data(piece, false).is_err() {
            return;
        }
    }
    let _ = out.send_data(Bytes::new(), true);
}
