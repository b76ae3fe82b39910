//! A proxy on loopback with a scripted upstream: what the tests of this folder speak through.
//!
//! A test gives listeners and clusters as Envoy JSON, the client's bytes and the upstream's script, and looks at the
//! bytes that come out on either side. Every test runs on each engine this machine has; `RINGSAIL_ENGINE` picks one.

#![allow(dead_code)]

pub mod http2;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use prost::Message;
use ringsail_engine::control::{Command, Event};
use ringsail_engine::record::Log;
use ringsail_engine::shard::{Identity, Node, Settings, Shard};
use ringsail_engine::telemetry::Local;
use ringsail_runtime::engine::EngineChoice;
use ringsail_runtime::mailbox::{MailboxSender, mailbox, outbox};
use ringsail_runtime::publish::{Publisher, publication};
use ringsail_runtime::shard::{ShardsConfig, run_local};
use ringsail_tables::{Change, Compiler, ResourceType, Severity, Tables};
use ringsail_telemetry::Registry;
use ringsail_telemetry::access_log::LogWriter;
use ringsail_telemetry::export::Batches;
use ringsail_telemetry::render::{self, Selection};
use ringsail_xds::envoy::config::cluster::v3::Cluster;
use ringsail_xds::envoy::config::listener::v3::Listener;
use ringsail_xds::envoy::extensions::transport_sockets::tls::v3::Secret;
use ringsail_xds::json::Schema;
use serde_json::{Value, json};

/// How long a test waits for something that must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// The engines to test.
pub fn engines() -> Vec<EngineChoice> {
    match std::env::var("RINGSAIL_ENGINE").as_deref() {
        Ok("epoll") => vec![EngineChoice::Epoll],
        Ok("io_uring") => vec![EngineChoice::IoUring],
        _ => vec![EngineChoice::Auto, EngineChoice::Epoll],
    }
}

/// A running proxy of one shard.
pub struct Proxy {
    addresses: Vec<(String, SocketAddr)>,
    commands: Option<MailboxSender<Command>>,
    publisher: Publisher<Tables>,
    compiler: Compiler,
    thread: Option<thread::JoinHandle<()>>,
    log: tempfile::NamedTempFile,
    writer: Option<Arc<LogWriter>>,
    /// What is for collectors.
    pub batches: Batches,
    pub registry: Arc<Registry>,
}

impl Proxy {
    /// Starts a proxy with these listeners and clusters.
    pub fn start(engine: EngineChoice, listeners: &[Value], clusters: &[Value]) -> Proxy {
        Proxy::start_with(engine, Settings::default(), listeners, clusters)
    }

    /// The same with other settings than the defaults.
    pub fn start_with(
        engine: EngineChoice,
        settings: Settings,
        listeners: &[Value],
        clusters: &[Value],
    ) -> Proxy {
        Proxy::start_as(engine, Arc::default(), settings, listeners, clusters)
    }

    /// The same for a workload.
    pub fn start_as(
        engine: EngineChoice,
        local: Arc<Local>,
        settings: Settings,
        listeners: &[Value],
        clusters: &[Value],
    ) -> Proxy {
        let mut compiler = Compiler::new();
        let log = tempfile::NamedTempFile::new().unwrap();
        let tables = compile(&mut compiler, listeners, clusters, log.path().to_str().unwrap());
        let (publisher, mut seats) = publication(tables, 1).unwrap();
        let (commands, orders) = mailbox(16);
        let (events, news) = outbox(64);
        let (writer, batches) = LogWriter::start().unwrap();
        let writer = Arc::new(writer);
        let registry = Registry::new();
        let (seat, stats, logs) = (seats.pop().unwrap(), registry.seat(), writer.clone());
        let thread = thread::Builder::new().name("shard-under-test".into()).spawn(move || {
            let config = ShardsConfig { engine, ..ShardsConfig::default() };
            let ran = run_local(config, move || async move {
                let node = Node { id: "test-node".into(), cluster: "test-cluster".into(), zone: "z1".into() };
                let hostname = "test-host".into();
                let identity = Identity { address: [192, 0, 2, 1].into(), hostname, local, node };
                let log = Log::new(logs, identity.clone());
                let shard = Shard::new(0, 1, identity, seat.subscribe(), stats.open(), log, settings);
                let (judge, reports) = mailbox(16);
                shard.report_to(judge, Some(reports));
                ringsail_engine::run(shard, orders, events).await;
            });
            assert!(matches!(ran, Ok(Some(()))), "the shard broke");
        });
        let thread = thread.unwrap();
        let wanted: usize = listeners.iter().filter(|l| l.get("bind_to_port") != Some(&json!(false))).count();
        let mut addresses = Vec::new();
        while addresses.len() < wanted {
            match news.recv_timeout(PATIENCE).expect("listeners open in time") {
                Some(Event::Listening { name, address }) => {
                    addresses.push((name, address.as_inet().expect("a TCP listener")));
                }
                Some(Event::NotListening { name, error, .. }) => panic!("{name} does not listen: {error}"),
                Some(Event::Adopted { .. }) => {}
                None => panic!("the shard ended"),
            }
        }
        Proxy {
            addresses,
            commands: Some(commands),
            publisher,
            compiler,
            thread: Some(thread),
            log,
            writer: Some(writer),
            batches,
            registry,
        }
    }

