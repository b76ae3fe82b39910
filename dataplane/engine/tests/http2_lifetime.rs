//! How long HTTP/2 connections of clients last, how they are told that they end, and what is counted of them.

mod harness;

use harness::http2::{
    ACK, Client, DATA, END_HEADERS, END_STREAM, Frames, GET_ROOT, GOAWAY, HEADERS, PING, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, get,
};
use harness::{Proxy, Upstream, cluster, engines, listener, manager};
use ringsail_engine::control::Command;
use ringsail_engine::serving::DrainPolicy;
use ringsail_engine::shard::Settings;
use ringsail_runtime::engine::EngineChoice;
use serde_json::{Value, json};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const NO_ERROR: u32 = 0;
/// The id of the GOAWAY that only announces the end.
const ANY_STREAM: u32 = 0x7fff_ffff;

fn proxy(engine: EngineChoice, upstream: std::net::SocketAddr, change: impl FnOnce(&mut Value)) -> Proxy {
    Proxy::http(engine, upstream, |manager, _| change(manager))
}

/// Last stream and code of the next GOAWAY; pings are answered.
fn goodbye(frames: &mut Frames) -> (u32, u32) {
    loop {
        let (kind, flags, _, payload) = frames.receive().expect("a GOAWAY before the end");
        let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        match kind {
            GOAWAY => return (number(0), number(4)),
            PING if flags & ACK == 0 => assert!(frames.send(PING, ACK, 0, &payload)),
            _ => {}
        }
    }
}

#[test]
fn a_drained_listener_says_goodbye_with_the_head_of_an_answer_and_lets_its_body_end() {
    for engine in engines() {
        let upstream = Upstream::manual();
        let settings = Settings {
            drain: DrainPolicy { gradual: false, ..DrainPolicy::default() },
            ..Settings::default()
        };
        let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "up", "timeout": "0s"}}]);
        let clusters = [cluster("up", &[upstream.address])];
        let proxy = Proxy::start_with(engine, settings, &[listener(manager(routes))], &clusters);
        let mut frames = Frames::connect(proxy.address());
        frames.send(HEADERS, END_HEADERS | END_STREAM, 1, GET_ROOT);
        let mut server = upstream.accept();
        server.read_head();
        proxy.command(Command::Drain { inbound_only: false, graceful: true, keep_listening: true });
        // The order has reached the shard when a new connection is asked to close.
        loop {
            let mut other = proxy.connect();
            other.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            let mut served = upstream.accept();
            served.read_head();
            served.send(OK);
            if other.read_head().contains("connection: close") {
                break;
            }
        }
        server.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n");
        assert_eq!(goodbye(&mut frames), (ANY_STREAM, NO_ERROR));
        assert_eq!(goodbye(&mut frames), (1, NO_ERROR));
        server.send("body");
        assert_eq!(frames.receive_kind(DATA).unwrap().3, b"body");
        assert!(frames.is_closed());
    }
}

#[test]
fn an_idle_connection_is_told_twice_and_closed() {
    for engine in engines() {
        let proxy = proxy(engine, Upstream::serving(|_| OK.to_owned()), |manager| {
            manager["common_http_protocol_options"] = json!({"idle_timeout": "0.1s"});
        });
        let mut frames = Frames::connect(proxy.address());
        frames.send(HEADERS, END_HEADERS | END_STREAM, 1, GET_ROOT);
        assert_eq!(goodbye(&mut frames), (ANY_STREAM, NO_ERROR));
        assert_eq!(goodbye(&mut frames), (1, NO_ERROR));
        assert!(frames.is_closed());
        proxy.wait_for_stat("http.test.downstream_cx_idle_timeout", 1);
        proxy.wait_for_stat("http2.goaway_sent", 2);
    }
}

#[test]
fn a_client_that_does_not_confirm_the_goodbye_gets_the_last_one_after_the_drain_timeout() {
    for engine in engines() {
        let proxy = proxy(engine, harness::closed_port(), |manager| {
            manager["common_http_protocol_options"] = json!({"max_connection_duration": "0.1s"});
            manager["drain_timeout"] = json!("0.1s");
        });
        let mut frames = Frames::connect(proxy.address());
        let first = frames.receive_kind(GOAWAY).unwrap();
        assert_eq!(first.3[..4], ANY_STREAM.to_be_bytes());
        let last = frames.receive_kind(GOAWAY).unwrap();
        assert_eq!(last.3[..4], 0_u32.to_be_bytes());
        assert!(frames.is_closed());
        proxy.wait_for_stat("http.test.downstream_cx_max_duration_reached", 1);
    }
}

