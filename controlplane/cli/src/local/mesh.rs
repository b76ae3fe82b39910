//! All processes of a mesh, brought in line with the folder each time it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use ringsail_api::{Object, ObjectKey, ProxyConfig};
use ringsail_model::proxy_config;
use serde_json::{Value, json};

use super::address::{Addresses, Network};
use super::bootstrap::{ADMIN_PORT, bootstrap};
use super::expand::expand;
use super::output::{Output, say};
use super::process::{Launch, Supervised};
use super::workload::{Role, Workload, declared, mesh_config};
use super::{Options, RunDir, pod, programs};
use crate::folder;

/// Port of the control plane's debug, readiness and metrics endpoints.
const CONTROL_PLANE_HTTP_PORT: u16 = 15014;

/// One pod that runs.
struct Pod {
    workload: Workload,
    addresses: Addresses,
    proxy: Option<Supervised>,
    apps: Vec<Supervised>,
}

/// A running mesh.
pub struct Mesh {
    options: Options,
    run_dir: RunDir,
    output: Output,
    network: Network,
    proxy: PathBuf,
    control_plane: Option<Supervised>,
    pods: BTreeMap<String, Pod>,
    /// Every accepted object by identity: a refused one keeps its last good version.
    objects: BTreeMap<ObjectKey, Object>,
    state: String,
}

impl Mesh {
    /// Claims addresses and finds programs; starts nothing yet.
    pub fn new(options: Options, run_dir: RunDir) -> Result<Self> {
        let proxy = match (&options.proxy, &options.envoy) {
            (Some(path), _) => path.clone(),
            // Envoy in every seat: ours is not needed.
            (None, Some(envoy)) if options.envoy_for.is_empty() => envoy.clone(),
            (None, _) => programs::own("ringsail-proxy")?,
        };
        for path in [Some(&proxy), options.envoy.as_ref()].into_iter().flatten() {
            if !path.is_file() {
                bail!("{} is no program; give the path of a proxy", path.display());
            }
        }
        let output = Output::new(&run_dir.logs(), !options.quiet);
        Ok(Self {
            output,
            network: Network::claim()?,
            proxy,
            control_plane: None,
            pods: BTreeMap::new(),
            objects: BTreeMap::new(),
            state: String::new(),
            options,
            run_dir,
        })
    }

    /// The folder that declares this mesh.
    pub fn dir(&self) -> &Path {
        &self.options.dir
    }

    /// Where this mesh keeps its files.
    pub fn run_dir(&self) -> &RunDir {
        &self.run_dir
    }

    /// Whether no pod runs.
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    /// Reads the folder and starts, restarts and ends what changed.
    pub async fn reload(&mut self) -> Result<()> {
        let (workloads, complaints) = self.read()?;
        for complaint in complaints {
            say(&complaint);
        }
        for name in &self.options.envoy_for {
            if !workloads.iter().any(|workload| workload.owner.1 == *name) {
                say(&format!("--envoy-for {name}: the folder declares nothing of that name"));
            }
        }
        let wanted: BTreeMap<String, Workload> =
            workloads.into_iter().map(|workload| (workload.id(), workload)).collect();
        let gone: Vec<String> = self.pods.keys().filter(|id| !wanted.contains_key(*id)).cloned().collect();
        for id in gone {
            say(&format!("{id} is no longer declared; ending it"));
            self.remove(&id).await;
        }
        for (id, workload) in wanted {
            self.adopt(&id, workload).await?;
        }
        if self.control_plane.is_none() && !self.pods.is_empty() {
            let launch = self.control_plane_launch()?;
            self.control_plane = Some(Supervised::start(launch, self.output.clone()));
        }
        Ok(())
    }

    /// The workloads to run. What is refused at the moment goes on as it last was; the control plane reports why.
    fn read(&mut self) -> Result<(Vec<Workload>, Vec<String>)> {
        let contents = folder::read(&self.options.dir)?;
        let present: BTreeSet<ObjectKey> = contents.objects.iter().map(Object::key).collect();
        if !contents.unreadable {
            self.objects.retain(|key, _| present.contains(key) || contents.refused.contains(key));
        }
        self.objects.extend(contents.objects.into_iter().map(|object| (object.key(), object)));
        let objects: Vec<Object> = self.objects.values().cloned().collect();
        Ok(declared(&objects))
    }

