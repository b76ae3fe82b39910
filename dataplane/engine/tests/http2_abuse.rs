//! Clients that attack with frames. Each is stopped at its bound, and others are served meanwhile.

mod harness;

use std::time::Duration;

use harness::http2::{
    ACK, CONTINUATION, Client, DATA, END_HEADERS, END_STREAM, Frames, GET_ROOT, HEADERS, PING, PRIORITY,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, frame,
};
use harness::{Proxy, Upstream, engines};
use ringsail_runtime::engine::EngineChoice;
use serde_json::{Value, json};

/// RFC 9113 §7.
const ENHANCE_YOUR_CALM: u32 = 0xb;

fn proxy(engine: EngineChoice, change: impl FnOnce(&mut Value)) -> Proxy {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    Proxy::http(engine, upstream, |manager, _| change(manager))
}

/// Another client is served as if nothing were.
fn assert_serves(proxy: &Proxy) {
    assert_eq!(Client::connect(proxy.address()).get("/").unwrap().body, b"ok");
}

/// Sends the same frames until the proxy closes; how often they were sent.
fn flood(frames: &mut Frames, bytes: &[u8], most: usize) -> usize {
    (0..most).find(|_| !frames.bytes(bytes)).unwrap_or(most)
}

#[test]
fn streams_that_are_opened_only_to_be_reset_end_the_connection() {
    for engine in engines() {
        let upstream = Upstream::manual();
        let proxy = Proxy::http(engine, upstream.address, |_, _| {});
        let mut attacker = Frames::connect(proxy.address());
        let mut stream = 1;
        let _ = (0..20_000).any(|_| {
            let mut bytes = frame(HEADERS, END_STREAM | END_HEADERS, stream, GET_ROOT);
            bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
            stream += 2;
            !attacker.bytes(&bytes)
        });
        assert!(attacker.is_closed(), "20,000 resets were taken");
    }
}

#[test]
fn a_head_without_end_ends_the_connection() {
    for engine in engines() {
        let proxy = proxy(engine, |_| {});
        let mut attacker = Frames::connect(proxy.address());
        attacker.send(HEADERS, END_STREAM, 1, GET_ROOT);
        // A literal field that is not indexed, `a: …`, 16 KiB at a time.
        let mut field = vec![0x00, 0x01, b'a', 0x7f, 0x81, 0x7d];
        field.extend(vec![b'x'; 16_000]);
        let field = frame(CONTINUATION, 0, 1, &field);
        flood(&mut attacker, &field, 1000);
        assert!(attacker.is_closed());
        assert_serves(&proxy);
    }
}

#[test]
fn frames_without_payload_end_the_connection() {
    for engine in engines() {
        let proxy = proxy(engine, |_| {});
        let mut attacker = Frames::connect(proxy.address());
        attacker.send(HEADERS, END_HEADERS, 1, GET_ROOT);
        flood(&mut attacker, &frame(DATA, 0, 1, b""), 100_000);
        assert!(attacker.is_closed());
        assert_serves(&proxy);
    }
}

#[test]
fn priorities_and_window_updates_are_bounded() {
    for engine in engines() {
        let proxy = proxy(engine, |_| {});
        for bytes in
            [frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 0]), frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())]
        {
            let mut attacker = Frames::connect(proxy.address());
            flood(&mut attacker, &bytes, 100_000);
            assert!(attacker.is_closed());
        }
        assert_serves(&proxy);
    }
}

#[test]
fn pings_and_settings_of_a_client_that_reads_no_answer_stop_being_read() {
    for engine in engines() {
        let proxy = proxy(engine, |_| {});
        for bytes in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, b"")] {
            let mut attacker = Frames::connect(proxy.address());
            attacker.stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
            let many: Vec<u8> = bytes.iter().copied().cycle().take(bytes.len() * 1000).collect();
            // What is not read blocks the writer, or the connection ends: either way there is a bound. The kernel's
            // buffers of both sides hold a few MiB.
            let sent = flood(&mut attacker, &many, 10_000);
            assert!(sent < 10_000, "10,000,000 frames were taken");
        }
        assert_serves(&proxy);
    }
}

#[test]
fn pings_of_a_client_that_reads_are_answered() {
    for engine in engines() {
        let proxy = proxy(engine, |_| {});
        let mut client = Frames::connect(proxy.address());
        for _ in 0..3000 {
            client.send(PING, 0, 0, b"12345678");
            let (_, flags, _, payload) = client.receive_kind(PING).expect("an answer");
            assert_eq!((flags, payload.as_slice()), (ACK, &b"12345678"[..]));
        }
    }
}

