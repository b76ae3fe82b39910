//! The command line.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, ValueEnum};
use ringsail_serve::{Listening, limits};
use tracing_subscriber::EnvFilter;

/// Longest wait for proxies to notice that they were disconnected.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Address of discovery when neither an address nor a socket is given. Source: istiod's plain-text port.
const XDS_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 15010);

/// The ringsail control plane: Istio and Kubernetes YAML in, Envoy xDS out.
///
/// It reads every *.yaml, *.yml and *.json file below the given folders, follows their changes, and serves
/// each connected proxy (ringsail-proxy or Envoy) the configuration that follows from them. An object that
/// is wrong is refused with file, line, field and fix, and its last good version keeps serving.
#[derive(Debug, Parser)]
#[command(name = "ringsaild", version, after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Where configuration comes from; may be given several times. The only KIND so far is `folder`. When
    /// two folders hold the same object, the later one wins.
    #[arg(long = "source", num_args = 2, value_names = ["KIND", "PLACE"], required = true)]
    source: Vec<String>,

    /// Serve xDS in plain text on this TCP address [default: 127.0.0.1:15010, unless --xds-socket is given]
    #[arg(long, value_name = "IP:PORT")]
    xds_address: Option<SocketAddr>,

    /// Serve xDS on this Unix socket, for proxies of the same user on this machine
    #[arg(long, value_name = "PATH")]
    xds_socket: Option<PathBuf>,

    /// Serve debug pages, /ready and /metrics on this address; `none` turns them off
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:15014")]
    http_address: String,

    /// DNS suffix of Kubernetes services
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub(crate) cluster_domain: String,

    /// Push changes once they have been quiet for this long, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = millis(limits::DEBOUNCE_QUIET))]
    debounce_ms: u64,

    /// Push changes after this long even if they are never quiet, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = millis(limits::DEBOUNCE_MAX))]
    debounce_max_ms: u64,

    #[command(flatten)]
    pub(crate) log: LogOptions,
}

const EXAMPLES: &str = "\
Examples:
  ringsaild --source folder ./mesh
  ringsaild --source folder ./mesh --source folder ./workloads --xds-socket /run/ringsail/xds.sock

  curl localhost:15014/debug/diagnostics    what is wrong with objects, and how to fix it
  curl localhost:15014/debug/syncz          which proxies are connected and in sync";

/// What is logged and how.
#[derive(Debug, Args)]
pub(crate) struct LogOptions {
    /// What to log: a level (error, warn, info, debug, trace) or targets, as `info,ringsail_serve=debug`
    #[arg(long, value_name = "FILTER", env = "RINGSAIL_LOG", default_value = "info")]
    log_level: String,

    /// How to log
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object per line
    Json,
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Options {
    /// The folders to read, in order.
    pub(crate) fn folders(&self) -> Result<Vec<PathBuf>> {
        let mut folders = Vec::new();
        for pair in self.source.chunks(2) {
            match pair {
                [kind, place] if kind == "folder" => folders.push(PathBuf::from(place)),
                [kind, _] => bail!("--source {kind}: no such kind of source; use `--source folder DIR`"),
                _ => bail!("--source takes a kind and a place, as in `--source folder DIR`"),
            }
        }
        Ok(folders)
    }

    /// Binds what discovery is served on.
    pub(crate) async fn discovery_sockets(&self) -> Result<Vec<Listening>> {
        let mut sockets = Vec::new();
        if let Some(path) = &self.xds_socket {
            sockets.push(Listening::unix(path).await.context("--xds-socket")?);
            tracing::info!(path = %path.display(), "xDS on a Unix socket");
        }
        let default = self.xds_socket.is_none().then_some(XDS_ADDRESS);
        if let Some(address) = self.xds_address.or(default) {
            let listening = Listening::tcp(address).await.context("--xds-address")?;
            tracing::info!(address = %listening.address()?, "xDS over TCP, in plain text");
            sockets.push(listening);
        }
        Ok(sockets)
    }

    /// Where the debug pages are served, if anywhere.
    pub(crate) fn debug_address(&self) -> Result<Option<SocketAddr>> {
        match self.http_address.as_str() {
            "none" => Ok(None),
            address => {
                let parsed = address.parse();
                parsed
                    .map(Some)
                    .with_context(|| format!("--http-address {address}: not IP:PORT and not `none`"))
            }
        }
    }

    pub(crate) fn debounce_quiet(&self) -> Duration {
        Duration::from_millis(self.debounce_ms)
    }

    pub(crate) fn debounce_max(&self) -> Duration {
        Duration::from_millis(self.debounce_max_ms.max(self.debounce_ms))
    }
}

impl LogOptions {
    /// Starts logging to standard error. A filter that makes no sense is reported and replaced by `info`.
    pub(crate) fn start(&self) {
        let (filter, error) = match EnvFilter::try_new(&self.log_level) {
            Ok(filter) => (filter, None),
            Err(error) => (EnvFilter::new("info"), Some(error)),
        };
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal());
        match self.log_format {
            LogFormat::Text => builder.init(),
            LogFormat::Json => builder.json().init(),
        }
        if let Some(error) = error {
            tracing::warn!("--log-level {}: {error}; using info", self.log_level);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Options {
        Options::parse_from(["ringsaild"].iter().chain(arguments))
    }

    #[test]
    fn folders_keep_their_order_and_other_kinds_are_refused() {
        let options = parse(&["--source", "folder", "a", "--source", "folder", "b"]);
        assert_eq!(options.folders().expect("two folders"), [PathBuf::from("a"), PathBuf::from("b")]);
        let error = parse(&["--source", "cluster", "x"]).folders().expect_err("refused").to_string();
        assert!(error.contains("use `--source folder DIR`"), "{error}");
    }

    #[test]
    fn the_debug_address_may_be_none() {
        let address = |text| parse(&["--source", "folder", "a", "--http-address", text]).debug_address();
        assert_eq!(address("none").expect("valid"), None);
        assert_eq!(address("127.0.0.1:0").expect("valid"), Some(SocketAddr::from(([127, 0, 0, 1], 0))));
        assert!(address("localhost").is_err());
    }
}
