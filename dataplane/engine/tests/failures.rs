//! Local replies: what the client and the access log get when a request cannot be answered by its upstream. The rows are
//! those of Envoy 1.40 as observed.

mod harness;

use std::net::SocketAddr;

use harness::{Proxy, Upstream, closed_port, cluster, engines, listener, manager, stable};
use ringsail_runtime::engine::EngineChoice;
use serde_json::{Value, json};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const GET_CLOSE: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// A proxy with these routes; `up` leads to `upstream`, `none` has no endpoint.
fn proxy(engine: EngineChoice, upstream: SocketAddr, routes: Value) -> Proxy {
    let clusters = [cluster("up", &[upstream]), cluster("none", &[])];
    Proxy::start(engine, &[listener(manager(routes))], &clusters)
}

fn to_up() -> Value {
    json!([{"match": {"prefix": "/"}, "route": {"cluster": "up", "timeout": "0s"}}])
}

/// Sends `request` (which must not keep its connection) and compares status line, headers and body, and the log line.
fn check(proxy: Proxy, request: &str, answer: &str, log: &str) {
    assert_eq!(stable(&proxy.ask(request)), answer, "{request:?}");
    assert_eq!(proxy.log(), format!("{log}\n"), "{request:?}");
}

#[test]
fn without_a_route_the_answer_is_404() {
    for engine in engines() {
        let routes = json!([{"match": {"prefix": "/other"}, "route": {"cluster": "up"}}]);
        check(
            proxy(engine, closed_port(), routes),
            GET_CLOSE,
            "HTTP/1.1 404 Not Found\nserver: envoy\nconnection: close\ncontent-length: 0\n\n",
            "404 NR route_not_found",
        );
    }
}

#[test]
fn a_missing_cluster_answers_with_the_routes_code() {
    for engine in engines() {
        for (code, status) in
            [("SERVICE_UNAVAILABLE", "503 Service Unavailable"), ("NOT_FOUND", "404 Not Found")]
        {
            let routes = json!([{"match": {"prefix": "/"},
                "route": {"cluster": "gone", "cluster_not_found_response_code": code}}]);
            let mut manager = manager(routes);
            manager["route_config"]["validate_clusters"] = json!(false);
            let proxy = Proxy::start(engine, &[listener(manager)], &[]);
            check(
                proxy,
                GET_CLOSE,
                &format!("HTTP/1.1 {status}\nserver: envoy\nconnection: close\ncontent-length: 0\n\n"),
                &format!("{} NC cluster_not_found", &status[..3]),
            );
        }
    }
}

#[test]
fn a_cluster_without_endpoints_is_unhealthy() {
    for engine in engines() {
        let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "none"}}]);
        check(
            proxy(engine, closed_port(), routes),
            GET_CLOSE,
            "HTTP/1.1 503 Service Unavailable\ncontent-length: 19\ncontent-type: text/plain\nserver: envoy\n\
             connection: close\n\nno healthy upstream",
            "503 UH no_healthy_upstream",
        );
    }
}

#[test]
fn a_refused_connection_is_worded_without_its_reason() {
    for engine in engines() {
        check(
            proxy(engine, closed_port(), to_up()),
            GET_CLOSE,
            "HTTP/1.1 503 Service Unavailable\ncontent-length: 98\ncontent-type: text/plain\nserver: envoy\n\
             connection: close\n\n\
             upstream connect error or disconnect/reset before headers. reset reason: remote connection failure",
            "503 UF upstream_reset_before_response_started{remote_connection_failure|\
             delayed_connect_error:_Connection_refused}",
        );
    }
}

#[test]
fn a_local_reply_to_a_complete_request_keeps_the_connection() {
    for engine in engines() {
        let proxy = proxy(engine, closed_port(), to_up());
        let mut client = proxy.connect();
        for _ in 0..2 {
            client.send(GET);
            assert!(client.read_message().starts_with("HTTP/1.1 503 "));
        }
    }
}

#[test]
fn a_local_reply_to_a_request_that_still_comes_closes_the_connection() {
    for engine in engines() {
        let proxy = proxy(engine, closed_port(), to_up());
        let mut client = proxy.connect();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345");
        let answer = client.read_message();
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        assert_eq!(client.end(), harness::End::Fin);
    }
}