#[test]
fn mistakes_end_the_connection_with_the_codes_of_the_rfc() {
    const PROTOCOL_ERROR: u32 = 1;
    const FLOW_CONTROL_ERROR: u32 = 3;
    const FRAME_SIZE_ERROR: u32 = 6;
    for engine in engines() {
        let upstream = Upstream::manual();
        let proxy = proxy(engine, upstream.address, |_| {});
        let window = [&[0, 4][..], &0x8000_0000_u32.to_be_bytes()].concat();
        for (kind, stream, payload, code) in [
            (PING, 0, &b"short"[..], FRAME_SIZE_ERROR),
            (SETTINGS, 0, b"seven..", FRAME_SIZE_ERROR),
            (WINDOW_UPDATE, 0, b"abc", FRAME_SIZE_ERROR),
            (SETTINGS, 0, &window, FLOW_CONTROL_ERROR),
        ] {
            let mut frames = Frames::connect(proxy.address());
            frames.send(kind, 0, stream, payload);
            assert_eq!(frames.end(), Some(code), "frame {kind} {payload:?}");
        }
        // A pseudo-header field in trailers.
        let mut frames = Frames::connect(proxy.address());
        frames.send(HEADERS, END_HEADERS, 1, &[0x83, 0x86, 0x84, 0x41, 1, b'a']);
        frames.send(DATA, 0, 1, b"data");
        frames.send(HEADERS, END_HEADERS | END_STREAM, 1, &[0x84]);
        assert_eq!(frames.end(), Some(PROTOCOL_ERROR));
        proxy.wait_for_stat("http2.rx_messaging_error", 5);
        proxy.wait_for_stat("http.test.downstream_cx_protocol_error", 5);
    }
}

#[test]
fn trailers_pass_and_are_counted() {
    for engine in engines() {
        let proxy = proxy(engine, Upstream::serving(|_| OK.to_owned()), |_| {});
        let mut frames = Frames::connect(proxy.address());
        frames.send(HEADERS, END_HEADERS, 1, &[0x83, 0x86, 0x84, 0x41, 1, b'a']);
        frames.send(DATA, 0, 1, b"data");
        frames.send(HEADERS, END_HEADERS | END_STREAM, 1, &[0, 1, b'x', 1, b'y']);
        // `:status: 200`
        assert_eq!(frames.receive_kind(HEADERS).unwrap().3[0], 0x88);
        proxy.wait_for_stat("http2.trailers", 1);
    }
}

#[test]
fn streams_and_resets_are_counted_on_both_sides() {
    for engine in engines() {
        let server = harness::http2::Server::start();
        let proxy = Proxy::http(engine, server.address, |_, cluster| {
            cluster["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}}}});
        });
        let mut frames = Frames::connect(proxy.address());
        let hang = [&[0x82, 0x86, 0x41, 1, b'a', 0x04, 5][..], b"/hang"].concat();
        frames.send(HEADERS, END_HEADERS | END_STREAM, 1, &hang);
        assert_eq!(server.note(), "hanging");
        proxy.wait_for_stat("http2.streams_active", 1);
        proxy.wait_for_stat("cluster.up.http2.streams_active", 1);
        frames.send(RST_STREAM, 0, 1, &8_u32.to_be_bytes());
        proxy.wait_for_stat("http2.rx_reset", 1);
        proxy.wait_for_stat("http2.streams_active", 0);
        proxy.wait_for_stat("cluster.up.http2.tx_reset", 1);
        proxy.wait_for_stat("cluster.up.http2.streams_active", 0);
        let mut client = Client::connect(proxy.address());
        assert_eq!(client.get("/refuse").unwrap().status(), 503);
        proxy.wait_for_stat("cluster.up.http2.rx_reset", 1);
        proxy.wait_for_stat("cluster.up.http2.stream_refused_errors", 1);
        let large = http::Request::get("http://a/").header("x-large", "x".repeat(70_000)).body("").unwrap();
        assert!(client.ask(large).is_err());
        proxy.wait_for_stat("http2.header_overflow", 1);
        proxy.wait_for_stat("http2.tx_reset", 1);
        assert_eq!(client.ask(get("/")).unwrap().status(), 200);
    }
}
