//! A Telemetry object in the folder of a local mesh: the next requests are counted, logged and traced as it says; an
//! EnvoyFilter: they are limited as it says. No process is restarted for either.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringsail_harness::{binaries, client};
use serde_json::Value;

/// How long a mesh of debug builds may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// A program behind its sidecar.
const CLERK: &str = "
apiVersion: v1
kind: Service
metadata: {name: clerk}
spec: {selector: {app: clerk}, ports: [{name: http, port: 9080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: clerk, labels: {app: clerk}}
spec:
  selector: {matchLabels: {app: clerk}}
  template:
    metadata: {labels: {app: clerk, version: v1}}
    spec:
      containers:
      - name: clerk
        image: ringsail/upstream:0.1.0
        command: [ringsail-upstream, '--listen=$(POD_IP):9080', --service=clerk]
        env: [{name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
        ports: [{name: http, containerPort: 9080}]
";

const TELEMETRY: &str = "
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: clerk}
spec:
  selector: {matchLabels: {app: clerk}}
  metrics:
  - providers: [{name: prometheus}]
    overrides:
    - match: {metric: REQUEST_COUNT}
      tagOverrides: {desk: {value: request.method}}
  accessLogging:
  - providers: [{name: to-file}]
    filter: {expression: \"request.url_path != '/unlogged'\"}
  tracing:
  - providers: [{name: to-collector}]
    randomSamplingPercentage: 100
    customTags: {room: {literal: {value: '42'}}}
";

const LIMIT: &str = "
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: three}
spec:
  workloadSelector: {labels: {app: clerk}}
  configPatches:
  - applyTo: HTTP_FILTER
    match:
      context: SIDECAR_INBOUND
      listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: envoy.filters.http.local_ratelimit
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
          stat_prefix: three
          token_bucket: {max_tokens: 3, tokens_per_fill: 3, fill_interval: 3600s}
          filter_enabled: {default_value: {numerator: 100, denominator: HUNDRED}}
          filter_enforced: {default_value: {numerator: 100, denominator: HUNDRED}}
";

struct Mesh {
    child: Child,
    folder: tempfile::TempDir,
}

impl Drop for Mesh {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().expect("a pid"));
        // Asked, it ends its own processes.
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).ok();
        self.child.wait().ok();
    }
}

impl Mesh {
    fn start(program: &Path, files: &[(&str, String)]) -> Mesh {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("mesh")).expect("created");
        for (name, text) in files {
            fs::write(folder.path().join("mesh").join(name), text).expect("written");
        }
        let child = Command::new(program)
            .arg("local")
            .arg(folder.path().join("mesh"))
            .arg("--run-dir")
            .arg(folder.path().join("run"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log")).expect("created"))
            .spawn()
            .expect("it starts");
        Mesh { child, folder }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The one pod, once the mesh runs.
    fn pod(&self) -> Option<Value> {
        let text = fs::read_to_string(self.folder.path().join("run/mesh.json")).ok()?;
        let mut state: Value = serde_json::from_str(&text).ok()?;
        Some(state["pods"][0].take())
    }

    #[track_caller]
    fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            assert!(Instant::now() < deadline, "never: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// A collector of spans: keeps what it is sent.
fn collector() -> (SocketAddr, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let kept = Arc::new(Mutex::new(String::new()));
    let into = Arc::clone(&kept);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let into = Arc::clone(&into);
            std::thread::spawn(move || serve(stream, &into));
        }
    });
    (address, kept)
}

fn serve(mut stream: std::net::TcpStream, into: &Mutex<String>) {
    let mut seen = String::new();
    let mut buffer = [0_u8; 16 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        let Some((head, body)) = seen.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        });
        if body.len() < length.unwrap_or(0) {
            continue;
        }
        into.lock().expect("not poisoned").push_str(body);
        seen.clear();
        if stream.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").is_err() {
            return;
        }
    }
}

fn program() -> Option<PathBuf> {
    let proxy = binaries::ringsail_or_notice()?;
    let beside = |name: &str| proxy.with_file_name(name);
    if ["ringsail", "ringsaild", "ringsail-upstream"].iter().all(|name| beside(name).is_file()) {
        return Some(beside("ringsail"));
    }
    binaries::skip_notice("no mesh beside the tests: run `cargo build` first");
    None
}

#[test]
fn objects_change_metrics_logs_spans_and_limits_of_the_next_requests() {
    let Some(program) = program() else { return };
    let (address, spans) = collector();
    let lines = tempfile::NamedTempFile::new().expect("a file");
    let settings = format!(
        "extensionProviders:
- name: to-file
  envoyFileAccessLog: {{path: {}, logFormat: {{text: 'clerk %REQ(:PATH)% %RESPONSE_CODE%'}}}}
- name: to-collector
  zipkin: {{service: collector.test, port: 9411}}
",
        lines.path().display()
    );
    let service = format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: collector}}
spec:
  hosts: [collector.test]
  ports: [{{number: 9411, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{{address: {}, ports: {{http: {}}}}}]
",
        address.ip(),
        address.port()
    );
    let mesh = Mesh::start(
        &program,
        &[("clerk.yaml", CLERK.to_owned()), ("collector.yaml", service), ("meshconfig.yaml", settings)],
    );
    mesh.until("the mesh runs", || mesh.pod().is_some_and(|pod| pod["mesh_address"].is_string()));
    let ip = mesh.pod().expect("a pod")["mesh_address"].as_str().expect("an address").to_owned();
    let at = |port: u16| SocketAddr::new(ip.parse().expect("an address"), port);
    let asked = |path: &str| client::get(at(9080), path).is_ok_and(|answer| answer.status == 200);
    mesh.until("the clerk answers", || asked("/before"));
    let counts = || {
        let answer = client::get(at(15000), "/stats/prometheus").expect("statistics");
        let all = answer.body.lines();
        all.filter(|line| line.starts_with("istio_requests_total")).map(str::to_owned).collect::<Vec<_>>()
    };
    mesh.until("requests are counted", || !counts().is_empty());
    assert!(!counts().iter().any(|line| line.contains("desk=")), "{:?}", counts());
    assert_eq!(fs::read_to_string(lines.path()).expect("readable"), "");

    fs::write(mesh.folder.path().join("mesh/telemetry.yaml"), TELEMETRY).expect("written");
    mesh.until("the label is there", || {
        assert!(asked("/after") && asked("/unlogged"));
        counts().iter().any(|line| line.contains("desk=\"GET\""))
    });
    let logged = || fs::read_to_string(lines.path()).unwrap_or_default();
    mesh.until("the line is there", || logged().contains("clerk /after 200\n"));
    assert!(!logged().contains("/unlogged"), "{}", logged());
    mesh.until("the span is there", || {
        let spans = spans.lock().expect("not poisoned");
        spans.contains("\"room\":\"42\"") && spans.contains("istio.canonical_service")
    });

    fs::write(mesh.folder.path().join("mesh/limit.yaml"), LIMIT).expect("written");
    let status = || client::get(at(9080), "/limited").expect("an answer").status;
    mesh.until("the fourth request is refused", || status() == 429);
    let pod = mesh.pod().expect("a pod");
    let restarts: Vec<_> =
        pod["processes"].as_array().expect("processes").iter().map(|one| one["restarts"].as_u64()).collect();
    assert!(restarts.len() >= 2 && restarts.iter().all(|count| *count == Some(0)), "{pod}");
}
