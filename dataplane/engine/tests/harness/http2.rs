//! An HTTP/2 client around the `h2` crate, and one that writes frames by hand.

use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};

/// How long a test waits for something that must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client of one connection, which a thread of its own drives.
pub struct Client {
    runtime: tokio::runtime::Handle,
    send: SendRequest<Bytes>,
    connection: tokio::task::JoinHandle<Result<(), h2::Error>>,
    // Its end ends the thread.
    _driver: tokio::sync::oneshot::Sender<()>,
}

/// An answer that was received completely.
#[derive(Debug)]
pub struct Answer {
    pub head: Response<()>,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    pub fn status(&self) -> u16 {
        self.head.status().as_u16()
    }

    pub fn field(&self, name: &str) -> &str {
        self.head.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        Client::with(address, &h2::client::Builder::new())
    }

    pub fn with(address: SocketAddr, builder: &h2::client::Builder) -> Client {
        let (driver, end) = tokio::sync::oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        std::thread::spawn(move || runtime.block_on(async { drop(end.await) }));
        let (send, connection) = handle.block_on(async {
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (send, connection) = builder.handshake::<_, Bytes>(stream).await.unwrap();
            (send, tokio::spawn(connection))
        });
        Client { runtime: handle, send, connection, _driver: driver }
    }

    /// Runs a future beside the connection, with patience.
    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await.expect("in time") })
    }

    /// Begins a request.
    pub fn begin(&mut self, request: Request<()>, ends: bool) -> (ResponseFuture, SendStream<Bytes>) {
        let send = self.send.clone();
        let mut send = self.run(send.ready()).unwrap();
        send.send_request(request, ends).unwrap()
    }

    /// A request with this body, and its answer.
    pub fn ask(&mut self, request: Request<&str>) -> Result<Answer, h2::Error> {
        let (parts, body) = request.into_parts();
        let (answer, mut stream) = self.begin(Request::from_parts(parts, ()), body.is_empty());
        if !body.is_empty() {
            stream.send_data(Bytes::copy_from_slice(body.as_bytes()), true).unwrap();
        }
        self.run(receive(answer))
    }

    pub fn get(&mut self, path: &str) -> Result<Answer, h2::Error> {
        self.ask(get(path))
    }

    /// Waits until the server ends the connection, or until it is over for both.
    pub fn closed(&mut self) -> Result<(), h2::Error> {
        let connection = &mut self.connection;
        let waited = async { tokio::time::timeout(PATIENCE, connection).await.expect("in time") };
        self.runtime.block_on(waited).unwrap()
    }
}

/// A GET.
pub fn get(path: &str) -> Request<&'static str> {
    Request::get(format!("http://a.example{path}")).body("").unwrap()
}

/// Receives an answer to its end.
pub async fn receive(answer: ResponseFuture) -> Result<Answer, h2::Error> {
    let (head, mut stream) = answer.await?.into_parts();
    let body = body(&mut stream).await?;
    let trailers = stream.trailers().await?;
    Ok(Answer { head: Response::from_parts(head, ()), body, trailers })
}

/// Receives a body, giving its window back as it comes.
pub async fn body(stream: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    Ok(body)
}

/// A client that writes frames by hand: what no honest library would send.
pub struct Frames {
    pub stream: TcpStream,
}

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// `GET http://a/`, in HPACK's static table as far as it goes.
pub const GET_ROOT: &[u8] = &[0x82, 0x86, 0x84, 0x41, 0x01, b'a'];

impl Frames {
    /// Connects and sends the preface with empty SETTINGS.
    pub fn connect(address: SocketAddr) -> Frames {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut frames = Frames { stream };
        frames.bytes(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        frames.send(SETTINGS, 0, 0, b"");
        frames
    }

    /// Sends bytes; false when the other side has closed.
    pub fn bytes(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        let bytes = frame(kind, flags, stream, payload);
        self.bytes(&bytes)
    }

    /// The next frame: kind, flags, stream, payload. `None` when the connection has ended.
    pub fn receive(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut header = [0; 9];
        self.stream.read_exact(&mut header).ok()?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
        Some((header[3], header[4], stream, payload))
    }

    /// Reads until a frame of this kind comes; `None` when the connection ends first.
    pub fn receive_kind(&mut self, kind: u8) -> Option<(u8, u8, u32, Vec<u8>)> {
        loop {
            let frame = self.receive()?;
            if frame.0 == kind {
                return Some(frame);
            }
        }
    }

    /// Reads until the connection ends; false when it does not.
    pub fn is_closed(&mut self) -> bool {
        use std::io::ErrorKind::{TimedOut, WouldBlock};
        let mut bytes = [0; 4096];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return !matches!(error.kind(), TimedOut | WouldBlock),
            }
        }
    }

    /// Reads until the connection ends; the error code of the last GOAWAY that came.
    pub fn end(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some((kind, _, _, payload)) = self.receive() {
            if kind == GOAWAY {
                code = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
            }
        }
        code
    }
}

