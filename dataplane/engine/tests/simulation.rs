//! The whole proxy in one thread under a drawn schedule: clients, proxy, backends and the agent's changes are tasks of one
//! simulated shard (`ringsail_runtime::sim`), which draws who runs, what is ready, how much a receive or send moves, how
//! long sockets stall, and the time. Backends cut answers short, close and stall; clients give up half-way; every few
//! milliseconds another version of the configuration is published.
//!
//! What must hold for every seed: a request sees one version of the tables, not a byte is lost or altered, a breaker's
//! bound is kept, nothing waits for ever, and nothing is left when the clients are gone. The same seed gives the same
//! trace. `RINGSAIL_SIM_SEED=N` repeats a seed, `RINGSAIL_SIM_COUNT=N` runs so many.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use ringsail_engine::record::Log;
use ringsail_engine::shard::{Identity, Node, Settings, Shard};
use ringsail_runtime::mailbox::{mailbox, outbox};
use ringsail_runtime::net::{Address, ConnectOptions, Listener, ListenerOptions, Stream};
use ringsail_runtime::publish::publication;
use ringsail_runtime::sim::{self, Plan};
use ringsail_runtime::{random, shard, task, time};
use ringsail_tables::{Change, Compiler, ResourceType, Severity, Tables};
use ringsail_telemetry::Registry;
use ringsail_telemetry::access_log::LogWriter;
use ringsail_telemetry::render::{self, Selection};
use ringsail_xds::envoy::config::{cluster::v3::Cluster, listener::v3::Listener as XdsListener};
use ringsail_xds::json::Schema;
use serde_json::{Value, json};

const CLIENTS: u32 = 5;
const REQUESTS_PER_CLIENT: u32 = 6;
/// `max_requests` of each cluster: fewer than there are clients, so that it is reached.
const REQUESTS_MAX: u64 = 3;
/// Simulated time after which an operation counts as stuck; every timeout of the proxy is far shorter.
const STUCK: Duration = Duration::from_secs(600);
/// Largest body, in bytes: more than a socket takes at once.
const BODY_MAX: u32 = 300_000;
const SEEDS: u64 = 60;
/// Different configurations; an even number, so that taking turns keeps odd and even apart.
const VERSIONS: usize = 16;
/// Changes of the configuration in one run.
const CHANGES_MAX: usize = 200;

/// What became of requests, over all clients of a run.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Seen {
    outcomes: BTreeMap<&'static str, u32>,
    versions: BTreeMap<u64, u32>,
}

/// Resources, encoded once: reading JSON costs more than a whole run.
type Prepared = Vec<Vec<(ResourceType, &'static str, Vec<u8>)>>;

struct World {
    folder: PathBuf,
    prepared: Arc<Prepared>,
    /// Backends misbehave.
    rough: bool,
    seen: RefCell<Seen>,
    active: [Cell<u64>; 2],
    over: Cell<bool>,
}

#[test]
fn every_seed_keeps_the_promises_and_the_same_seed_is_the_same_run() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("RINGSAIL_SIM_SEED").unwrap_or(1);
    let count =
        number("RINGSAIL_SIM_COUNT").unwrap_or(if number("RINGSAIL_SIM_SEED").is_some() { 1 } else { SEEDS });
    let folder = tempfile::tempdir().unwrap();
    let prepared: Arc<Prepared> =
        Arc::new((0..VERSIONS).map(|version| resources(folder.path(), version)).collect());
    let simulate = |seed| simulate(seed, folder.path(), &prepared);
    let mut all = BTreeMap::new();
    for seed in first..first + count {
        println!("RINGSAIL_SIM_SEED={seed}");
        let ran = simulate(seed);
        if seed % 10 == 1 {
            assert_eq!(ran, simulate(seed), "two runs of a seed differ");
        }
        for (outcome, count) in ran.1.outcomes {
            *all.entry(outcome).or_insert(0) += count;
        }
    }
    println!("{count} seeds: {all:?}");
    if count >= SEEDS {
        for outcome in ["whole", "cut", "refused", "given up", "relayed"] {
            assert!(all.get(outcome).is_some_and(|count| *count > 0), "no request was {outcome}: {all:?}");
        }
    }
}

