//! Frames, header blocks and the h2spec list against a running ringsail-proxy.
//!
//! The peer is `kernel-tests/peers/http2_vectors.py` on hyperframe and hpack, which share no line with the library the
//! proxy uses. A frame that the corpus gives an error for must be answered with that error; a header block must arrive
//! at the upstream as the corpus lists it, and where HTTP/2 forbids one of its fields be refused while the connection's
//! table stays in step; a case of the h2spec list must be answered as its requirement says.

use std::path::Path;

use anyhow::{Context, Result, bail};
use ringsail_harness::config::{TYPE, bootstrap, http_listener, static_cluster};
use ringsail_harness::peer::Peer;
use ringsail_harness::{binaries, ports, python, upstream};
use serde_json::json;

use crate::report::Report;

/// Runs every case of the folder.
pub fn run(dir: &Path) -> Result<Report> {
    let binary = binaries::ringsail_proxy()
        .context("no ringsail-proxy beside this program: run `cargo build -p ringsail-proxy` first")?;
    let interpreter = python::interpreter()
        .context("no Python with hyperframe and hpack: `cargo xtask corpora http2-vectors` installs it")?;
    let own = ports::free_address()?;
    let mut peer_cluster = static_cluster("peer", &[own]);
    peer_cluster["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": format!("{TYPE}envoy.extensions.upstreams.http.v3.HttpProtocolOptions"),
        "explicit_http_config": {"http2_protocol_options": {}}}});
    let host = |name: &str, domain: &str, cluster: &str| {
        json!({"name": name, "domains": [domain],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "0s"}}]})
    };
    let routes = json!({"route_config": {"name": "hosts", "virtual_hosts":
        [host("peer", "peer.example", "peer"), host("any", "*", "app")]}});
    let template = bootstrap(
        json!([http_listener("http", routes)]),
        json!([static_cluster("app", &[upstream::start()?]), peer_cluster]),
    );
    let proxy = Peer::start("ringsail", &binary, &template)?;
    let arguments = [&proxy.address(0).to_string(), &*dir.to_string_lossy(), &own.port().to_string()];
    let mut report = Report::new("http2-vectors");
    for line in python::run(&interpreter, "http2_vectors.py", &arguments)? {
        let mut columns = line.splitn(3, '\t');
        let (Some(verdict), Some(id)) = (columns.next(), columns.next()) else {
            bail!("no verdict: {line:?}")
        };
        let detail = columns.next().unwrap_or_default();
        match verdict {
            "ok" => report.agreed(),
            "unsafe" => report.unsafe_accept(id, detail, "refused"),
            _ => report.disagreed(id, detail, "as the corpus says"),
        }
    }
    Ok(report)
}
