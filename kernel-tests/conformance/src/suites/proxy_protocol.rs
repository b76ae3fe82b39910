//! Connections that a load balancer passes on with a PROXY header.

use serde_json::{Value, json};

use crate::scenario::Scenario;
use crate::suite::Suite;

/// A listener that takes PROXY headers by `settings`, and a client that sends `header` before its request. The echo
/// shows the addresses.
fn passed_on(id: &'static str, settings: Value, header: impl Into<Vec<u8>>) -> Scenario {
    let mut config = json!({"@type": "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"});
    crate::scenario::merge(&mut config, settings);
    let header = header.into();
    Scenario::new(id)
        .manager(json!({"use_remote_address": true}))
        .listener(json!({"listener_filters": [{"name": "envoy.filters.listener.proxy_protocol", "typed_config": config}]}))
        .entry(json!({"request_headers_to_add": [{"header": {"key": "x-ends", "value":
            "%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"}}]}))
        .does(move |run| run.raw([&header[..], run.request("").as_bytes()].concat()))
}

/// The addresses of a connection that names none: its port differs from run to run.
fn anonymous(scenario: Scenario) -> Scenario {
    scenario.entry(json!({"request_headers_to_add": [{"header": {"key": "x-ends", "value":
        "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"}}]}))
}

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend_from_slice(&[command, family]);
    bytes.extend_from_slice(&(rest.len() as u16).to_be_bytes());
    bytes.extend_from_slice(rest);
    bytes
}

/// The suite.
pub fn suite() -> Suite {
    let v4: &[u8] = &[10, 0, 0, 1, 10, 0, 0, 2, 0x12, 0x34, 0, 80];
    let v6 = [&[0; 15][..], &[1], &[0; 15], &[2], &[0, 1, 0, 2]].concat();
    let line = "PROXY TCP4 10.0.0.1 10.0.0.2 4660 80\r\n";
    let optional = || json!({"allow_requests_without_proxy_protocol": true});
    let without = |version: &str| json!({"disallowed_versions": [version]});
    let scenarios = vec![
        passed_on("proxy-v1", json!({}), line),
        passed_on("proxy-v1-v6", json!({}), "PROXY TCP6 2001:db8::1 2001:db8::2 4660 80\r\n"),
        anonymous(passed_on("proxy-v1-unknown", json!({}), "PROXY UNKNOWN\r\n")),
        passed_on("proxy-v1-broken", json!({}), "PROXY TCP4 10.0.0.1 10.0.0.2\r\n"),
        passed_on("proxy-v1-other-family", json!({}), "PROXY TCP4 ::1 ::1 1 2\r\n"),
        passed_on("proxy-v1-too-long", json!({}), format!("PROXY TCP4 {}", "1".repeat(120))),
        passed_on("proxy-v2", json!({}), v2(0x21, 0x11, v4)),
        passed_on("proxy-v2-v6", json!({}), v2(0x21, 0x21, &v6)),
        passed_on("proxy-v2-extensions", json!({}), v2(0x21, 0x11, &[v4, &[4, 0, 3, 1, 2, 3]].concat())),
        anonymous(passed_on("proxy-v2-local", json!({}), v2(0x20, 0, &[]))),
        anonymous(passed_on("proxy-v2-unix", json!({}), v2(0x21, 0x31, &[0; 216]))),
        passed_on("proxy-v2-datagram", json!({}), v2(0x21, 0x12, v4)),
        passed_on("proxy-v2-unspecified", json!({}), v2(0x21, 0, v4)),
        passed_on("proxy-v2-short", json!({}), v2(0x21, 0x11, &v4[..8])),
        passed_on("proxy-v2-other-version", json!({}), v2(0x31, 0x11, v4)),
        passed_on("proxy-missing", json!({}), ""),
        anonymous(passed_on("proxy-missing-allowed", optional(), "")),
        passed_on("proxy-there-though-optional", optional(), line),
        passed_on("proxy-v1-disallowed", without("V1"), line),
        passed_on("proxy-v2-disallowed", without("V2"), v2(0x21, 0x11, v4)),
        passed_on("proxy-v2-where-v1-is-not", without("V1"), v2(0x21, 0x11, v4)),
    ];
    Suite { name: "proxy protocol", scenarios, filters: json!([]) }
}