    /// A proxy with one HTTP listener that sends everything to `upstream`; `change` may edit the connection manager and
    /// the cluster.
    pub fn http(
        engine: EngineChoice,
        upstream: SocketAddr,
        change: impl FnOnce(&mut Value, &mut Value),
    ) -> Proxy {
        let mut manager =
            manager(json!([{"match": {"prefix": "/"}, "route": {"cluster": "up", "timeout": "0s"}}]));
        let mut cluster = cluster("up", &[upstream]);
        change(&mut manager, &mut cluster);
        Proxy::start(engine, &[listener(manager)], &[cluster])
    }

    /// Where the only listener is.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0].1
    }

    /// Gives the proxy other configuration. Secrets stand among the clusters.
    pub fn update(&mut self, listeners: &[Value], clusters: &[Value]) {
        let path = self.log.path().to_str().unwrap().to_owned();
        let tables = compile(&mut self.compiler, listeners, clusters, &path);
        self.publisher.publish(tables);
    }

    /// Takes a listener away.
    pub fn remove_listener(&mut self, name: &str) {
        let change = Change::Remove { kind: ResourceType::Listener, name: name.to_owned() };
        let (tables, _) = self.compiler.apply(vec![change]);
        self.publisher.publish(tables);
    }

    /// Gives an order.
    pub fn command(&self, command: Command) {
        self.commands.as_ref().unwrap().try_send(command).unwrap();
    }

    /// Connects a client.
    pub fn connect(&self) -> Peer {
        Peer::new(TcpStream::connect(self.address()).unwrap())
    }

    /// Sends one request on a connection of its own and returns all that comes back until the connection is quiet for
    /// ever: the request should make the proxy close.
    pub fn ask(&self, request: &str) -> String {
        let mut client = self.connect();
        client.send(request);
        client.read_to_end()
    }

    /// A counter or gauge by its full name; 0 when nothing has counted yet.
    pub fn stat(&self, name: &str) -> u64 {
        let mut text = String::new();
        render::text(&self.registry, Selection::default(), &mut text);
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.map_or(0, |value| value.parse().unwrap())
    }

    /// Waits until a counter or gauge has a value.
    pub fn wait_for_stat(&self, name: &str, wanted: u64) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.stat(name) != wanted {
            assert!(Instant::now() < deadline, "{name} is {}, not {wanted}", self.stat(name));
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends the proxy and returns its access log.
    pub fn log(mut self) -> String {
        self.end();
        std::fs::read_to_string(self.log.path()).unwrap()
    }

    fn end(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            let result = thread.join();
            if !thread::panicking() {
                result.unwrap();
            }
        }
        // The last handle joins the writer's thread, which writes what is queued.
        self.writer = None;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.end();
    }
}

