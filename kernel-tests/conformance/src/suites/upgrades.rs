//! WebSocket and other upgrades over HTTP/1.1.

use serde_json::json;

use super::{http2_call as call, note_http2 as note};
use crate::case::Case;
use crate::http2::{Call, calls};
use crate::scenario::{Observed, Run, Scenario};
use crate::suite::Suite;

/// Sends the upgrade, then `data` through what it opened.
fn tunnel(run: &Run<'_>, protocol: &str, data: &str) -> anyhow::Result<Observed> {
    let head = run.request_of(
        "GET",
        &format!("/{}/upgrade", run.id),
        &format!("connection: Upgrade\r\nupgrade: {protocol}\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n"),
    );
    let pause_at = Some(head.len());
    run.case(Case { pause_at, ..Case::new(run.id, head + data) })
}

/// An extended CONNECT over HTTP/2 that sends `data`, and leaves when as much has come back.
fn stream(scenario: Scenario, protocol: &'static str, data: &'static str) -> Scenario {
    scenario.does(move |run| {
        let path = format!("/{}/upgrade", run.id);
        let body = vec![data.as_bytes().to_vec()];
        let fields = &[("sec-websocket-version", "13")];
        let tunnel = Some(data.len());
        let call = Call { path, body, protocol: Some(protocol), tunnel, ..call(run, "CONNECT", fields) };
        let mut observed = Observed::new();
        calls(run.address, vec![call])?.iter().for_each(|reply| note(&mut observed, run, reply));
        observed.attempts(run);
        Ok(observed)
    })
}

/// A tunnel to the echo server that ends CONNECT here.
fn connect_here(id: &'static str) -> Scenario {
    let route = json!({"name": id, "match": {"connect_matcher": {}}, "route": {"cluster": id, "timeout": "0s",
        "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]}});
    manager(id, json!([]))
        .backends(&["echo"])
        .before(route)
        .virtual_host(json!({"domains": ["*"]}))
        .manager(json!({"http2_protocol_options": {"allow_connect": true}, "upgrade_configs": []}))
}

/// CONNECT over HTTP/1.1, then bytes.
fn connect_http1(scenario: Scenario) -> Scenario {
    scenario.does(|run| {
        let head = format!("CONNECT {0}:80 HTTP/1.1\r\nhost: {0}:80\r\n{1}\r\n", run.host(), run.names());
        let pause_at = Some(head.len());
        run.case(Case { pause_at, ..Case::new(run.id, head + "bytes") })
    })
}

/// The same over HTTP/2.
fn connect_http2(scenario: Scenario) -> Scenario {
    scenario.does(|run| {
        let authority = format!("{}:80", run.host());
        let call =
            Call { authority, body: vec![b"bytes".to_vec()], tunnel: Some(5), ..call(run, "CONNECT", &[]) };
        let mut observed = Observed::new();
        calls(run.address, vec![call])?.iter().for_each(|reply| note(&mut observed, run, reply));
        Ok(observed)
    })
}

/// A cluster that takes extended CONNECT.
fn http2_tunnels(scenario: Scenario) -> Scenario {
    scenario.backends(&["ha"]).cluster(json!({"typed_extension_protocol_options": {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {"allow_connect": true}}}}}))
}

fn http2_manager(id: &'static str, upgrades: serde_json::Value) -> Scenario {
    Scenario::new(id)
        .manager(json!({"upgrade_configs": upgrades, "http2_protocol_options": {"allow_connect": true}}))
}

fn manager(id: &'static str, upgrades: serde_json::Value) -> Scenario {
    Scenario::new(id).manager(json!({"upgrade_configs": upgrades}))
}

/// The suite.
pub fn suite() -> Suite {
    let websocket = || json!([{"upgrade_type": "websocket"}]);
    let scenarios = vec![
        // Extended CONNECT on either side.
        stream(http2_manager("websocket-h2-to-h1", websocket()), "websocket", "bytes of a frame"),
        http2_tunnels(manager("websocket-h1-to-h2", websocket()))
            .does(|run| tunnel(run, "websocket", "bytes of a frame")),
        stream(
            http2_tunnels(http2_manager("websocket-h2-to-h2", websocket())),
            "websocket",
            "bytes of a frame",
        ),
        stream(http2_manager("websocket-h2-not-allowed", json!([])), "websocket", "bytes"),
        stream(http2_manager("websocket-h2-other-protocol", websocket()), "irc", "bytes"),
        stream(
            http2_manager("websocket-h2-to-nobody", websocket()).backends(&["refused"]),
            "websocket",
            "bytes",
        ),
        connect_http1(connect_here("connect-h1-ends-here")),
        connect_http2(connect_here("connect-h2-ends-here")),
        manager("connect-h1-without-route", json!([{"upgrade_type": "CONNECT"}])).does(|run| {
            run.raw(format!(
                "CONNECT nobody.example:80 HTTP/1.1\r\nhost: nobody.example:80\r\n{}\r\n",
                run.names()
            ))
        }),
        connect_http2(http2_manager("connect-h2-without-route", json!([{"upgrade_type": "CONNECT"}]))),
        connect_http2(connect_here("connect-h2-to-nobody").backends(&["refused"])),
        manager("websocket", websocket()).does(|run| tunnel(run, "websocket", "bytes of a frame")),
        manager("websocket-other-case", websocket()).does(|run| tunnel(run, "WebSocket", "bytes of a frame")),
        manager("websocket-not-allowed", json!([])).does(|run| tunnel(run, "websocket", "")),
        manager("websocket-off-on-the-route", websocket())
            .route(json!({"upgrade_configs": [{"upgrade_type": "websocket", "enabled": false}]}))
            .does(|run| tunnel(run, "websocket", "")),
        manager("websocket-on-the-route", json!([]))
            .route(json!({"upgrade_configs": [{"upgrade_type": "websocket"}]}))
            .does(|run| tunnel(run, "websocket", "bytes of a frame")),
        manager("other-protocol", json!([{"upgrade_type": "spdy/3.1"}]))
            .does(|run| tunnel(run, "SPDY/3.1", "bytes")),
        manager("protocol-not-in-the-list", websocket()).does(|run| tunnel(run, "irc", "")),
        manager("websocket-outlives-route-timeout", websocket())
            .route(json!({"timeout": "0.2s"}))
            .does(|run| tunnel(run, "websocket", "after the timeout")),
        manager("websocket-ends-with-max-duration", websocket())
            .route(json!({"max_stream_duration": {"max_stream_duration": "0.4s"}}))
            .does(|run| tunnel(run, "websocket", "")),
        manager("websocket-ends-when-idle", websocket())
            .route(json!({"idle_timeout": "0.4s"}))
            .does(|run| tunnel(run, "websocket", "")),
        manager("websocket-to-nobody", websocket())
            .backends(&["refused"])
            .does(|run| tunnel(run, "websocket", "")),
    ];
    Suite { name: "upgrades", scenarios, filters: json!([]) }
}
