//! HTTP/1.1 through the proxy, byte by byte.

mod harness;

use harness::{Proxy, Seen, Upstream, engines, stable};

const GET: &str = "GET /hello HTTP/1.1\r\nHost: a.example\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

#[test]
fn a_request_is_forwarded_and_its_answer_returned() {
    for engine in engines() {
        let seen = Seen::default();
        let note = seen.clone();
        let upstream = Upstream::serving(move |request| {
            note.note(request);
            OK.to_owned()
        });
        let proxy = Proxy::http(engine, upstream, |_, _| {});
        let mut client = proxy.connect();
        client.send(GET);
        let answer = client.read_message();
        assert_eq!(stable(&answer), "HTTP/1.1 200 OK\ncontent-length: 5\nserver: envoy\n\nhello");
        assert!(answer.contains("\r\nx-envoy-upstream-service-time: "), "{answer}");
        assert!(answer.contains("\r\ndate: "), "{answer}");
        assert_eq!(
            stable(&seen.all()[0]),
            "GET /hello HTTP/1.1\nHost: a.example\nx-forwarded-proto: http\nx-envoy-attempt-count: 1\n\n"
        );
        drop(client);
        assert_eq!(proxy.log(), "200 - via_upstream\n");
    }
}

#[test]
fn one_connection_carries_requests_one_after_the_other_on_both_sides() {
    for engine in engines() {
        let upstream = Upstream::manual();
        let proxy = Proxy::http(engine, upstream.address, |_, _| {});
        let mut client = proxy.connect();
        client.send(GET);
        let mut server = upstream.accept();
        for _ in 0..5 {
            server.read_head();
            server.send(OK);
            client.read_message();
            client.send(GET);
        }
        server.read_head();
        server.send(OK);
        client.read_message();
        assert!(upstream.is_quiet(), "one upstream connection is enough");
    }
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    for engine in engines() {
        let upstream = Upstream::serving(|request| {
            let path = request.split(' ').nth(1).unwrap().to_owned();
            if path == "/0" {
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}", path.len())
        });
        let proxy = Proxy::http(engine, upstream, |_, _| {});
        let mut client = proxy.connect();
        let requests: Vec<String> =
            (0..20).map(|i| format!("GET /{i} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
        client.send(requests.concat());
        for i in 0..20 {
            assert!(client.read_message().ends_with(&format!("\r\n\r\n/{i}")));
        }
    }
}

#[test]
fn a_request_may_come_byte_by_byte() {
    for engine in engines() {
        let upstream = Upstream::serving(|request| {
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{request}", request.len())
        });
        let proxy = Proxy::http(engine, upstream, |_, _| {});
        let mut client = proxy.connect();
        for byte in b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" {
            client.send([*byte]);
        }
        let answer = client.read_message();
        assert!(answer.contains("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nabc"), "{answer}");
    }
}

#[test]
fn chunks_arrive_as_the_other_side_sends_them() {
    for engine in engines() {
        let upstream = Upstream::manual();
        let proxy = Proxy::http(engine, upstream.address, |_, _| {});
        let mut client = proxy.connect();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        let mut server = upstream.accept();
        assert!(server.read_head().to_ascii_lowercase().contains("\r\ntransfer-encoding: chunked\r\n"));
        client.send("3;name=value\r\nabc\r\n");
        assert_eq!(server.read_until("abc\r\n"), "3\r\nabc\r\n");
        client.send("0\r\nx-trailer: 1\r\n\r\n");
        // Extensions and trailers are dropped towards HTTP/1.
        assert_eq!(server.read_until("0\r\n\r\n"), "0\r\n\r\n");
        server.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        assert!(client.read_head().contains("\r\ntransfer-encoding: chunked\r\n"));
        server.send("5\r\nhello\r\n");
        assert_eq!(client.read_until("hello\r\n"), "5\r\nhello\r\n");
        server.send("0\r\nx-trailer: 1\r\n\r\n");
        assert_eq!(client.read_until("0\r\n\r\n"), "0\r\n\r\n");
    }
}

#[test]
fn answers_without_a_body_end_with_their_head() {
    for engine in engines() {
        for (method, answer) in [
            ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n"),
            ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
            ("GET", "HTTP/1.1 304 Not Modified\r\ncontent-length: 10\r\n\r\n"),
        ] {
            let proxy = Proxy::http(engine, Upstream::answering(answer), |_, _| {});
            let mut client = proxy.connect();
            for _ in 0..2 {
                client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
                let head = client.read_head();
                assert!(head.starts_with(answer.lines().next().unwrap()), "{head}");
                assert_eq!(head.contains("content-length: 10\r\n"), answer.contains("10"), "{head}");
                assert!(!head.contains("transfer-encoding"), "{head}");
            }
        }
    }
}

#[test]
fn an_answer_that_ends_with_its_connection_becomes_chunked() {
    for engine in engines() {
        let upstream = Upstream::manual();
        let proxy = Proxy::http(engine, upstream.address, |_, _| {});
        let mut client = proxy.connect();
        client.send(GET);
        let mut server = upstream.accept();
        server.read_head();
        server.send("HTTP/1.1 200 OK\r\n\r\nall of it");
        drop(server);
        assert!(client.read_head().contains("transfer-encoding: chunked\r\n"));
        assert_eq!(client.read_until("0\r\n\r\n"), "9\r\nall of it\r\n0\r\n\r\n");
        // The client's connection goes on.
        client.send(GET);
        upstream.accept().read_head();
    }
}

#[test]
fn continue_is_answered_here_or_by_the_upstream() {
    let request = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    for engine in engines() {
        let upstream = Upstream::manual();
        let proxy = Proxy::http(engine, upstream.address, |_, _| {});
        let mut client = proxy.connect();
        client.send(request);
        assert_eq!(client.read_head(), "HTTP/1.1 100 Continue\r\n\r\n");
        client.send("ok");
        let mut server = upstream.accept();
        assert!(!server.read_message().contains("Expect"));

        let proxy = Proxy::http(engine, upstream.address, |manager, _| {
            manager["proxy_100_continue"] = true.into();
        });
        let mut client = proxy.connect();
        client.send(request);
        let mut server = upstream.accept();
        assert!(server.read_head().contains("\r\nExpect: 100-continue\r\n"));
        assert!(client.is_quiet());
        server.send("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(client.read_head(), "HTTP/1.1 100 Continue\r\n\r\n");
        client.send("ok");
        assert_eq!(server.read_exact(2), "ok");
        server.send(OK);
        assert!(client.read_message().ends_with("hello"));
    }
}

#[test]
fn http_1_0_is_served_where_it_is_accepted() {
    for engine in engines() {
        let upstream = Upstream::serving(|request| {
            assert!(request.starts_with("GET / HTTP/1.1\r\n"), "{request}");
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n".to_owned()
        });
        let proxy = Proxy::http(engine, upstream, |manager, _| {
            manager["http_protocol_options"] =
                serde_json::json!({"accept_http_10": true, "default_host_for_http_10": "default.example"});
        });
        let answer = proxy.ask("GET / HTTP/1.0\r\n\r\n");
        assert_eq!(stable(&answer), "HTTP/1.0 200 OK\nserver: envoy\nconnection: close\n\nhi");
    }
}

#[test]
fn an_answer_before_the_request_is_complete_ends_the_connection() {
    for engine in engines() {
        let upstream = Upstream::manual();
        let proxy = Proxy::http(engine, upstream.address, |_, _| {});
        let mut client = proxy.connect();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nsome");
        let mut server = upstream.accept();
        server.read_until("some");
        server.send("HTTP/1.1 413 Too Much\r\ncontent-length: 2\r\n\r\nno");
        let answer = client.read_to_end();
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("no"), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        assert!(!answer.contains("x-envoy-upstream-service-time"), "{answer}");
    }
}

#[test]
fn a_connection_the_server_closed_while_idle_costs_nothing() {
    for engine in engines() {
        let upstream = Upstream::manual();
        let proxy = Proxy::http(engine, upstream.address, |_, _| {});
        let mut client = proxy.connect();
        for _ in 0..5 {
            client.send(GET);
            let mut server = upstream.accept();
            server.read_head();
            server.send(OK);
            assert!(client.read_message().starts_with("HTTP/1.1 200 OK\r\n"));
            drop(server);
            // The FIN is there before the next request is.
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        drop(client);
        assert_eq!(proxy.log(), "200 - via_upstream\n".repeat(5));
    }
}

#[test]
fn a_reset_between_requests_is_not_recorded_as_one() {
    for engine in engines() {
        let proxy = Proxy::http(engine, Upstream::answering(OK), |_, _| {});
        let mut client = proxy.connect();
        client.send(GET);
        client.read_message();
        // With this, closing sends a reset.
        nix::sys::socket::setsockopt(
            &client.stream,
            nix::sys::socket::sockopt::Linger,
            &nix::libc::linger { l_onoff: 1, l_linger: 0 },
        )
        .unwrap();
        drop(client);
        proxy.wait_for_stat("http.test.downstream_cx_active", 0);
        assert_eq!(proxy.log(), "200 - via_upstream\n");
    }
}
