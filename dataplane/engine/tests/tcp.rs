//! TCP relays: bytes both ways, and how either end learns of the other's.

mod harness;

use std::net::Shutdown;

use harness::{End, Proxy, Upstream, closed_port, cluster, engines, file_log, listener, tcp_proxy};
use serde_json::json;

#[test]
fn bytes_pass_both_ways_and_each_direction_ends_by_itself() {
    for engine in engines() {
        let upstream = Upstream::manual();
        let proxy = Proxy::start(engine, &[listener(tcp_proxy("up"))], &[cluster("up", &[upstream.address])]);
        let mut client = proxy.connect();
        client.send("ping");
        let mut server = upstream.accept();
        assert_eq!(server.read_exact(4), "ping");
        client.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(server.end(), End::Fin);
        // The other direction goes on.
        server.send("pong!");
        assert_eq!(client.read_exact(5), "pong!");
        drop(server);
        assert_eq!(client.end(), End::Fin);
        assert_eq!(proxy.log(), "- 4 5 -\n");
    }
}

#[test]
fn what_cannot_be_reached_resets_the_client() {
    for engine in engines() {
        let refused = "UF,URX 0 0 delayed_connect_error:_Connection_refused\n";
        for (target, endpoints, log) in [
            ("gone", vec![], "NC 0 0 -\n"),
            ("up", vec![], "UH 0 0 -\n"),
            ("up", vec![closed_port()], refused),
        ] {
            let proxy = Proxy::start(engine, &[listener(tcp_proxy(target))], &[cluster("up", &endpoints)]);
            assert_eq!(proxy.connect().end(), End::Reset, "{log}");
            assert_eq!(proxy.log(), log);
        }
    }
}

#[test]
fn an_upstreams_reset_becomes_the_clients() {
    for engine in engines() {
        let upstream = Upstream::manual();
        let proxy = Proxy::start(engine, &[listener(tcp_proxy("up"))], &[cluster("up", &[upstream.address])]);
        let mut client = proxy.connect();
        client.send("ping");
        let server = upstream.accept();
        // Closing with unread bytes makes the kernel reset.
        while server.stream.peek(&mut [0; 4]).unwrap() < 4 {}
        drop(server);
        assert_eq!(client.end(), End::Reset);
        assert_eq!(proxy.log(), "UR 4 0 -\n");
    }
}

#[test]
fn time_limits_end_a_relay_with_fin() {
    for engine in engines() {
        for (field, log) in
            [("idle_timeout", "- 0 0 -\n"), ("max_downstream_connection_duration", "DT 0 0 -\n")]
        {
            let upstream = Upstream::manual();
            let mut filter = tcp_proxy("up");
            filter[field] = json!("0.1s");
            let proxy = Proxy::start(engine, &[listener(filter)], &[cluster("up", &[upstream.address])]);
            assert_eq!(proxy.connect().end(), End::Fin);
            assert_eq!(proxy.log(), log);
        }
    }
}

#[test]
fn the_connection_breaker_resets_and_says_so() {
    for engine in engines() {
        let upstream = Upstream::manual();
        let mut cluster = cluster("up", &[upstream.address]);
        cluster["circuit_breakers"] = json!({"thresholds": [{"max_connections": 1}]});
        let proxy = Proxy::start(engine, &[listener(tcp_proxy("up"))], &[cluster]);
        let first = proxy.connect();
        let _server = upstream.accept();
        assert_eq!(proxy.connect().end(), End::Reset);
        drop(first);
        assert!(proxy.log().starts_with("UO 0 0 -\n"));
    }
}

#[test]
fn weights_share_connections_among_clusters() {
    for engine in engines() {
        let (a, b) = (Upstream::answering("a"), Upstream::answering("b"));
        let mut filter = tcp_proxy("a");
        filter.as_object_mut().unwrap().remove("cluster");
        filter["weighted_clusters"] =
            json!({"clusters": [{"name": "a", "weight": 1}, {"name": "b", "weight": 3}]});
        let proxy = Proxy::start(engine, &[listener(filter)], &[cluster("a", &[a]), cluster("b", &[b])]);
        let mut to_b = 0;
        for _ in 0..80 {
            let mut client = proxy.connect();
            client.send("\r\n\r\n");
            to_b += i32::from(client.read_exact(1) == "b");
        }
        assert!((40..=76).contains(&to_b), "{to_b} of 80");
    }
}

#[test]
fn a_connection_without_a_chain_is_reset_and_logged() {
    for engine in engines() {
        let mut listener = listener(tcp_proxy("up"));
        listener["filter_chains"][0]["filter_chain_match"] = json!({"application_protocols": ["h2c"]});
        listener["access_log"] = json!([file_log("%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%")]);
        let proxy = Proxy::start(engine, &[listener], &[cluster("up", &[])]);
        assert_eq!(proxy.connect().end(), End::Reset);
        assert_eq!(proxy.log(), "NR filter_chain_not_found\n");
    }
}

#[test]
fn first_bytes_choose_between_http_and_tcp() {
    for engine in engines() {
        let upstream = Upstream::manual();
        let mut listener = listener(harness::manager(json!([
            {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "http"}}}])));
        listener["filter_chains"][0]["filter_chain_match"] =
            json!({"application_protocols": ["http/1.1", "h2c"], "transport_protocol": "raw_buffer"});
        listener["default_filter_chain"] =
            json!({"filters": [{"name": "tcp", "typed_config": tcp_proxy("up")}]});
        listener["listener_filters"] = json!([{"name": "envoy.filters.listener.http_inspector", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector"}}]);
        listener["listener_filters_timeout"] = json!("0.2s");
        listener["continue_on_listener_filters_timeout"] = json!(true);
        let proxy = Proxy::start(engine, &[listener], &[cluster("up", &[upstream.address])]);

        let mut client = proxy.connect();
        client.send("GET / HT");
        client.send("TP/1.1\r\nHost: a\r\n\r\n");
        assert!(client.read_message().ends_with("http"));

        for (bytes, what) in [("*1\r\n", "no HTTP"), ("GET / HTTP/1.0\r\n", "too old"), ("GE", "too little")]
        {
            let mut client = proxy.connect();
            client.send(bytes);
            let mut server = upstream.accept();
            assert_eq!(server.read_exact(bytes.len()), bytes, "{what}");
            client.send("more");
            assert_eq!(server.read_exact(4), "more", "{what}");
        }
        // A server that speaks first is heard once the time for looking is over.
        let mut client = proxy.connect();
        let mut server = upstream.accept();
        server.send("220 hello");
        assert_eq!(client.read_exact(9), "220 hello");
    }
}