fn compile(compiler: &mut Compiler, listeners: &[Value], clusters: &[Value], log: &str) -> Arc<Tables> {
    let schema = Schema::shared();
    let mut changes = Vec::new();
    let is_secret =
        |value: &&Value| ["tls_certificate", "validation_context"].iter().any(|key| value.get(key).is_some());
    for value in clusters.iter().filter(is_secret) {
        let secret: Secret = schema.from_json(value).unwrap();
        changes.push(Change::Put {
            kind: ResourceType::Secret,
            name: secret.name.clone(),
            resource: secret.encode_to_vec().into(),
        });
    }
    for value in clusters.iter().filter(|value| !is_secret(value)) {
        let cluster: Cluster = schema.from_json(value).unwrap();
        changes.push(Change::Put {
            kind: ResourceType::Cluster,
            name: cluster.name.clone(),
            resource: cluster.encode_to_vec().into(),
        });
    }
    for value in listeners {
        let text = value.to_string().replace("$LOG", log);
        let listener: Listener = schema.from_json(&serde_json::from_str(&text).unwrap()).unwrap();
        changes.push(Change::Put {
            kind: ResourceType::Listener,
            name: listener.name.clone(),
            resource: listener.encode_to_vec().into(),
        });
    }
    let (tables, diagnostics) = compiler.apply(changes);
    for diagnostic in &diagnostics {
        assert!(diagnostic.severity != Severity::Refused, "{diagnostic}");
    }
    tables
}

const TYPES: &str = "type.googleapis.com/";

/// A connection manager as istiod sets it up, with these routes under any domain.
pub fn manager(routes: Value) -> Value {
    json!({
        "@type": format!("{TYPES}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "test",
        "route_config": {"name": "test", "virtual_hosts": [{
            "name": "any", "domains": ["*"], "routes": routes, "include_request_attempt_count": true,
        }]},
        "http_filters": [
            {"name": "envoy.filters.http.fault", "typed_config": {
                "@type": format!("{TYPES}envoy.extensions.filters.http.fault.v3.HTTPFault")}},
            {"name": "envoy.filters.http.cors", "typed_config": {
                "@type": format!("{TYPES}envoy.extensions.filters.http.cors.v3.Cors")}},
            {"name": "envoy.filters.http.router", "typed_config": {
                "@type": format!("{TYPES}envoy.extensions.filters.http.router.v3.Router")}},
        ],
        "use_remote_address": false,
        "normalize_path": true,
        "stream_idle_timeout": "0s",
        // Envoy's default is 1 s; what it is for shows at 50 ms as well.
        "delayed_close_timeout": "0.05s",
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "access_log": [file_log("%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%")],
    })
}

/// An access log in the proxy's log file.
pub fn file_log(format: &str) -> Value {
    json!({"name": "file", "typed_config": {
        "@type": format!("{TYPES}envoy.extensions.access_loggers.file.v3.FileAccessLog"),
        "path": "$LOG",
        "log_format": {"text_format_source": {"inline_string": format!("{format}\n")}},
    }})
}

/// A listener on a port of the kernel's choice with one chain.
pub fn listener(filter: Value) -> Value {
    json!({
        "name": "test",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "terminal", "typed_config": filter}]}],
    })
}

/// A TCP proxy to a cluster.
pub fn tcp_proxy(cluster: &str) -> Value {
    json!({
        "@type": format!("{TYPES}envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"),
        "stat_prefix": "test", "cluster": cluster,
        "access_log": [file_log(
            "%RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_TRANSPORT_FAILURE_REASON%")],
    })
}

/// A static cluster.
pub fn cluster(name: &str, endpoints: &[SocketAddr]) -> Value {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|at| {
            json!({"endpoint": {"address": {"socket_address": {
                "address": at.ip().to_string(), "port_value": at.port()}}}})
        })
        .collect();
    json!({
        "name": name, "type": "STATIC", "connect_timeout": "1s",
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    })
}

/// An address where nobody listens.
pub fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// One side of a connection, with patience.
pub struct Peer {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl Peer {
    pub fn new(stream: TcpStream) -> Peer {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Peer { stream, buffer: Vec::new() }
    }

    pub fn send(&mut self, text: impl AsRef<[u8]>) {
        self.stream.write_all(text.as_ref()).unwrap();
    }

