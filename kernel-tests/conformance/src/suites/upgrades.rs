//! WebSocket and other upgrades over HTTP/1.1.

use serde_json::json;

use crate::case::Case;
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

fn manager(id: &'static str, upgrades: serde_json::Value) -> Scenario {
    Scenario::new(id).manager(json!({"upgrade_configs": upgrades}))
}

/// The suite.
pub fn suite() -> Suite {
    let websocket = || json!([{"upgrade_type": "websocket"}]);
    let scenarios = vec![
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