/// Runs one seed; panics where a promise is broken.
fn simulate(seed: u64, folder: &Path, prepared: &Arc<Prepared>) -> (u64, Seen) {
    let (folder, prepared) = (folder.to_path_buf(), prepared.clone());
    let rough = !seed.is_multiple_of(3);
    let ran = sim::run(Plan::rough(seed), move || whole(folder, prepared, rough))
        .unwrap_or_else(|failed| panic!("RINGSAIL_SIM_SEED={seed}: {failed}"));
    assert_eq!(ran.panics, 0, "RINGSAIL_SIM_SEED={seed}: a task panicked");
    let seen = ran.output.unwrap_or_else(|| panic!("RINGSAIL_SIM_SEED={seed}: the run panicked"));
    (ran.trace, seen)
}

async fn whole(folder: PathBuf, prepared: Arc<Prepared>, rough: bool) -> Seen {
    let world = Rc::new(World {
        folder,
        prepared,
        rough,
        seen: RefCell::default(),
        active: Default::default(),
        over: Cell::new(false),
    });
    let backends = [spawn_backend(&world, 0), spawn_backend(&world, 1)];
    let mut compiler = Compiler::new();
    let (mut publisher, mut seats) = publication(world.tables(&mut compiler, 0), 1).unwrap();
    let (commands, orders) = mailbox(16);
    let (events, _news) = outbox(4096);
    let registry = Registry::new();
    let node = Node { id: "sim".into(), cluster: "sim".into(), zone: "z".into() };
    let identity =
        Identity { address: [192, 0, 2, 1].into(), hostname: "sim".into(), local: Arc::default(), node };
    let (writer, _batches) = LogWriter::start().unwrap();
    let log = Log::new(Arc::new(writer), identity.clone());
    let seat = seats.pop().unwrap().subscribe();
    let proxy = Shard::new(0, 1, identity, seat, registry.seat().open(), log, Settings::default());
    let (judge, reports) = mailbox(16);
    proxy.report_to(judge, Some(reports));
    let proxy = task::spawn(ringsail_engine::run(proxy, orders, events));

    let churning = world.clone();
    let churn = task::spawn(async move {
        for version in 1..CHANGES_MAX {
            time::sleep(Duration::from_millis(u64::from(random::below(30)))).await;
            if churning.over.get() {
                return;
            }
            publisher.publish(churning.tables(&mut compiler, version));
        }
    });
    let clients: Vec<_> = (0..CLIENTS).map(|number| task::spawn(client(world.clone(), number))).collect();
    let relayed = task::spawn(relayed(world.clone()));
    for client in clients {
        client.await.expect("a client's checks hold");
    }
    relayed.await.expect("a relayed stream's checks hold");
    world.over.set(true);
    churn.await.expect("changes are taken");

    // What clients began and left has to end, too: the upstreams' timeouts are short.
    let gone = async {
        while gauge(&registry, "downstream_cx_active") + gauge(&registry, "upstream_rq_active") > 0 {
            time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(
        time::timeout(STUCK, gone).await.is_ok(),
        "connections or requests are left: {}",
        page(&registry)
    );
    drop(commands);
    proxy.await.expect("the proxy ends in order");
    backends.iter().for_each(|backend| backend.abort());
    assert_eq!(shard::stats().blocks_lent.get(), 0, "blocks are still lent");
    world.seen.borrow().clone()
}

fn page(registry: &Arc<Registry>) -> String {
    let mut text = String::new();
    render::text(registry, Selection::default(), &mut text);
    text
}

/// The sum of all gauges of this name.
fn gauge(registry: &Arc<Registry>, name: &str) -> u64 {
    let page = page(registry);
    page.lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(key, _)| key.ends_with(name))
        .filter_map(|(_, value)| value.parse::<u64>().ok())
        .sum()
}

impl World {
    fn socket(&self, name: &str) -> Address {
        Address::Unix(self.folder.join(name))
    }

    fn count(&self, outcome: &'static str) {
        *self.seen.borrow_mut().outcomes.entry(outcome).or_insert(0) += 1;
    }

    fn tables(&self, compiler: &mut Compiler, version: usize) -> Arc<Tables> {
        let resources = self.prepared[version % VERSIONS].iter();
        let changes = resources.map(|(kind, name, bytes)| Change::Put {
            kind: *kind,
            name: (*name).into(),
            resource: bytes.clone().into(),
        });
        let (tables, diagnostics) = compiler.apply(changes.collect::<Vec<_>>());
        for diagnostic in &diagnostics {
            assert!(diagnostic.severity != Severity::Refused, "{diagnostic}");
        }
        tables
    }
}

/// Version `version`: even ones lead to one backend, odd ones to the other, and both heads say which version it was.
fn resources(folder: &Path, version: usize) -> Vec<(ResourceType, &'static str, Vec<u8>)> {
    let edit = json!([{"header": {"key": "x-version", "value": version.to_string()}}]);
    let route = json!({"match": {"prefix": "/"}, "request_headers_to_add": edit, "response_headers_to_add": edit,
            "route": {"cluster": format!("up-{}", version % 2), "timeout": "20s", "retry_policy": {
                "retry_on": "connect-failure,reset", "num_retries": 2,
                "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.02s"}}}});
    const TYPES: &str = "type.googleapis.com/envoy.extensions.filters";
    let manager = json!({"@type": format!("{TYPES}.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": "sim", "delayed_close_timeout": "0.05s", "stream_idle_timeout": "30s",
            "http_filters": [{"name": "router", "typed_config": {"@type": format!("{TYPES}.http.router.v3.Router")}}],
            "route_config": {"name": "r", "virtual_hosts": [{"name": "any", "domains": ["*"], "routes": [route]}]}});
    let relay = json!({"@type": format!("{TYPES}.network.tcp_proxy.v3.TcpProxy"), "stat_prefix": "sim",
            "cluster": "echo", "idle_timeout": "100s"});
    let mut changes = Vec::new();
    for (name, filter) in [("proxy", manager), ("relay", relay)] {
        let listener = json!({"name": name, "address": {"pipe": {"path": folder.join(name)}},
                "filter_chains": [{"filters": [{"name": "f", "typed_config": filter}]}]});
        let listener: XdsListener = Schema::shared().from_json(&listener).unwrap();
        changes.push((ResourceType::Listener, name, listener.encode_to_vec()));
    }
    for (name, backend) in [("up-0", "backend-0"), ("up-1", "backend-1"), ("echo", "backend-0")] {
        let cluster = cluster(name, &folder.join(backend));
        let cluster: Cluster = Schema::shared().from_json(&cluster).unwrap();
        changes.push((ResourceType::Cluster, name, cluster.encode_to_vec()));
    }
    changes
}

fn cluster(name: &str, path: &Path) -> Value {
    json!({"name": name, "type": "STATIC", "connect_timeout": "2s",
        "circuit_breakers": {"thresholds": [{"max_requests": REQUESTS_MAX, "max_retries": 100}]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": {"pipe": {"path": path}}}}]}]}})
}

/// A backend that echoes bodies; a connection whose first bytes are no HTTP gets its bytes back.
fn spawn_backend(world: &Rc<World>, number: usize) -> task::JoinHandle<()> {
    let listener =
        Listener::bind(&world.socket(&format!("backend-{number}")), ListenerOptions::default()).unwrap();
    let world = world.clone();
    task::spawn(async move {
        while let Ok(stream) = listener.accept().await {
            let world = world.clone();
            drop(task::spawn(async move {
                let active = Active(&world.active[number], Cell::new(false));
                // How a connection ends is the other side's to see.
                let _ = serve(&world, number, &stream, &active).await;
            }));
        }
    })
}

/// Counts a request while a backend works on it.
struct Active<'a>(&'a Cell<u64>, Cell<bool>);

impl Active<'_> {
    fn set(&self, on: bool) {
        if self.1.replace(on) != on {
            self.0.set(if on { self.0.get() + 1 } else { self.0.get() - 1 });
        }
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.set(false);
    }
}

async fn serve(world: &World, number: usize, stream: &Stream, active: &Active<'_>) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let Some(head_end) = head(stream, &mut bytes).await? else { return Ok(()) };
        let text = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
        if !text.contains(" HTTP/1.1\r\n") {
            return echo(stream, &bytes).await;
        }
        active.set(true);
        // A request that its client gave up may be here while the proxy counts it no more, so the bound is checked where
        // backends and clients behave.
        assert!(world.rough || active.0.get() <= REQUESTS_MAX, "{} requests at once", active.0.get());
        let fault = if world.rough { random::below(12) } else { 99 };
        if fault == 0 {
            return Ok(());
        }
        let length: usize = field(&text, "content-length").map_or(0, |value| value.parse().unwrap());
        while bytes.len() < head_end + length {
            if !more(stream, &mut bytes).await? {
                return Ok(());
            }
        }
        let body: Vec<u8> = bytes.drain(..head_end + length).skip(head_end).collect();
        if fault == 1 {
            time::sleep(Duration::from_millis(u64::from(random::below(3000)))).await;
        }
        let version = field(&text, "x-version").unwrap_or_default();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nx-backend: {number}\r\nx-saw: {version}\r\n\r\n"
        );
        let mut answer = answer.into_bytes();
        answer.extend_from_slice(&body);
        if fault == 2 {
            answer.truncate(random::below(answer.len() as u32) as usize);
            stream.send_all(&answer).await?;
            return Ok(());
        }
        stream.send_all(&answer).await?;
        active.set(false);
    }
}

