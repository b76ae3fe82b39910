//! A real Prometheus that scrapes the mesh.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::mesh::{Mesh, get};

/// How long it may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A running Prometheus; ends with its value.
pub struct Prometheus {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    /// Starts it; `None` where it is not installed.
    pub fn start(mesh: &Mesh) -> Result<Option<Prometheus>> {
        let folder = tempfile::tempdir()?;
        let address = ringsail_harness::ports::free_address()?;
        let mut targets: Vec<Value> = mesh
            .pods()
            .iter()
            .map(|pod| {
                json!({"targets": [pod.admin.to_string()], "labels": {
                    "__metrics_path__": "/stats/prometheus", "app": pod.app, "pod": pod.name,
                    "namespace": pod.namespace, "kubernetes_namespace": pod.namespace,
                    "container": "istio-proxy"}})
            })
            .collect();
        targets.push(json!({"targets": [mesh.control_plane().to_string()], "labels": {
            "app": "istiod", "pod": "istiod-0", "namespace": "istio-system", "container": "discovery"}}));
        // YAML reads JSON.
        let config = json!({"global": {"scrape_interval": "1s", "evaluation_interval": "10s"},
            "scrape_configs": [{"job_name": "mesh", "static_configs": targets}]});
        let path = folder.path().join("prometheus.yml");
        fs::write(&path, config.to_string())?;
        let log = fs::File::create(folder.path().join("log"))?;
        let spawned = Command::new("prometheus")
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let child = match spawned {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context("starting prometheus"),
        };
        let prometheus = Prometheus { child, address, _folder: folder };
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            if get(address, "/-/ready").is_ok_and(|text| text.contains("Ready")) {
                return Ok(Some(prometheus));
            }
            sleep(Duration::from_millis(200));
        }
        bail!("prometheus is not ready after {} s", START_TIMEOUT.as_secs())
    }

    /// How many results an expression has now.
    pub fn query(&self, expr: &str) -> Result<usize> {
        let encoded: String = expr.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let text = get(self.address, &format!("/api/v1/query?query={encoded}"))?;
        let answer: Value = serde_json::from_str(&text).with_context(|| format!("{expr}: {text}"))?;
        if answer["status"] != "success" {
            bail!("{expr}: {}", answer["error"]);
        }
        Ok(answer["data"]["result"].as_array().map_or(0, Vec::len))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