#[test]
fn a_head_past_its_bound_ends_its_stream_only() {
    for engine in engines() {
        let proxy = proxy(engine, |manager| {
            manager["max_request_headers_kb"] = json!(8);
            manager["common_http_protocol_options"] = json!({"max_headers_count": 10});
        });
        let mut client = Client::connect(proxy.address());
        let mut large = harness::http2::get("/");
        large.headers_mut().insert("a", "x".repeat(9000).parse().unwrap());
        let error = client.ask(large).unwrap_err();
        assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR), "{error}");
        let mut many = harness::http2::get("/");
        for _ in 0..11 {
            many.headers_mut().append("a", "1".parse().unwrap());
        }
        assert_eq!(client.ask(many).unwrap_err().reason(), Some(h2::Reason::INTERNAL_ERROR));
        assert_eq!(client.get("/").unwrap().body, b"ok");
        drop(client);
        assert_eq!(
            proxy.log(),
            "0 DR http2.header_list_size_too_large\n0 DR http2.too_many_headers\n200 - via_upstream\n"
        );
    }
}

#[test]
fn a_head_or_a_preface_that_does_not_come_in_time_ends_the_connection() {
    for engine in engines() {
        let proxy = proxy(engine, |manager| manager["request_headers_timeout"] = json!("0.2s"));
        let mut slow = Frames::connect(proxy.address());
        slow.send(HEADERS, END_STREAM, 1, GET_ROOT);
        slow.end();
        assert_serves(&proxy);
        let proxy = self::proxy(engine, |manager| {
            manager["codec_type"] = json!("HTTP2");
            manager["request_headers_timeout"] = json!("0.2s");
        });
        let mut silent = proxy.connect();
        silent.send("PRI * HTTP/2.0\r\n");
        silent.end();
        assert_serves(&proxy);
    }
}

#[test]
fn a_body_that_stops_coming_is_answered_after_the_idle_timeout() {
    for engine in engines() {
        let upstream = Upstream::manual();
        let proxy = Proxy::http(engine, upstream.address, |manager, _| {
            manager["stream_idle_timeout"] = json!("0.2s");
        });
        let mut client = Client::connect(proxy.address());
        let request = http::Request::post("http://a/").body(()).unwrap();
        let (answer, _body) = client.begin(request, false);
        let answer = client.run(harness::http2::receive(answer)).unwrap();
        assert_eq!((answer.status(), answer.body.as_slice()), (408, &b"stream timeout"[..]));
    }
}

#[test]
fn an_idle_connection_is_told_goodbye() {
    for engine in engines() {
        let proxy = proxy(engine, |manager| {
            manager["common_http_protocol_options"] = json!({"idle_timeout": "0.2s"});
            manager["drain_timeout"] = json!("0.1s");
        });
        let mut idle = Frames::connect(proxy.address());
        assert_eq!(idle.end(), Some(0), "GOAWAY with NO_ERROR, then the end");
    }
}

#[test]
fn a_peer_that_answers_no_ping_is_gone() {
    for engine in engines() {
        let proxy = proxy(engine, |manager| {
            manager["http2_protocol_options"] =
                json!({"connection_keepalive": {"interval": "0.1s", "timeout": "0.2s"}});
        });
        let mut dead = Frames::connect(proxy.address());
        assert!(dead.receive_kind(PING).is_some());
        dead.end();
        // One that answers stays.
        let mut client = Client::connect(proxy.address());
        std::thread::sleep(Duration::from_millis(700));
        assert_eq!(client.get("/").unwrap().body, b"ok");
    }
}

#[test]
fn enough_requests_drain_the_connection() {
    for engine in engines() {
        let proxy = proxy(engine, |manager| {
            manager["common_http_protocol_options"] = json!({"max_requests_per_connection": 2});
        });
        let mut client = Client::connect(proxy.address());
        assert_eq!(client.get("/").unwrap().body, b"ok");
        assert_eq!(client.get("/").unwrap().body, b"ok");
        assert!(client.closed().is_ok());
    }
}

#[test]
fn a_broken_stream_order_is_a_protocol_error() {
    for engine in engines() {
        let proxy = proxy(engine, |_| {});
        let mut attacker = Frames::connect(proxy.address());
        // An even number belongs to servers.
        attacker.send(HEADERS, END_STREAM | END_HEADERS, 2, GET_ROOT);
        let code = attacker.end();
        assert!(code.is_some_and(|code| code != 0 && code != ENHANCE_YOUR_CALM), "{code:?}");
        assert_serves(&proxy);
    }
}
