//! The command line of `ringsail local`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Which event loop the proxies use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Engine {
    /// io_uring where the kernel allows it, else epoll
    Auto,
    /// io_uring or nothing
    IoUring,
    /// epoll
    Epoll,
}

impl Engine {
    /// The word as `ringsail-proxy --engine` takes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

/// Run a mesh on this machine from a folder of Kubernetes and Istio YAML
///
/// Needs neither Kubernetes nor root.
///
/// Every Deployment, StatefulSet, DaemonSet or Pod below DIR whose containers have a `command` becomes one process per
/// replica, with a proxy in front of it; the same folder can be applied to a cluster. Saved files take effect at once.
///
/// A program finds its pod's address in $POD_IP (listen there) and its sidecar at $OUTBOUND_ADDRESS: port 9080 of a
/// service is reached at $OUTBOUND_ADDRESS:9080 with the service's name as Host. $http_proxy is set, too.
/// A program that runs already on this machine is declared with a WorkloadEntry of its loopback address, such as
/// 127.0.0.1, and gets a sidecar, too, unless label sidecar.istio.io/inject is "false"; mesh.json says where. Any other
/// WorkloadEntry is called at its address.
///
/// Addresses are loopback: the first mesh of a machine has 127.77.0.0/24. The gateway's is kept in RUN_DIR/gateway, every
/// pod's with its processes in RUN_DIR/mesh.json, the output of process X in RUN_DIR/logs/X.log.
#[derive(Debug, Args)]
pub struct Options {
    /// Folder of Kubernetes and Istio YAML; its subfolders count too
    pub dir: PathBuf,

    /// Where sockets, generated files and logs go
    #[arg(long, default_value = ".ringsail", value_name = "DIR")]
    pub run_dir: PathBuf,

    /// Event loop of the proxies
    #[arg(long, value_enum, default_value = "auto", env = "RINGSAIL_ENGINE")]
    pub engine: Engine,

    /// Event loops per proxy
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub concurrency: u32,

    /// The proxy program; by default the ringsail-proxy beside this program or on PATH
    #[arg(long, value_name = "PATH")]
    pub proxy: Option<PathBuf>,

    /// A stock Envoy to use as the proxy instead
    #[arg(long, value_name = "PATH")]
    pub envoy: Option<PathBuf>,

    /// Use Envoy only for the pods of this Deployment; may be repeated
    #[arg(long, value_name = "NAME", requires = "envoy")]
    pub envoy_for: Vec<String>,

    /// Show no output of the processes; it is kept in the logs either way
    #[arg(long, short)]
    pub quiet: bool,
}