    /// Makes a pod run as declared, touching no more of it than changed.
    async fn adopt(&mut self, id: &str, workload: Workload) -> Result<()> {
        let same_pod = |pod: &Pod| {
            let programs = workload.programs.clone();
            Workload { programs, ..pod.workload.clone() } == workload
        };
        match self.pods.get(id) {
            Some(pod) if pod.workload == workload => return Ok(()),
            Some(pod) if same_pod(pod) => {
                say(&format!("{id} has another command or environment; restarting its program"));
                return self.replace_apps(id, workload).await;
            }
            Some(_) => {
                say(&format!("{id} is declared differently; restarting it"));
                self.remove(id).await;
            }
            None => {}
        }
        let mut addresses = self.network.addresses(id)?;
        if let Some(running) = &workload.running {
            addresses.app = running.address;
        }
        let object = pod::object(&workload, addresses);
        pod::write_whole(&pod::path(&self.run_dir.workloads(), &workload), &format!("{object:#}\n"))?;
        let proxy = match workload.role {
            Role::Plain => None,
            Role::Sidecar | Role::Gateway => Some(self.start_proxy(&workload, addresses)?),
        };
        let apps = self.start_apps(&workload, addresses)?;
        self.pods.insert(id.to_owned(), Pod { workload, addresses, proxy, apps });
        Ok(())
    }

    /// Restarts a pod's programs as newly declared; its proxy and its address stay.
    async fn replace_apps(&mut self, id: &str, workload: Workload) -> Result<()> {
        let Some(mut pod) = self.pods.remove(id) else { return Ok(()) };
        // The new program needs the port of the old one.
        stop_all(std::mem::take(&mut pod.apps)).await;
        pod.apps = self.start_apps(&workload, pod.addresses)?;
        pod.workload = workload;
        self.pods.insert(id.to_owned(), pod);
        Ok(())
    }

    async fn remove(&mut self, id: &str) {
        if let Some(pod) = self.pods.remove(id) {
            fs::remove_file(pod::path(&self.run_dir.workloads(), &pod.workload)).ok();
            stop_all(pod.proxy.into_iter().chain(pod.apps)).await;
            self.network.release(id);
        }
    }

    fn start_proxy(&self, workload: &Workload, addresses: Addresses) -> Result<Supervised> {
        let file = self.run_dir.bootstraps().join(format!("{}.json", workload.id()));
        let bootstrap = bootstrap(workload, addresses, &self.run_dir.xds_socket());
        pod::write_whole(&file, &format!("{bootstrap:#}\n"))?;
        let mut arguments = vec!["-c".to_owned(), file.to_string_lossy().into_owned()];
        let settings = self.settings(workload);
        // 0 is a shard for each core, as for the flag.
        let concurrency = settings.concurrency.and_then(|shards| u32::try_from(shards).ok());
        let concurrency = concurrency.unwrap_or(self.options.concurrency);
        arguments.extend(["--concurrency".to_owned(), concurrency.to_string()]);
        if let Some(drain) = settings.drain_duration.filter(|drain| drain.seconds > 0) {
            arguments.extend(["--drain-time-s".to_owned(), drain.seconds.to_string()]);
        }
        arguments.extend(["--disable-hot-restart", "--log-level", "warning"].map(str::to_owned));
        let envoy = self.envoy_for(workload);
        if envoy.is_none() {
            arguments.extend(["--engine".to_owned(), self.options.engine.word().to_owned()]);
        }
        let launch = Launch {
            name: format!("{}/istio-proxy", workload.name),
            program: envoy.unwrap_or(&self.proxy).clone(),
            arguments,
            environment: settings.proxy_metadata.into_iter().collect(),
            directory: self.options.dir.clone(),
        };
        Ok(Supervised::start(launch, self.output.clone()))
    }

    /// What a workload's proxy is started with: its own settings over the mesh's.
    fn settings(&self, workload: &Workload) -> ProxyConfig {
        let objects: Vec<Object> = self.objects.values().cloned().collect();
        let default = mesh_config(&objects).default_config.unwrap_or_default();
        match &workload.settings {
            Some(own) => proxy_config::merge(default, own),
            None => default,
        }
    }

    /// The Envoy for a workload, when it gets one.
    fn envoy_for(&self, workload: &Workload) -> Option<&PathBuf> {
        let chosen = self.options.envoy_for.is_empty() || self.options.envoy_for.contains(&workload.owner.1);
        self.options.envoy.as_ref().filter(|_| chosen)
    }

    fn start_apps(&self, workload: &Workload, addresses: Addresses) -> Result<Vec<Supervised>> {
        let mut apps = Vec::new();
        for program in &workload.programs {
            let environment = pod::environment(workload, program, addresses);
            let mut words = program.command.iter().map(|word| expand(word, &environment));
            let directory = self.options.dir.join(&program.directory);
            let command = words.next().unwrap_or_default();
            match programs::of_workload(&command, &directory) {
                Ok(path) => {
                    let name = format!("{}/{}", workload.name, program.name);
                    let arguments = words.collect();
                    let launch = Launch { name, program: path, arguments, environment, directory };
                    apps.push(Supervised::start(launch, self.output.clone()));
                }
                // The others can run; an edit of the file starts this one.
                Err(error) => say(&format!("{} cannot be started: {error:#}", workload.id())),
            }
        }
        Ok(apps)
    }

