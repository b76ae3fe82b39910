//! An agent without shards, and HTTP to its admin endpoint.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringsail_agent::news::NewsReceiver;
use ringsail_agent::options::LogLevel;
use ringsail_agent::{
    Agent, Bootstrap, Command, Drain, Engine, Options, Prepared, Process, Seam, ShardTotals,
};
use ringsail_runtime::publish::publication;
use ringsail_telemetry::Registry;
use serde_json::Value;

/// Longest time anything here may take. Reached only by a test that fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the agent told the process to do.
#[derive(Default)]
pub struct Calls {
    pub calls: Mutex<Vec<String>>,
    level: Mutex<Option<LogLevel>>,
}

impl Process for Calls {
    fn engine(&self) -> Engine {
        Engine { name: "epoll".to_string(), reason: "tests <run> anywhere".to_string() }
    }

    fn concurrency(&self) -> u32 {
        2
    }

    fn totals(&self) -> ShardTotals {
        ShardTotals { connections_refused: 3, ..ShardTotals::default() }
    }

    fn drain_listeners(&self, drain: Drain) {
        self.calls.lock().expect("lock").push(format!("{drain:?}"));
    }

    fn quit(&self) {
        self.calls.lock().expect("lock").push("quit".to_string());
    }

    fn log_levels(&self) -> Vec<(String, LogLevel)> {
        vec![("agent".to_string(), self.level.lock().expect("lock").unwrap_or(LogLevel::Info))]
    }

    fn set_log_level(&self, component: Option<&str>, level: LogLevel) -> bool {
        *self.level.lock().expect("lock") = Some(level);
        component.is_none_or(|name| name == "agent")
    }

    fn reopen_logs(&self) {}

    fn fail_health_checks(&self, fail: bool) {
        self.calls.lock().expect("lock").push(format!("fail_health_checks {fail}"));
    }
}

pub struct Proxy {
    pub agent: Agent,
    pub process: Arc<Calls>,
}

impl Proxy {
    /// Starts an agent from a bootstrap in YAML; an admin endpoint is added.
    pub fn start(bootstrap: &str) -> Proxy {
        // There are no shards to wait for.
        Proxy::start_with(bootstrap, ringsail_agent::news::channel().1)
    }

    /// The same, with shards that tell `news`.
    pub fn start_with(bootstrap: &str, news: NewsReceiver) -> Proxy {
        let text = format!(
            "admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}\n{bootstrap}"
        );
        let Ok(Command::Run(options)) = Options::parse(["--config-yaml".to_string(), text]) else {
            panic!("flags")
        };
        let bootstrap = Bootstrap::load(&options).expect("a valid bootstrap");
        let prepared = Prepared::new(*options, bootstrap).expect("valid resources");
        let (publisher, _seats) = publication(prepared.tables().clone(), 0).expect("a publication");
        let process = Arc::new(Calls::default());
        let (_, batches) = ringsail_telemetry::export::queue();
        let seam = Seam { publisher, stats: Registry::new(), process: process.clone(), news, batches };
        Proxy { agent: prepared.start(seam).expect("started"), process }
    }

    pub fn request(&self, method: &str, path: &str) -> (u16, String) {
        let address = self.agent.admin_address().expect("an admin address");
        let mut stream = TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        write!(stream, "{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer in text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        (status, body.to_string())
    }

    pub fn get(&self, path: &str) -> String {
        let (status, body) = self.request("GET", path);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    pub fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.get(path)).expect("JSON")
    }

    /// The value of a statistic; `None` if it is not shown.
    pub fn stat(&self, name: &str) -> Option<u64> {
        let text = self.get(&format!("/stats?filter=^{name}$"));
        text.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))?.parse().ok())
    }

    /// The names of clusters that serve.
    pub fn clusters(&self) -> Vec<String> {
        let dump = self.json("/clusters?format=json");
        let statuses = dump["cluster_statuses"].as_array().cloned().unwrap_or_default();
        statuses.iter().map(|status| status["name"].as_str().unwrap_or_default().to_string()).collect()
    }
}

/// Waits until something holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