/// Answers of a misbehaving upstream, sent before it closes.
#[test]
fn broken_answers_are_502_and_missing_ones_503() {
    let reset = |reason: &str| {
        format!("upstream connect error or disconnect/reset before headers. reset reason: {reason}")
    };
    for engine in engines() {
        for (bytes, status, reason, flag) in [
            ("", "503", "connection termination", "UC"),
            ("HTTP/1.1 200 O", "502", "protocol error", "UPE"),
            ("no http at all\r\n\r\n", "502", "protocol error", "UPE"),
            ("HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", "502", "protocol error", "UPE"),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
                "502",
                "protocol error",
                "UPE",
            ),
        ] {
            let upstream = Upstream::manual();
            let proxy = proxy(engine, upstream.address, to_up());
            let mut client = proxy.connect();
            client.send(GET_CLOSE);
            let mut server = upstream.accept();
            server.read_head();
            server.send(bytes);
            drop(server);
            let answer = client.read_to_end();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{bytes:?}: {answer}");
            assert!(answer.ends_with(&reset(reason)), "{bytes:?}: {answer}");
            let details = format!("upstream_reset_before_response_started{{{}}}", reason.replace(' ', "_"));
            assert_eq!(proxy.log(), format!("{status} {flag} {details}\n"), "{bytes:?}");
        }
    }
}

#[test]
fn an_answer_that_breaks_off_is_cut_after_what_came() {
    for engine in engines() {
        for tail in
            ["content-length: 10\r\n\r\nhello", "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\nXX\r\n"]
        {
            let upstream = Upstream::manual();
            let proxy = proxy(engine, upstream.address, to_up());
            let mut client = proxy.connect();
            client.send(GET);
            let mut server = upstream.accept();
            server.read_head();
            server.send(format!("HTTP/1.1 200 OK\r\n{tail}"));
            drop(server);
            let answer = client.read_to_end();
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert!(answer.contains("hello") && !answer.ends_with("0\r\n\r\n"), "{answer}");
            assert_eq!(
                proxy.log(),
                "200 UPE upstream_reset_after_response_started{protocol_error}\n",
                "{tail}"
            );
        }
    }
}

#[test]
fn the_route_timeout_answers_504() {
    for engine in engines() {
        let upstream = Upstream::manual();
        let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "up", "timeout": "0.1s"}}]);
        let proxy = proxy(engine, upstream.address, routes);
        let mut client = proxy.connect();
        client.send(GET_CLOSE);
        let mut server = upstream.accept();
        let head = server.read_head();
        assert!(head.contains("\r\nx-envoy-expected-rq-timeout-ms: 100\r\n"), "{head}");
        assert!(client.read_to_end().ends_with("\r\n\r\nupstream request timeout"));
        // The upstream request is given up.
        server.end();
        assert_eq!(proxy.log(), "504 UT response_timeout\n");
    }
}

#[test]
fn stream_idle_is_504_for_a_complete_request_and_408_for_an_incomplete_one() {
    for engine in engines() {
        for (request, status, flag) in [
            (GET, "504", "504 SI stream_idle_timeout\n"),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc",
                "408",
                "408 SI stream_idle_timeout\n",
            ),
        ] {
            let upstream = Upstream::manual();
            let proxy = Proxy::http(engine, upstream.address, |manager, _| {
                manager["stream_idle_timeout"] = json!("0.1s");
            });
            let mut client = proxy.connect();
            client.send(request);
            let answer = client.read_message();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert!(answer.ends_with("stream timeout"), "{answer}");
            drop(client);
            assert_eq!(proxy.log(), flag);
        }
    }
}

#[test]
fn request_and_header_timeouts_answer_408() {
    for engine in engines() {
        for (field, request, body, details) in [
            (
                "request_timeout",
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc",
                "request timeout",
                "request_overall_timeout",
            ),
            ("request_headers_timeout", "GET / HT", "request header timeout", "request_header_timeout"),
        ] {
            let upstream = Upstream::manual();
            let proxy = Proxy::http(engine, upstream.address, |manager, _| manager[field] = json!("0.1s"));
            let mut client = proxy.connect();
            client.send(request);
            let answer = client.read_to_end();
            assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
            assert!(answer.contains("connection: close\r\n") && answer.ends_with(body), "{answer}");
            assert_eq!(proxy.log(), format!("408 - {details}\n"));
        }
    }
}

#[test]
fn a_client_that_leaves_ends_the_upstream_request() {
    for engine in engines() {
        let upstream = Upstream::manual();
        let proxy = proxy(engine, upstream.address, to_up());
        let mut client = proxy.connect();
        client.send(GET);
        let mut server = upstream.accept();
        server.read_head();
        // A half-close counts as leaving.
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        server.end();
        assert_eq!(proxy.log(), "0 DC downstream_remote_disconnect\n");
    }
}