    fn control_plane_launch(&self) -> Result<Launch> {
        let http = SocketAddr::from((self.network.control_plane(), CONTROL_PLANE_HTTP_PORT));
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let arguments = vec![
            "--source".to_owned(),
            "folder".to_owned(),
            text(&self.options.dir.canonicalize()?),
            "--source".to_owned(),
            "folder".to_owned(),
            text(&self.run_dir.workloads()),
            "--xds-socket".to_owned(),
            text(&self.run_dir.xds_socket()),
            "--http-address".to_owned(),
            http.to_string(),
        ];
        Ok(Launch {
            name: "ringsaild".to_owned(),
            program: programs::own("ringsaild")?,
            arguments,
            environment: Vec::new(),
            directory: self.options.dir.clone(),
        })
    }

    /// Proxies by name, with their admin endpoints.
    pub fn admin_addresses(&self) -> Vec<(String, SocketAddr)> {
        let admin =
            |pod: &Pod| Some((pod.proxy.as_ref()?.name.clone(), (pod.addresses.mesh, ADMIN_PORT).into()));
        self.pods.values().filter_map(admin).collect()
    }

    /// Where the first gateway takes requests.
    fn gateway(&self) -> Option<SocketAddr> {
        let is_gateway = |pod: &&Pod| pod.workload.role == Role::Gateway;
        let pod = self.pods.values().find(is_gateway)?;
        let (_, port, _) = pod.workload.ports.first()?;
        Some((pod.addresses.mesh, *port).into())
    }

    /// What runs and how to reach it, a line each.
    pub fn describe(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for pod in self.pods.values() {
            let seat = match (&pod.workload.running, pod.workload.role) {
                (Some(running), _) => format!("sidecar of {}", running.address),
                (None, Role::Sidecar) => "behind its sidecar".to_owned(),
                (None, Role::Gateway) => "gateway".to_owned(),
                (None, Role::Plain) => "without a proxy".to_owned(),
            };
            let ports: Vec<String> = pod
                .workload
                .ports
                .iter()
                .map(|(_, port, _)| format!("{}:{port}", pod.addresses.mesh))
                .collect();
            lines.push(format!("  {:<32} {seat:<18}  {}", pod.workload.id(), ports.join(" ")));
        }
        let control_plane = SocketAddr::from((self.network.control_plane(), CONTROL_PLANE_HTTP_PORT));
        lines.push(format!(
            "control plane: http://{control_plane}/debug/syncz; a proxy's admin: http://ADDRESS:{ADMIN_PORT}/"
        ));
        lines
    }

    /// Writes the state file when something changed.
    pub fn write_state(&mut self) -> Result<()> {
        let process = |process: &Supervised| {
            let status = process.status();
            let log = self.output.log_path(&process.name);
            json!({"name": process.name, "pid": status.pid, "restarts": status.restarts, "log": log.to_string_lossy()})
        };
        let pods: Vec<Value> = self
            .pods
            .values()
            .map(|pod| {
                let Pod { workload, addresses, proxy, apps } = pod;
                json!({
                    "name": workload.name,
                    "namespace": workload.namespace,
                    "owner": workload.owner.1,
                    "labels": workload.labels,
                    "role": match workload.role { Role::Sidecar => "sidecar", Role::Gateway => "gateway", Role::Plain => "plain" },
                    "proxy": match (workload.role, self.envoy_for(workload)) {
                        (Role::Plain, _) => "none",
                        (_, Some(_)) => "envoy",
                        (_, None) => "ringsail",
                    },
                    "mesh_address": addresses.mesh.to_string(),
                    "app_address": addresses.app.to_string(),
                    "outbound_address": addresses.outbound.to_string(),
                    "admin_port": ADMIN_PORT,
                    "ports": workload.ports.iter().map(|(_, port, _)| port).collect::<Vec<_>>(),
                    "processes": proxy.iter().chain(apps).map(process).collect::<Vec<_>>(),
                })
            })
            .collect();
        let state = json!({
            "control_plane": {
                "http": SocketAddr::from((self.network.control_plane(), CONTROL_PLANE_HTTP_PORT)).to_string(),
                "xds_socket": self.run_dir.xds_socket().to_string_lossy(),
                "process": self.control_plane.as_ref().map(process),
            },
            "pods": pods,
        });
        let state = format!("{state:#}\n");
        if state != self.state {
            if let Some(gateway) = self.gateway() {
                pod::write_whole(&self.run_dir.gateway(), &format!("{gateway}\n"))?;
            }
            pod::write_whole(&self.run_dir.state(), &state)?;
            self.state = state;
        }
        Ok(())
    }

    /// Ends every process; returns when all are gone.
    pub async fn stop(&mut self) {
        let pods = std::mem::take(&mut self.pods);
        let processes = pods.into_values().flat_map(|pod| pod.proxy.into_iter().chain(pod.apps));
        stop_all(processes.chain(self.control_plane.take())).await;
    }
}

/// Ends processes side by side; returns when all are gone.
async fn stop_all(processes: impl IntoIterator<Item = Supervised>) {
    let mut ending = tokio::task::JoinSet::new();
    for process in processes {
        ending.spawn_local(process.stop());
    }
    while ending.join_next().await.is_some() {}
}
