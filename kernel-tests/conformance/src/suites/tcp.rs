//! TCP proxying and protocol sniffing: the same connections through both proxies.

use std::path::Path;
use std::thread;
use std::time::Instant;

use anyhow::Result;
use ringsail_harness::config::static_cluster;
use ringsail_harness::peer::Peer;
use ringsail_harness::upstream;
use serde_json::{Value, json};

use crate::case::Case;
use crate::differences;
use crate::suite::{Outcome, Selection, Verdict};

/// The suite's name.
pub const NAME: &str = "tcp";

/// Which of the template's listeners a case goes to.
#[derive(Clone, Copy)]
enum To {
    Echo,
    Refused,
    Empty,
    Missing,
    Idle,
    Sniffed,
}

/// The cases' ids.
pub fn ids() -> Vec<&'static str> {
    cases().iter().map(|(_, case)| case.id).collect()
}

/// Runs the selected cases on both proxies; `None` when nothing is selected.
pub fn run(envoy: &Path, ringsail: &Path, selection: Selection<'_>) -> Result<Option<Outcome>> {
    let start = Instant::now();
    let mut cases = cases();
    cases.retain(|(_, case)| selection.names(NAME, case.id));
    if cases.is_empty() {
        return Ok(None);
    }
    let template = template();
    let envoy = Peer::start("envoy", envoy, &template)?;
    let ringsail = Peer::start("ringsail", ringsail, &template)?;
    let mut verdicts = Vec::new();
    thread::scope(|scope| {
        let running: Vec<_> = cases
            .iter()
            .map(|(to, case)| {
                let observe = |peer: &Peer| case.run(peer.address(*to as usize));
                let (envoy, ringsail) = (&envoy, &ringsail);
                (case.id, scope.spawn(move || observe(envoy)), scope.spawn(move || observe(ringsail)))
            })
            .collect();
        for (id, expected, found) in running {
            let panicked = |_| anyhow::anyhow!("{id} panicked");
            let (expected, found) = (expected.join().map_err(panicked)??, found.join().map_err(panicked)??);
            let verdict = match (expected == found, differences::reason(id)) {
                (true, None) => Verdict::Agrees,
                (false, Some(_)) => Verdict::Differs,
                (true, Some(reason)) => Verdict::Fails(format!("agrees, yet listed as different ({reason})")),
                (false, None) => Verdict::Fails(format!("envoy    {expected:?}\n  ringsail {found:?}")),
            };
            verdicts.push((id.to_string(), verdict));
        }
        anyhow::Ok(())
    })?;
    Ok(Some(Outcome { suite: NAME, verdicts, pending: Vec::new(), elapsed: start.elapsed() }))
}

fn cases() -> Vec<(To, Case)> {
    let raw = |id: &'static str, bytes: &str| Case::new(id, bytes.as_bytes().to_vec());
    let closing = |id: &'static str, bytes: &str| Case { half_close: true, ..raw(id, bytes) };
    vec![
        (To::Echo, raw("echo", "hello")),
        (To::Echo, closing("echo-after-half-close", "hello")),
        (To::Echo, closing("nothing-but-a-close", "")),
        (To::Echo, Case { half_close: true, ..Case::new("echo-300-kib", "x".repeat(300 * 1024)) }),
        (To::Refused, raw("tcp-refused", "hello")),
        (To::Empty, raw("no-endpoints", "hello")),
        (To::Missing, raw("unknown-cluster", "hello")),
        (To::Idle, raw("idle-timeout", "hello")),
        (To::Sniffed, raw("sniff-http", "GET /x HTTP/1.1\r\nhost: a\r\n\r\n")),
        (To::Sniffed, raw("sniff-registered-method", "PURGE /x HTTP/1.1\r\nhost: a\r\n\r\n")),
        (To::Sniffed, raw("sniff-unknown-method", "FOO /x HTTP/1.1\r\nhost: a\r\n\r\n")),
        (To::Sniffed, raw("sniff-http10-is-tcp", "GET /x HTTP/1.0\r\nhost: a\r\n\r\n")),
        (To::Sniffed, raw("sniff-http09-is-tcp", "GET /x\r\n\r\n")),
        (To::Sniffed, raw("sniff-text-is-tcp", "hello world\r\n")),
        (To::Sniffed, raw("sniff-redis-is-tcp", "*1\r\n$4\r\nPING\r\n")),
        (To::Sniffed, raw("sniff-ssh-is-tcp", "SSH-2.0-OpenSSH_9.2\r\n")),
        (To::Sniffed, Case::new("sniff-binary-is-tcp", vec![0, 1, 2, 3, 255])),
        (To::Sniffed, raw("sniff-waits-for-more", "GE")),
        (
            To::Sniffed,
            Case { pause_at: Some(2), ..raw("sniff-split-request", "GET /x HTTP/1.1\r\nhost: a\r\n\r\n") },
        ),
        (To::Sniffed, Case { pause_at: Some(2), ..raw("sniff-split-text", "GEHEIM ist das\r\n") }),
    ]
}

fn template() -> Value {
    let tcp_proxy = |cluster: &str, idle: Option<&str>| {
        let mut config = json!({"@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": cluster, "cluster": cluster});
        if let Some(idle) = idle {
            config["idle_timeout"] = json!(idle);
        }
        json!([{"name": "envoy.filters.network.tcp_proxy", "typed_config": config}])
    };
    let listener = |name: &str, body: Value| {
        let mut listener =
            json!({"name": name, "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}});
        for (key, value) in body.as_object().into_iter().flatten() {
            listener[key] = value.clone();
        }
        listener
    };
    let chain = |filters: Value| json!({"filter_chains": [{"filters": filters}]});
    let http = json!([{"name": "envoy.filters.network.http_connection_manager", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "sniffed", "codec_type": "AUTO",
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config":
            {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
        "route_config": {"name": "sniffed", "virtual_hosts": [{"name": "any", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "http chain"}}}]}]}}}]);
    json!({
        "node": {"id": "sidecar~127.0.0.1~a.b~b.svc.cluster.local", "cluster": "test"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": "ADMIN"}}},
        "static_resources": {
            // In the order of `To`.
            "listeners": [
                listener("echo", chain(tcp_proxy("echo", None))),
                listener("refused", chain(tcp_proxy("refused", None))),
                listener("empty", chain(tcp_proxy("empty", None))),
                listener("missing", chain(tcp_proxy("missing", None))),
                listener("idle", chain(tcp_proxy("echo", Some("0.2s")))),
                listener("sniffed", json!({
                    "continue_on_listener_filters_timeout": true, "listener_filters_timeout": "0s",
                    "listener_filters": [{"name": "envoy.filters.listener.http_inspector", "typed_config":
                        {"@type": "type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector"}}],
                    "filter_chains": [{"filter_chain_match": {"transport_protocol": "raw_buffer",
                        "application_protocols": ["http/1.1", "h2c"]}, "filters": http}],
                    "default_filter_chain": {"filters": tcp_proxy("echo", None)}}))],
            "clusters": [static_cluster("echo", &[upstream::echo().unwrap()]), static_cluster("refused", &[upstream::refused().unwrap()]), static_cluster("empty", &[])]
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{End, Observed};

    #[test]
    fn the_script_itself_tells_an_echo_from_a_reset() {
        let address = upstream::echo().unwrap();
        let observed = Case { half_close: true, ..Case::new("echo", "hello") }.run(address).unwrap();
        assert_eq!(observed, Observed { reply: "hello".to_string(), end: End::Closed });
    }
}