    /// Reads until `end` was received, and returns everything up to and with it.
    pub fn read_until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = find(&self.buffer, end.as_bytes()) {
                let rest = self.buffer.split_off(at + end.len());
                let text = std::mem::replace(&mut self.buffer, rest);
                return String::from_utf8_lossy(&text).into_owned();
            }
            let mut bytes = [0; 16 * 1024];
            match self.stream.read(&mut bytes) {
                Ok(0) => panic!("ended before {end:?}: {:?}", String::from_utf8_lossy(&self.buffer)),
                Ok(count) => self.buffer.extend_from_slice(&bytes[..count]),
                Err(error) => {
                    panic!("{error} before {end:?}: {:?}", String::from_utf8_lossy(&self.buffer))
                }
            }
        }
    }

    /// A head, up to its empty line.
    pub fn read_head(&mut self) -> String {
        self.read_until("\r\n\r\n")
    }

    /// A message with Content-Length.
    pub fn read_message(&mut self) -> String {
        let mut message = self.read_head();
        let length: usize = message
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok())
            .unwrap_or(0);
        message.push_str(&self.read_exact(length));
        message
    }

    pub fn read_exact(&mut self, count: usize) -> String {
        while self.buffer.len() < count {
            let mut bytes = [0; 16 * 1024];
            let got = self.stream.read(&mut bytes).unwrap();
            assert!(got > 0, "ended early");
            self.buffer.extend_from_slice(&bytes[..got]);
        }
        let rest = self.buffer.split_off(count);
        String::from_utf8_lossy(&std::mem::replace(&mut self.buffer, rest)).into_owned()
    }

    /// Everything until the other side ends, by FIN or reset.
    pub fn read_to_end(&mut self) -> String {
        self.end();
        String::from_utf8_lossy(&std::mem::take(&mut self.buffer)).into_owned()
    }

    /// Reads until the other side ends; how it ended.
    pub fn end(&mut self) -> End {
        let mut bytes = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return End::Fin,
                Ok(count) => self.buffer.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return End::Reset,
                Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&self.buffer)),
            }
        }
    }

    /// Nothing comes for a while.
    pub fn is_quiet(&mut self) -> bool {
        self.stream.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
        let mut byte = [0];
        let quiet = matches!(self.stream.peek(&mut byte),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        quiet && self.buffer.is_empty()
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Fin,
    Reset,
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// A server whose connections are handed to the test, or to a script.
pub struct Upstream {
    pub address: SocketAddr,
    connections: Receiver<TcpStream>,
}

impl Upstream {
    /// Connections wait for [`Upstream::accept`].
    pub fn manual() -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, connections) = channel();
        thread::spawn(move || forward(&listener, &sender));
        Upstream { address, connections }
    }

    /// Every request head on every connection is answered with `answer` (its body included).
    pub fn answering(answer: &str) -> SocketAddr {
        let answer = answer.to_owned();
        Upstream::serving(move |_| answer.clone())
    }

    /// Every request is answered with what `answer` makes of it.
    pub fn serving(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answer = answer.clone();
                thread::spawn(move || {
                    let mut peer = Peer::new(stream);
                    peer.stream.set_read_timeout(None).unwrap();
                    while let Some(request) = peer.next_message() {
                        let reply = answer(&request);
                        if peer.stream.write_all(reply.as_bytes()).is_err() || reply.is_empty() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    /// The next connection of the proxy.
    pub fn accept(&self) -> Peer {
        Peer::new(self.connections.recv_timeout(PATIENCE).expect("the proxy connects"))
    }

    /// Whether the proxy has made no further connection.
    pub fn is_quiet(&self) -> bool {
        self.connections.recv_timeout(Duration::from_millis(100)).is_err()
    }
}

fn forward(listener: &TcpListener, sender: &Sender<TcpStream>) {
    for stream in listener.incoming().flatten() {
        if sender.send(stream).is_err() {
            return;
        }
    }
}

impl Peer {
    /// A request with Content-Length or none; `None` when the connection ends first.
    fn next_message(&mut self) -> Option<String> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.buffer[..at + 4]).into_owned();
                let length: usize = head
                    .lines()
                    .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok())
                    .unwrap_or(0);
                if self.buffer.len() >= at + 4 + length {
                    return Some(self.read_exact(at + 4 + length));
                }
            }
            let mut bytes = [0; 16 * 1024];
            match self.stream.read(&mut bytes) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.buffer.extend_from_slice(&bytes[..count]),
            }
        }
    }
}

/// What requests a scripted upstream saw.
#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    pub fn note(&self, request: &str) {
        self.0.lock().unwrap().push(request.to_owned());
    }

    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// A head without the header lines whose value changes from run to run.
pub fn stable(message: &str) -> String {
    let (head, body) = message.split_once("\r\n\r\n").unwrap_or((message, ""));
    let changing = |line: &&str| {
        let line = line.to_ascii_lowercase();
        !["date:", "x-request-id:", "x-envoy-upstream-service-time:"]
            .iter()
            .any(|name| line.starts_with(name))
    };
    let head: Vec<&str> = head.split("\r\n").filter(changing).collect();
    format!("{}\n\n{body}", head.join("\n"))
}