#[test]
fn requests_that_are_no_http_are_400() {
    for engine in engines() {
        for (request, status, body, details) in [
            ("hello\r\n\r\n", "400 Bad Request", "Bad Request", "http1.codec_error"),
            ("FOO / HTTP/1.1\r\nHost: a\r\n\r\n", "400 Bad Request", "Bad Request", "http1.codec_error"),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nx y: 1\r\n\r\n",
                "400 Bad Request",
                "Bad Request",
                "http1.codec_error",
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
                "400 Bad Request",
                "Bad Request",
                "http1.codec_error",
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nx: \x01\r\n\r\n",
                "400 Bad Request",
                "Bad Request",
                "http1.invalid_characters",
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                "400 Bad Request",
                "Bad Request",
                "http1.content_length_and_chunked_not_allowed",
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
                "501 Not Implemented",
                "Not Implemented",
                "http1.invalid_transfer_encoding",
            ),
            ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", "400 Bad Request", "Bad Request", "http1.invalid_url"),
            (
                "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
                "400 Bad Request",
                "Bad Request",
                "http1.invalid_scheme",
            ),
        ] {
            let length = body.len();
            check(
                proxy(engine, closed_port(), to_up()),
                request,
                &format!(
                    "HTTP/1.1 {status}\ncontent-length: {length}\ncontent-type: text/plain\nserver: envoy\n\
                     connection: close\n\n{body}"
                ),
                &format!("{} DPE {details}", &status[..3]),
            );
        }
    }
}

#[test]
fn http_1_0_is_426_where_it_is_not_accepted() {
    for engine in engines() {
        check(
            proxy(engine, closed_port(), to_up()),
            "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
            "HTTP/1.1 426 Upgrade Required\ncontent-length: 16\ncontent-type: text/plain\nserver: envoy\n\
             connection: close\n\nUpgrade Required",
            "426 DPE low_version",
        );
    }
}

#[test]
fn requests_that_name_no_usable_target_get_empty_answers() {
    for engine in engines() {
        for (request, status, log) in [
            ("GET / HTTP/1.1\r\nConnection: close\r\n\r\n", "400 Bad Request", "400 - missing_host_header"),
            (
                "GET /a%00b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                "400 Bad Request",
                "400 - path_normalization_failed",
            ),
            (
                "OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                "404 Not Found",
                "404 - absolute_path_rejected",
            ),
            (
                "QUERY / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                "400 Bad Request",
                "400 - query_missing_content_type",
            ),
        ] {
            check(
                proxy(engine, closed_port(), to_up()),
                request,
                &format!("HTTP/1.1 {status}\nserver: envoy\nconnection: close\ncontent-length: 0\n\n"),
                log,
            );
        }
    }
}

#[test]
fn heads_past_their_bounds_are_431() {
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n", "v".repeat(62_000));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: 1\r\n".repeat(101));
    for engine in engines() {
        for (request, details) in [(&long, "http1.headers_too_large"), (&many, "http1.too_many_headers")] {
            let proxy = proxy(engine, closed_port(), to_up());
            let answer = proxy.ask(request);
            assert!(answer.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{answer}");
            assert!(answer.ends_with("Request Header Fields Too Large"), "{answer}");
            assert_eq!(proxy.log(), format!("431 DPE {details}\n"));
        }
    }
}

#[test]
fn a_grpc_client_gets_its_failure_as_grpc() {
    for engine in engines() {
        let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "none"}}]);
        check(
            proxy(engine, closed_port(), routes),
            "POST /a.B/C HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\
             Connection: close\r\n\r\n",
            "HTTP/1.1 200 OK\ncontent-type: application/grpc\ngrpc-status: 14\ngrpc-message: no healthy upstream\n\
             server: envoy\nconnection: close\ncontent-length: 0\n\n",
            "200 UH no_healthy_upstream",
        );
    }
}

#[test]
fn a_full_breaker_answers_503_and_says_so() {
    for engine in engines() {
        let upstream = Upstream::manual();
        let proxy = Proxy::http(engine, upstream.address, |_, cluster| {
            cluster["circuit_breakers"] = json!({"thresholds": [{"max_requests": 1}]});
        });
        let mut first = proxy.connect();
        first.send(GET);
        let mut server = upstream.accept();
        server.read_head();
        let mut second = proxy.connect();
        second.send(GET_CLOSE);
        assert_eq!(
            stable(&second.read_to_end()),
            "HTTP/1.1 503 Service Unavailable\nx-envoy-overloaded: true\ncontent-length: 81\n\
             content-type: text/plain\nserver: envoy\nconnection: close\n\n\
             upstream connect error or disconnect/reset before headers. reset reason: overflow"
        );
        drop((first, second));
        assert!(proxy.log().starts_with("503 UO upstream_reset_before_response_started{overflow}\n"));
    }
}