async fn echo(stream: &Stream, first: &[u8]) -> std::io::Result<()> {
    stream.send_all(first).await?;
    loop {
        let bytes = stream.recv(8192).await?;
        if bytes.is_empty() {
            return stream.shutdown_write();
        }
        stream.send_all(&bytes).await?;
    }
}

async fn more(stream: &Stream, bytes: &mut Vec<u8>) -> std::io::Result<bool> {
    let lease = stream.recv(16_384).await?;
    bytes.extend_from_slice(&lease);
    Ok(!lease.is_empty())
}

/// Reads until a head is whole; where it ends. `None` at the end of the stream.
async fn head(stream: &Stream, bytes: &mut Vec<u8>) -> std::io::Result<Option<usize>> {
    loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            return Ok(Some(at + 4));
        }
        if !more(stream, bytes).await? {
            return Ok(None);
        }
    }
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// The bytes of a body: they follow from its number, so that a byte of another body shows.
fn pattern(number: u32, length: usize) -> Vec<u8> {
    (0..length as u32)
        .map(|at| (at.wrapping_mul(31).wrapping_add(number.wrapping_mul(101)) >> 3) as u8)
        .collect()
}

async fn client(world: Rc<World>, number: u32) {
    let mut connection = None;
    for index in 0..REQUESTS_PER_CLIENT {
        let body = pattern(number * 100 + index, random::below(BODY_MAX) as usize >> random::below(16));
        let gives_up = world.rough && random::below(10) == 0;
        let stream = match connection.take() {
            Some(stream) => stream,
            None => reach(&world, "proxy").await,
        };
        let asked = time::timeout(STUCK, ask(&world, &stream, &body, gives_up)).await;
        let reusable = asked.unwrap_or_else(|_| panic!("client {number} is stuck in request {index}"));
        connection = reusable.then_some(stream);
        time::sleep(Duration::from_millis(u64::from(random::below(10)))).await;
    }
}

