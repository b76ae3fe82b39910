//! A small local mesh: the sample application, and a service that is spoken to over TCP.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::body;

/// How long a mesh of debug builds may take on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(90);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A clerk who asks a ledger over TCP.
const LEDGER: &str = "
apiVersion: v1
kind: Service
metadata: {name: ledger}
spec: {selector: {app: ledger}, ports: [{name: tcp, port: 9000}]}
---
apiVersion: v1
kind: Service
metadata: {name: clerk}
spec: {selector: {app: clerk}, ports: [{name: http, port: 9080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: ledger, labels: {app: ledger}}
spec:
  selector: {matchLabels: {app: ledger}}
  template:
    metadata: {labels: {app: ledger, version: v1}}
    spec:
      containers:
      - name: ledger
        image: ringsail/upstream:0.1.0
        command: [ringsail-upstream, '--listen=$(POD_IP):9000', --service=ledger]
        env: [{name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
        ports: [{name: tcp, containerPort: 9000}]
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
        command: [ringsail-upstream, '--listen=$(POD_IP):9080', --service=clerk, '--call=http://ledger:9000/']
        env: [{name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
        ports: [{name: http, containerPort: 9080}]
";

/// A running mesh; ends with its value.
pub struct Mesh {
    child: Child,
    gateway: SocketAddr,
    pods: Vec<Pod>,
    control_plane: SocketAddr,
    _folder: tempfile::TempDir,
}

/// A workload of the mesh.
pub struct Pod {
    pub name: String,
    pub namespace: String,
    pub app: String,
    pub admin: SocketAddr,
    address: SocketAddr,
}

impl Mesh {
    /// Starts it with the programs beside this one.
    pub fn start() -> Result<Mesh> {
        let here = std::env::current_exe()?;
        let program = here.parent().context("a program is in a folder")?.join("ringsail");
        if !program.exists() {
            bail!("{} is not built: run this by `cargo xtask corpora telemetry`", program.display());
        }
        let folder = tempfile::tempdir()?;
        let (configuration, run) = (folder.path().join("mesh"), folder.path().join("run"));
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/samples/bookinfo"), &configuration)?;
        fs::write(configuration.join("ledger.yaml"), LEDGER)?;
        let log = fs::File::create(folder.path().join("log"))?;
        let child = Command::new(program)
            .arg("local")
            .arg(&configuration)
            .arg("--run-dir")
            .arg(&run)
            .arg("--quiet")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut mesh = Mesh {
            child,
            gateway: ([127, 0, 0, 1], 0).into(),
            pods: Vec::new(),
            control_plane: ([127, 0, 0, 1], 0).into(),
            _folder: folder,
        };
        mesh.wait(&run)?;
        Ok(mesh)
    }

    /// Waits until the application answers through the gateway.
    fn wait(&mut self, run: &Path) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                let log = fs::read_to_string(self._folder.path().join("log")).unwrap_or_default();
                bail!("`ringsail local` ended ({status}):\n{log}");
            }
            if let Ok(text) = fs::read_to_string(run.join("gateway"))
                && let Ok(gateway) = text.trim().parse()
            {
                self.gateway = gateway;
                self.read(&run.join("mesh.json"))?;
                let asked = "GET /productpage HTTP/1.1\r\nhost: bookinfo\r\nconnection: close\r\n\r\n";
                let served = self.ask(asked).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"));
                if served && self.call_over_tcp().is_ok() {
                    return Ok(());
                }
            }
            sleep(Duration::from_millis(200));
        }
        bail!("the mesh serves nothing after {} s", START_TIMEOUT.as_secs())
    }

    fn read(&mut self, path: &Path) -> Result<()> {
        let state: Value = serde_json::from_str(&fs::read_to_string(path)?)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        self.control_plane = text(&state["control_plane"]["http"]).parse()?;
        self.pods.clear();
        for pod in state["pods"].as_array().into_iter().flatten() {
            let address: std::net::IpAddr = text(&pod["mesh_address"]).parse()?;
            let port = |value: &Value| value.as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
            self.pods.push(Pod {
                name: text(&pod["name"]),
                namespace: text(&pod["namespace"]),
                app: pod["labels"]["app"].as_str().unwrap_or("istio-ingressgateway").to_owned(),
                admin: (address, port(&pod["admin_port"])).into(),
                address: (address, pod["ports"].get(0).map_or(0, port)).into(),
            });
        }
        Ok(())
    }

    /// The workloads.
    pub fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// The control plane's own pages.
    pub fn control_plane(&self) -> SocketAddr {
        self.control_plane
    }

    /// One request through the gateway.
    pub fn ask(&self, request: &str) -> Result<String> {
        exchange(self.gateway, request)
    }

    /// One request to the clerk, who asks the ledger.
    pub fn call_over_tcp(&self) -> Result<()> {
        let clerk = self.pods.iter().find(|pod| pod.app == "clerk").context("the mesh has a clerk")?;
        let answer = exchange(clerk.address, "GET / HTTP/1.1\r\nhost: clerk\r\nconnection: close\r\n\r\n")?;
        if answer.contains("ledger") { Ok(()) } else { bail!("the clerk answers {answer}") }
    }

    /// What every proxy and the control plane exports, by name.
    pub fn pages(&self) -> Result<BTreeMap<String, String>> {
        let proxies = self.pods.iter().map(|pod| (pod.name.clone(), pod.admin, "/stats/prometheus"));
        let all = proxies.chain([("ringsaild".to_owned(), self.control_plane, "/metrics")]);
        all.map(|(name, address, path)| Ok((name, get(address, path)?))).collect()
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        // It ends its own children when it is asked to end.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// A page.
pub fn get(address: SocketAddr, path: &str) -> Result<String> {
    // HTTP/1.0, so that the body comes as it is.
    let answer = exchange(address, &format!("GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n"))?;
    Ok(body(&answer).to_owned())
}

fn exchange(address: SocketAddr, request: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).with_context(|| format!("the answer of {address}"))?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
