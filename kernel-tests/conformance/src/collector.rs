//! Collectors of logs and spans: they keep what they are sent, as it was on the wire.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

/// One message.
#[derive(Debug, Clone)]
pub struct Message {
    /// The method or the path it was sent to.
    pub path: String,
    /// `:authority` or `host`.
    pub authority: String,
    /// Other header fields by name.
    pub fields: BTreeMap<String, String>,
    /// Which message of its stream, from 0.
    pub index: usize,
    /// Its bytes.
    pub body: Bytes,
}

/// Messages in order of arrival.
pub type Messages = Arc<Mutex<Vec<Message>>>;

/// A collector that takes gRPC and one that takes HTTP/1, for the whole process.
pub struct Collectors {
    /// Where gRPC goes.
    pub grpc: SocketAddr,
    /// Where HTTP/1 goes.
    pub http: SocketAddr,
    messages: Messages,
}

/// The collectors of this process, started at the first call.
pub fn shared() -> &'static Collectors {
    static SHARED: OnceLock<Collectors> = OnceLock::new();
    SHARED.get_or_init(|| {
        let messages = Messages::default();
        let grpc = start_grpc(messages.clone()).expect("a loopback listener");
        let http = start_http(messages.clone()).expect("a loopback listener");
        Collectors { grpc, http, messages }
    })
}

impl Collectors {
    /// The messages that name `run` somewhere.
    pub fn of(&self, run: &str) -> Vec<Message> {
        let messages = self.messages.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        messages.iter().filter(|message| names(&message.body, run)).cloned().collect()
    }
}

/// Whether `name` is somewhere in `bytes`, and not as the beginning of a longer name.
pub fn names(bytes: &[u8], name: &str) -> bool {
    // What follows in a message is a tag and a length; a name goes on for longer.
    let part = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || *byte == b'-');
    bytes.windows(name.len()).enumerate().any(|(at, window)| {
        let after = at + name.len();
        window == name.as_bytes() && !(part(bytes.get(after)) && part(bytes.get(after + 1)))
    })
}

fn keep(messages: &Messages, message: Message) {
    messages.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(message);
}

/// A collector of its own that speaks gRPC; it ends with the process.
pub fn start_grpc(messages: Messages) -> std::io::Result<SocketAddr> {
    start_grpc_at((Ipv4Addr::LOCALHOST, 0).into(), messages)
}

/// The same at an address.
pub fn start_grpc_at(address: SocketAddr, messages: Messages) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::spawn(move || {
        runtime.block_on(async move {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            while let Ok((stream, _)) = listener.accept().await {
                let messages = messages.clone();
                tokio::spawn(async move {
                    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        tokio::spawn(take(request, respond, messages.clone()));
                    }
                });
            }
        });
    });
    Ok(address)
}

async fn take(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    messages: Messages,
) {
    let (head, mut body) = request.into_parts();
    let fields: BTreeMap<String, String> = head
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).to_string()))
        .collect();
    let mut buffered = BytesMut::new();
    let mut index = 0;
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        buffered.extend_from_slice(&data);
        // Each message has a byte that says whether it is compressed, and four with its length.
        while buffered.len() >= 5 {
            let length = u32::from_be_bytes([buffered[1], buffered[2], buffered[3], buffered[4]]) as usize;
            if buffered.len() < 5 + length {
                break;
            }
            let message = buffered.split_to(5 + length).freeze().slice(5..);
            keep(
                &messages,
                Message {
                    path: head.uri.path().to_string(),
                    authority: head.uri.authority().map(ToString::to_string).unwrap_or_default(),
                    fields: fields.clone(),
                    index,
                    body: message,
                },
            );
            index += 1;
        }
    }
    let answer = http::Response::builder().header("content-type", "application/grpc").body(());
    let Ok(answer) = answer else { return };
    let Ok(mut send) = respond.send_response(answer, false) else { return };
    // An empty message of any kind, then the status.
    let _ = send.send_data(Bytes::from_static(&[0; 5]), false);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    let _ = send.send_trailers(trailers);
}

fn start_http(messages: Messages) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let messages = messages.clone();
            thread::spawn(move || {
                let _ = take_http(stream, &messages);
            });
        }
    });
    Ok(address)
}

fn take_http(mut stream: TcpStream, messages: &Messages) -> std::io::Result<()> {
    let mut buffered = Vec::new();
    loop {
        let mut block = [0; 16 * 1024];
        let head_end = loop {
            if let Some(at) = buffered.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            match stream.read(&mut block)? {
                0 => return Ok(()),
                length => buffered.extend_from_slice(&block[..length]),
            }
        };
        let head = String::from_utf8_lossy(&buffered[..head_end]).to_string();
        let mut fields: BTreeMap<String, String> = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_string()))
            .collect();
        buffered.drain(..head_end + 4);
        let body = if fields.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            let mut body = Vec::new();
            loop {
                let size = exactly(&mut stream, &mut buffered, |bytes| {
                    bytes.windows(2).position(|window| window == b"\r\n").map(|at| at + 2)
                })?;
                let size = usize::from_str_radix(String::from_utf8_lossy(&size).trim(), 16).unwrap_or(0);
                let chunk = exactly(&mut stream, &mut buffered, |_| Some(size + 2))?;
                body.extend_from_slice(&chunk[..size]);
                if size == 0 {
                    break body;
                }
            }
        } else {
            let length = fields.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            exactly(&mut stream, &mut buffered, |_| Some(length))?
        };
        let body = Bytes::from(body);
        let path = head.split(' ').nth(1).unwrap_or_default().to_string();
        let authority = fields.remove("host").unwrap_or_default();
        keep(messages, Message { path, authority, fields, index: 0, body });
        stream.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")?;
    }
}

/// As many bytes from the front as `length` says, once they are there.
fn exactly(
    stream: &mut TcpStream,
    buffered: &mut Vec<u8>,
    length: impl Fn(&[u8]) -> Option<usize>,
) -> std::io::Result<Vec<u8>> {
    let mut block = [0; 16 * 1024];
    loop {
        if let Some(length) = length(buffered).filter(|length| *length <= buffered.len()) {
            return Ok(buffered.drain(..length).collect());
        }
        match stream.read(&mut block)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => buffered.extend_from_slice(&block[..read]),
        }
    }
}