async fn reach(world: &World, name: &str) -> Stream {
    loop {
        match Stream::connect(&world.socket(name), &ConnectOptions::default()).await {
            Ok(stream) => return stream,
            // The proxy has not begun to listen.
            Err(_) => time::sleep(Duration::from_millis(1)).await,
        }
    }
}

/// One request and its checks; whether the connection may carry another.
async fn ask(world: &World, stream: &Stream, body: &[u8], gives_up: bool) -> bool {
    let head_text = format!("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len());
    let mut request = head_text.into_bytes();
    request.extend_from_slice(body);
    if gives_up {
        request.truncate(random::below(request.len() as u32) as usize);
    }
    let mut bytes = Vec::new();
    let sending = stream.send_all(&request);
    let receiving = async {
        let end = head(stream, &mut bytes).await.ok().flatten()?;
        Some((end, String::from_utf8_lossy(&bytes[..end]).into_owned()))
    };
    if gives_up {
        // An error is the proxy's answer to an earlier part.
        let _ = sending.await;
        world.count("given up");
        return false;
    }
    // The answer may come before the request is sent, and end it.
    let both = ringsail_runtime::join(sending, receiving);
    let (_, Some((end, head))) = both.await else {
        assert!(world.rough, "no answer though nobody misbehaved");
        world.count("no answer");
        return false;
    };
    let status = head.split(' ').nth(1).unwrap_or_default();
    let length: usize = field(&head, "content-length").expect("a length").parse().unwrap();
    let mut rest = bytes.split_off(end);
    while rest.len() < length {
        match more(stream, &mut rest).await {
            Ok(true) => {}
            Ok(false) | Err(_) => break,
        }
    }
    if status != "200" {
        assert_eq!(status, "503", "{head}");
        assert!(world.rough || head.contains("x-envoy-overloaded"), "{head}");
        world.count("refused");
        return !head.contains("connection: close") && rest.len() == length;
    }
    let same = rest.iter().zip(body).take_while(|(got, sent)| got == sent).count();
    assert!(
        rest.len() <= length && length == body.len() && same == rest.len(),
        "of {} bytes sent, {length} announced, {} came, {same} of them right: {head}{}",
        body.len(),
        rest.len(),
        rest[same..].iter().take(200).copied().map(char::from).collect::<String>(),
    );
    let version = field(&head, "x-version").expect("the proxy's own version");
    assert_eq!(field(&head, "x-saw"), Some(version), "a request saw two versions: {head}");
    let number: u64 = version.parse().unwrap();
    assert_eq!(field(&head, "x-backend"), Some(if number.is_multiple_of(2) { "0" } else { "1" }), "{head}");
    *world.seen.borrow_mut().versions.entry(number).or_insert(0) += 1;
    if rest.len() < length {
        assert!(world.rough, "an answer was cut though nobody misbehaved");
        world.count("cut");
        return false;
    }
    world.count("whole");
    true
}

/// Streams without HTTP, closed in one direction first: what goes in comes out.
async fn relayed(world: Rc<World>) {
    for index in 0..3 {
        let stream = reach(&world, "relay").await;
        let mut sent = b"no http \r\n\r\n".to_vec();
        sent.extend(pattern(9_000 + index, random::below(BODY_MAX) as usize));
        let sending = async {
            stream.send_all(&sent).await.expect("the relay takes everything");
            stream.shutdown_write().expect("the relay is there");
        };
        let receiving = async {
            let mut back = Vec::new();
            while more(&stream, &mut back).await.expect("the relay gives everything back") {}
            back
        };
        let both = time::timeout(STUCK, ringsail_runtime::join(sending, receiving)).await;
        let (_, back) = both.unwrap_or_else(|_| panic!("relayed stream {index} is stuck"));
        assert!(back == sent, "{} bytes became {}", sent.len(), back.len());
        world.count("relayed");
    }
}