/// A frame's bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A server whose answers depend on the path; see [`answer`].
pub struct Server {
    pub address: SocketAddr,
    pub connections: Arc<AtomicUsize>,
    /// What became of streams that ended early, and of requests.
    pub notes: Receiver<String>,
}

impl Server {
    pub fn start() -> Server {
        Server::with(h2::server::Builder::new())
    }

    pub fn with(builder: h2::server::Builder) -> Server {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (sender, notes) = channel();
        let counted = connections.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let tasks = tokio::task::LocalSet::new();
            tasks.block_on(&runtime, async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    counted.fetch_add(1, Ordering::Relaxed);
                    let handshake = builder.handshake::<_, Bytes>(stream);
                    let sender = sender.clone();
                    tokio::task::spawn_local(async move {
                        let Ok(mut connection) = handshake.await else { return };
                        let mut served = 0;
                        while let Some(Ok((request, respond))) = connection.accept().await {
                            served += 1;
                            if request.uri().path() == "/goodbye" {
                                connection.graceful_shutdown();
                            }
                            if request.uri().path() == "/drop" {
                                return;
                            }
                            tokio::task::spawn_local(answer(request, respond, served, sender.clone()));
                        }
                    });
                }
            });
        });
        Server { address, connections, notes }
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub fn note(&self) -> String {
        self.notes.recv_timeout(PATIENCE).expect("a note in time")
    }
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    served: usize,
    notes: Sender<String>,
) {
    let path = request.uri().path().to_owned();
    let (parts, mut body) = request.into_parts();
    let ok = || Response::builder().status(200);
    match path.as_str() {
        "/refuse" => respond.send_reset(h2::Reason::REFUSED_STREAM),
        "/reset" => respond.send_reset(h2::Reason::INTERNAL_ERROR),
        "/protocol-error" => respond.send_reset(h2::Reason::PROTOCOL_ERROR),
        "/reset-after-head" => {
            let mut stream = respond.send_response(ok().body(()).unwrap(), false).unwrap();
            stream.send_data(Bytes::from_static(b"part"), false).unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            stream.send_reset(h2::Reason::INTERNAL_ERROR);
        }
        "/hang" => {
            notes.send("hanging".into()).unwrap();
            let reset = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            notes.send(format!("{:?}", reset.map(|reason| reason.description().to_owned()))).unwrap();
        }
        // A body where none may be.
        "/no-content" => {
            let head = Response::builder().status(204).body(()).unwrap();
            let mut stream = respond.send_response(head, false).unwrap();
            let _ = stream.send_data(Bytes::from_static(b"HTTP/1.1 200 OK\r\n\r\n"), true);
        }
        // Reads nothing until the client is gone.
        "/stall" => {
            notes.send("stalling".into()).unwrap();
            let _ = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            drop(body);
        }
        // As much as the other side takes.
        "/endless" => {
            let mut stream = respond.send_response(ok().body(()).unwrap(), false).unwrap();
            let mut sent = 0_usize;
            loop {
                stream.reserve_capacity(16_384);
                let room = async {
                    loop {
                        match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
                            Some(Ok(room)) if room > 0 => return Some(room),
                            Some(Ok(_)) => {}
                            Some(Err(_)) | None => return None,
                        }
                    }
                };
                match tokio::time::timeout(Duration::from_millis(500), room).await {
                    Ok(Some(room)) => {
                        sent += room;
                        stream.send_data(Bytes::from(vec![b'x'; room]), false).unwrap();
                    }
                    Ok(None) => return,
                    Err(_) => {
                        notes.send(format!("{sent}")).unwrap();
                        return;
                    }
                }
            }
        }
        "/tunnel" => {
            let protocol = parts.extensions.get::<h2::ext::Protocol>().map(|p| p.as_str().to_owned());
            notes.send(format!("{} {protocol:?}", parts.method)).unwrap();
            let mut stream = respond.send_response(ok().body(()).unwrap(), false).unwrap();
            while let Some(Ok(data)) = body.data().await {
                body.flow_control().release_capacity(data.len()).unwrap();
                stream.send_data(data, false).unwrap();
            }
            let _ = stream.send_data(Bytes::new(), true);
        }
        // The request's head in the answer's, and its body as it comes; its trailers after `seen-`.
        _ => {
            let mut head = ok()
                .header("served", served)
                .header("seen-method", parts.method.as_str())
                .header("seen-target", parts.uri.to_string());
            for (name, value) in &parts.headers {
                head = head.header(format!("seen-{name}"), value);
            }
            let mut stream = respond.send_response(head.body(()).unwrap(), false).unwrap();
            while let Some(data) = body.data().await {
                let Ok(data) = data else { return };
                body.flow_control().release_capacity(data.len()).unwrap();
                stream.send_data(data, false).unwrap();
            }
            let mut trailers = HeaderMap::new();
            for (name, value) in &body.trailers().await.ok().flatten().unwrap_or_default() {
                let name = format!("seen-{name}");
                trailers.insert(http::HeaderName::try_from(name).unwrap(), value.clone());
            }
            trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
            let _ = stream.send_trailers(trailers);
        }
    }
}
