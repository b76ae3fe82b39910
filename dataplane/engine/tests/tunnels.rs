//! Connections that stop being HTTP: upgrades and CONNECT.

mod harness;

use std::net::Shutdown;

use harness::{End, Proxy, Upstream, cluster, engines, listener, manager, stable};
use serde_json::json;

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

#[test]
fn a_granted_upgrade_passes_bytes_until_the_upstream_ends_it() {
    for engine in engines() {
        let upstream = Upstream::manual();
        let proxy = Proxy::http(engine, upstream.address, |_, _| {});
        let mut client = proxy.connect();
        // What follows the head belongs to the new protocol, and waits for it.
        client.send(format!("{UPGRADE}early"));
        let mut server = upstream.accept();
        let request = server.read_head();
        assert!(request.contains("\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"), "{request}");
        assert!(server.is_quiet());
        server
            .send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhi");
        assert_eq!(
            stable(&client.read_head()),
            "HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\nConnection: upgrade\nserver: envoy\n\n"
        );
        assert_eq!(client.read_exact(2), "hi");
        assert_eq!(server.read_exact(5), "early");
        client.send("more");
        assert_eq!(server.read_exact(4), "more");
        drop(server);
        assert_eq!(client.end(), End::Fin);
        assert_eq!(proxy.log(), "101 UC upstream_reset_after_response_started{connection_termination}\n");
    }
}

#[test]
fn a_client_that_leaves_a_tunnel_ends_it() {
    for engine in engines() {
        let upstream = Upstream::manual();
        let proxy = Proxy::http(engine, upstream.address, |_, _| {});
        let mut client = proxy.connect();
        client.send(UPGRADE);
        let mut server = upstream.accept();
        server.read_head();
        server.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
        client.read_head();
        client.stream.shutdown(Shutdown::Write).unwrap();
        server.end();
        assert_eq!(proxy.log(), "101 DC downstream_remote_disconnect\n");
    }
}

#[test]
fn an_upgrade_that_is_not_granted_gets_the_head_of_the_answer() {
    for engine in engines() {
        let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody");
        let proxy = Proxy::http(engine, upstream, |_, _| {});
        let answer = proxy.ask(UPGRADE);
        assert_eq!(
            stable(&answer),
            "HTTP/1.1 200 OK\nserver: envoy\ncontent-length: 0\nconnection: close\n\n"
        );
        assert_eq!(proxy.log(), "200 - websocket_handshake_unsuccessful\n");
    }
}

#[test]
fn an_upgrade_nobody_allows_is_403() {
    for engine in engines() {
        let upstream = Upstream::answering("");
        let proxy = Proxy::http(engine, upstream, |_, _| {});
        let answer = proxy.ask("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: other\r\nConnection: upgrade\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
        assert_eq!(proxy.log(), "403 - upgrade_failed\n");
    }
}

#[test]
fn h2c_is_not_an_upgrade() {
    for engine in engines() {
        let upstream = Upstream::serving(|request| {
            assert!(!request.to_ascii_lowercase().contains("upgrade"), "{request}");
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned()
        });
        let proxy = Proxy::http(engine, upstream, |_, _| {});
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n");
        assert!(client.read_head().starts_with("HTTP/1.1 200 OK\r\n"));
    }
}

#[test]
fn connect_ends_here_where_the_route_says_so() {
    for engine in engines() {
        let upstream = Upstream::manual();
        let mut manager = manager(json!([{"match": {"connect_matcher": {}}, "route": {
            "cluster": "up", "timeout": "0s",
            "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]}}]));
        manager["http_protocol_options"] = json!({});
        let proxy = Proxy::start(engine, &[listener(manager)], &[cluster("up", &[upstream.address])]);
        let mut client = proxy.connect();
        client.send("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n");
        assert!(client.read_head().starts_with("HTTP/1.1 200 OK\r\n"));
        let mut server = upstream.accept();
        client.send("raw");
        assert_eq!(server.read_exact(3), "raw");
        server.send("bytes");
        assert_eq!(client.read_exact(5), "bytes");
        drop(server);
        assert_eq!(client.end(), End::Fin);
    }
}

#[test]
fn connect_without_a_route_is_404() {
    for engine in engines() {
        let proxy = Proxy::http(engine, Upstream::answering(""), |_, _| {});
        let answer = proxy.ask("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
        assert_eq!(proxy.log(), "404 NR route_not_found\n");
    }
}
