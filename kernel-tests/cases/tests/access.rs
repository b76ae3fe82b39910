//! Access control of connections: the same on a stock Envoy, where there is one.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread;

use ringsail_harness::config::{TYPE, bootstrap, static_cluster};
use ringsail_harness::peer::Peer;
use ringsail_harness::wait::{self, PATIENCE};
use ringsail_harness::{binaries, engines};
use serde_json::{Value, json};

/// A server that speaks first, then echoes.
fn greeter() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { break };
            thread::spawn(move || {
                let mut reader = stream.try_clone()?;
                stream.write_all(b"hello")?;
                std::io::copy(&mut reader, &mut stream)
            });
        }
    });
    address
}

fn template(upstream: SocketAddr, action: &str, principal: &Value) -> Value {
    let rbac = json!({"@type": format!("{TYPE}envoy.extensions.filters.network.rbac.v3.RBAC"), "stat_prefix": "tcp.",
        "rules": {"action": action, "policies": {"ns[a]-policy[b]-rule[0]": {
            "permissions": [{"any": true}], "principals": [principal]}}}});
    let log = json!({"name": "log", "typed_config": {
        "@type": format!("{TYPE}envoy.extensions.access_loggers.file.v3.FileAccessLog"), "path": "ACCESS_LOG",
        "log_format": {"text_format_source": {"inline_string":
            "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS%\n"}}}});
    let proxy = json!({"@type": format!("{TYPE}envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"),
        "stat_prefix": "relay", "cluster": "app", "access_log": [log]});
    let listener = json!({"name": "tcp", "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [
            {"name": "envoy.filters.network.rbac", "typed_config": rbac},
            {"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}]}]});
    bootstrap(json!([listener]), json!([static_cluster("app", &[upstream])]))
}

/// Reads the greeting, says something, and returns what comes until the end or five bytes.
fn talk(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut greeting = [0; 5];
    stream.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"hello", "a server's first bytes pass: nobody has been judged yet");
    stream.write_all(b"query").unwrap();
    let mut answer = Vec::new();
    let _ = stream.take(5).read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

#[test]
fn a_connection_is_judged_at_its_first_byte_and_the_log_names_the_policy() {
    let Some(ringsail) = binaries::ringsail_or_notice() else { return };
    let mut peers: Vec<(&'static str, PathBuf, Vec<&str>)> = engines::available()
        .into_iter()
        .map(|engine| ("ringsail", ringsail.clone(), vec!["--engine", engine]))
        .collect();
    peers.extend(binaries::envoy().map(|envoy| ("envoy", envoy, vec![])));
    let upstream = greeter();
    let here = json!({"direct_remote_ip": {"address_prefix": "127.0.0.0", "prefix_len": 8}});
    let identified = json!({"authenticated": {"principal_name": {"prefix": "spiffe://"}}});
    for (name, binary, arguments) in &peers {
        for (action, principal, answer, log, counter) in [
            ("ALLOW", &here, "query", "- - -", "allowed"),
            ("DENY", &here, "", "- - rbac_access_denied_matched_policy[ns[a]-policy[b]-rule[0]]", "denied"),
            ("ALLOW", &identified, "", "- - rbac_access_denied_matched_policy[none]", "denied"),
            ("DENY", &identified, "query", "- - -", "allowed"),
        ] {
            let what = format!("{name} {arguments:?} {action} {principal}");
            let peer =
                Peer::start_with(name, binary, &template(upstream, action, principal), arguments).unwrap();
            assert_eq!(talk(peer.address(0)), answer, "{what}");
            wait::until("a line is written", || !peer.access_log().is_empty());
            assert_eq!(peer.access_log(), [log], "{what}");
            let stats = peer.admin("/stats?filter=rbac").unwrap();
            let counted = stats.lines().any(|line| line.ends_with(&format!("rbac.{counter}: 1")));
            assert!(counted, "{what}: {stats}");
        }
    }
}
