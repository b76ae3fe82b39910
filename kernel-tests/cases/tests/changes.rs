//! Random configuration changes under WebSockets and TCP sessions: none of them may be closed, and what changed is in
//! force on the next request of a connection that was open before.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringsail_harness::config::TYPE;
use ringsail_harness::peer::Peer;
use ringsail_harness::ports::free_address;
use ringsail_harness::wait::{self, PATIENCE};
use ringsail_harness::{binaries, client, engines, upstream};
use serde_json::{Value, json};

const WEBSOCKETS: usize = 200;
const SESSIONS: usize = 200;
const CHANGES: u64 = 300;
/// Sessions asked after each change; all are asked at every fiftieth.
const SAMPLE: usize = 20;

#[test]
fn no_random_change_closes_a_connection_and_each_is_in_force_on_the_next_request() {
    let Some(binary) = binaries::ringsail_or_notice() else { return };
    let seed = std::env::var("RINGSAIL_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_261_121);
    println!("seed {seed} (RINGSAIL_SEED)");
    let mut random = Random(seed);
    let engine = engines::available()[0];
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::new(folder.path());
    world.write();
    let bootstrap = json!({
        "node": {"id": "sidecar~127.0.0.1~a.b~b.svc.cluster.local", "cluster": "test"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": "ADMIN"}}},
        "dynamic_resources": {
            "cds_config": {"path_config_source": {"path": world.clusters_file}, "resource_api_version": "V3"},
            "lds_config": {"path_config_source": {"path": world.listeners_file}, "resource_api_version": "V3"}},
    });
    let peer = Peer::start_with("ringsail", &binary, &bootstrap, &["--engine", engine]).unwrap();

    let mut open: Vec<TcpStream> = Vec::new();
    open.extend((0..WEBSOCKETS).map(|_| websocket(world.web)));
    open.extend((0..SESSIONS).map(|_| session(world.tcp)));
    let mut asking = client::Connection::open(world.web).unwrap();
    let mut closed = 0;
    for change in 1..=CHANGES {
        let what = world.change(&mut random, change);
        world.write();
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let answer =
                asking.get("/version").unwrap_or_else(|error| panic!("change {change} ({what}): {error}"));
            let closes = answer.fields.contains(&("connection".to_string(), "close".to_string()));
            assert!(!closes, "change {change} ({what}): the connection is asked to close");
            if answer.body == change.to_string() {
                let server = answer.fields.iter().find(|(name, _)| name == "server");
                assert_eq!(server.map(|(_, value)| value.as_str()), Some(world.server.as_str()), "{what}");
                break;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "change {change} ({what}) is not in force: {}",
                answer.body
            );
            std::thread::sleep(Duration::from_millis(2));
        }
        let all = change.is_multiple_of(50);
        let count = if all { open.len() } else { SAMPLE };
        for nth in 0..count {
            let index = if all { nth } else { random.below(open.len() as u64) as usize };
            if echo(&mut open[index]).is_err() {
                println!("change {change} ({what}): connection {index} is gone");
                closed += 1;
            }
        }
        assert_eq!(closed, 0, "seed {seed}, change {change} ({what})");
    }
    println!("{engine}: {} connections over {CHANGES} changes, {closed} closed", open.len());
    assert_eq!(peer.admin("/ready").unwrap(), "LIVE\n");
    wait::until("every connection is still counted", || {
        let stats = peer.admin("/stats?filter=downstream_cx_active").unwrap();
        let values =
            stats.lines().filter(|line| line.starts_with("http.web.") || line.starts_with("tcp.tcp."));
        let sum: usize = values.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum();
        sum == WEBSOCKETS + SESSIONS + 1
    });
}

/// The configuration as it is written.
struct World {
    listeners_file: PathBuf,
    clusters_file: PathBuf,
    log: PathBuf,
    web: SocketAddr,
    tcp: SocketAddr,
    app: SocketAddr,
    echo: SocketAddr,
    version: u64,
    server: String,
    routes: Vec<Value>,
    filters: Vec<Value>,
    logs: Vec<Value>,
    tcp_logs: Vec<Value>,
    timeouts: u64,
    tcp_idle: u64,
    weighted: bool,
    buffer: u64,
    more_chains: u64,
    reversed: bool,
    more_listeners: u64,
    breakers: u64,
    more_endpoints: u64,
    connect_timeout: u64,
    more_clusters: u64,
}

impl World {
    fn new(folder: &Path) -> World {
        World {
            listeners_file: folder.join("lds.json"),
            clusters_file: folder.join("cds.json"),
            log: folder.join("log"),
            web: free_address().unwrap(),
            tcp: free_address().unwrap(),
            app: upstream::start().unwrap(),
            echo: upstream::echo().unwrap(),
            version: 0,
            server: "envoy".to_string(),
            routes: Vec::new(),
            filters: Vec::new(),
            logs: Vec::new(),
            tcp_logs: Vec::new(),
            timeouts: 0,
            tcp_idle: 3600,
            weighted: false,
            buffer: 1 << 20,
            more_chains: 0,
            reversed: false,
            more_listeners: 0,
            breakers: 1024,
            more_endpoints: 0,
            connect_timeout: 1,
            more_clusters: 0,
        }
    }

    /// Changes one thing and says which.
    fn change(&mut self, random: &mut Random, version: u64) -> &'static str {
        self.version = version;
        let number = random.below(1000) + 1;
        match random.below(13) {
            0 => {
                let path = format!("/{number}");
                self.routes =
                    vec![json!({"match": {"prefix": path}, "route": {"cluster": "app", "timeout": "3s"}})];
                "routes"
            }
            1 => {
                self.server = format!("server-{number}");
                "server name"
            }
            2 => {
                let filter = json!({"name": "envoy.filters.http.cors", "typed_config":
                    {"@type": format!("{TYPE}envoy.extensions.filters.http.cors.v3.Cors")}});
                self.filters = if self.filters.is_empty() { vec![filter] } else { Vec::new() };
                "filters"
            }
            3 => {
                self.logs = if self.logs.is_empty() { vec![self.file_log(number % 10)] } else { Vec::new() };
                "access log"
            }
            4 => {
                self.timeouts = number;
                "timeouts"
            }
            5 => {
                self.tcp_idle = 3600 + number;
                "idle timeout of the TCP proxy"
            }
            6 => {
                self.weighted = !self.weighted;
                "clusters of the TCP proxy"
            }
            7 => {
                self.buffer = 1024 * number;
                "buffer limit"
            }
            8 => {
                self.more_chains = number % 4;
                self.reversed = number.is_multiple_of(2);
                "other filter chains, and their order"
            }
            9 => {
                self.more_listeners = number % 3;
                "other listeners"
            }
            10 => {
                self.breakers = 1024 + number;
                self.connect_timeout = 1 + number % 5;
                "cluster settings"
            }
            11 => {
                self.more_endpoints = number % 3;
                self.more_clusters = number % 5;
                "endpoints and other clusters"
            }
            _ => {
                self.tcp_logs =
                    if self.tcp_logs.is_empty() { vec![self.file_log(number % 10)] } else { Vec::new() };
                "access log of the TCP proxy"
            }
        }
    }

    /// Clusters first: routes name them.
    fn write(&self) {
        replace(&self.clusters_file, &self.clusters());
        replace(&self.listeners_file, &self.listeners());
    }

    fn file_log(&self, number: u64) -> Value {
        json!({"name": "file", "typed_config": {
            "@type": format!("{TYPE}envoy.extensions.access_loggers.file.v3.FileAccessLog"), "path": self.log,
            "log_format": {"text_format_source": {"inline_string": format!("{number} %RESPONSE_CODE%\n")}}}})
    }

    fn clusters(&self) -> Value {
        let cluster = |name: &str, address: SocketAddr| {
            let endpoints: Vec<Value> = (0..=self.more_endpoints)
                .map(|_| json!({"endpoint": {"address": socket(address)}}))
                .collect();
            json!({"@type": format!("{TYPE}envoy.config.cluster.v3.Cluster"), "name": name, "type": "STATIC",
                "connect_timeout": format!("{}s", self.connect_timeout),
                "circuit_breakers": {"thresholds": [{"max_connections": self.breakers, "max_requests": self.breakers}]},
                "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}})
        };
        let mut clusters =
            vec![cluster("app", self.app), cluster("echo", self.echo), cluster("echo2", self.echo)];
        clusters.extend((0..self.more_clusters).map(|n| cluster(&format!("other-{n}"), self.app)));
        json!({"resources": clusters})
    }

    fn listeners(&self) -> Value {
        let mut routes = vec![
            json!({"match": {"path": "/version"}, "direct_response": {
                "status": 200, "body": {"inline_string": self.version.to_string()}}}),
            json!({"match": {"prefix": "/ws"}, "route": {"cluster": "app", "timeout": "0s"}}),
        ];
        routes.extend(self.routes.iter().cloned());
        let mut filters = self.filters.clone();
        filters.push(json!({"name": "envoy.filters.http.router", "typed_config":
            {"@type": format!("{TYPE}envoy.extensions.filters.http.router.v3.Router")}}));
        let manager = json!({
            "@type": format!("{TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": "web", "stream_idle_timeout": "0s", "server_name": self.server,
            "request_headers_timeout": format!("{}s", 60 + self.timeouts),
            "upgrade_configs": [{"upgrade_type": "websocket"}], "access_log": self.logs, "http_filters": filters,
            "route_config": {"name": "web", "virtual_hosts": [{"name": "any", "domains": ["*"], "routes": routes}]}});
        let mut proxy = json!({"@type": format!("{TYPE}envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"),
            "stat_prefix": "tcp", "idle_timeout": format!("{}s", self.tcp_idle), "access_log": self.tcp_logs});
        if self.weighted {
            proxy["weighted_clusters"] =
                json!({"clusters": [{"name": "echo", "weight": 1}, {"name": "echo2", "weight": 1}]});
        } else {
            proxy["cluster"] = json!("echo");
        }
        let mut listeners =
            vec![self.listener("web", self.web, manager), self.listener("tcp", self.tcp, proxy.clone())];
        for n in 0..self.more_listeners {
            let mut other = self.listener(&format!("other-{n}"), self.web, proxy.clone());
            other["address"] = socket(([10, 0, 0, n as u8 + 1], 80).into());
            other["bind_to_port"] = json!(false);
            listeners.push(other);
        }
        json!({"resources": listeners})
    }

    fn listener(&self, name: &str, address: SocketAddr, terminal: Value) -> Value {
        let chain = |name: &str, prefix: &str| {
            json!({"name": name,
                "filter_chain_match": {"prefix_ranges": [{"address_prefix": prefix, "prefix_len": 32}]},
                "filters": [{"name": "terminal", "typed_config": terminal}]})
        };
        let mut chains = vec![chain("ours", "127.0.0.1")];
        chains.extend((0..self.more_chains).map(|n| chain(&format!("other-{n}"), &format!("10.0.0.{n}"))));
        if self.reversed {
            chains.reverse();
        }
        json!({"@type": format!("{TYPE}envoy.config.listener.v3.Listener"), "name": name, "address": socket(address),
            "per_connection_buffer_limit_bytes": self.buffer, "filter_chains": chains})
    }
}

fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

/// A file that is followed has to come by renaming.
fn replace(path: &Path, content: &Value) {
    let new = path.with_extension("new");
    fs::write(&new, content.to_string()).unwrap();
    fs::rename(new, path).unwrap();
}

fn session(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    echo(&mut stream).unwrap();
    stream
}

fn websocket(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(b"GET /ws HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    echo(&mut stream).unwrap();
    stream
}

fn echo(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"ping")?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    assert_eq!(&answer, b"ping");
    Ok(())
}

/// xorshift64*: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}
