//! HTTP/2 servers behind the proxy: translation, sharing of connections, resets, GOAWAY, limits.

mod harness;

use bytes::Bytes;
use harness::http2::{Client, Server, body, get, receive};
use harness::{End, Proxy, engines, file_log};
use http::{HeaderMap, Request};
use ringsail_runtime::engine::EngineChoice;
use serde_json::{Value, json};

const TYPE: &str = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// A proxy in front of a server that speaks HTTP/2.
fn proxy(engine: EngineChoice, server: &Server, change: impl FnOnce(&mut Value, &mut Value)) -> Proxy {
    Proxy::http(engine, server.address, |manager, cluster| {
        manager["access_log"] =
            json!([file_log("%UPSTREAM_PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%")]);
        cluster["typed_extension_protocol_options"] = options(json!({}));
        change(manager, cluster);
    })
}

fn options(http2: Value) -> Value {
    json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": TYPE, "explicit_http_config": {"http2_protocol_options": http2}}})
}

#[test]
fn an_http1_request_becomes_a_stream_and_its_answer_http1() {
    for engine in engines() {
        let server = Server::start();
        let proxy = proxy(engine, &server, |_, _| {});
        let mut client = proxy.connect();
        client.send("POST /x?y HTTP/1.1\r\nHost: a.example\r\nX-One: 1\r\nContent-Length: 4\r\nConnection: keep-alive\r\n\r\nbody");
        let head = client.read_head();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        for line in [
            "seen-method: POST",
            "seen-target: http://a.example/x?y",
            "seen-x-one: 1",
            "seen-content-length: 4",
            "transfer-encoding: chunked",
        ] {
            assert!(head.contains(&format!("\r\n{line}\r\n")), "{line} in {head}");
        }
        assert!(!head.contains("seen-host") && !head.contains("seen-connection"), "{head}");
        assert_eq!(client.read_exact(14), "4\r\nbody\r\n0\r\n\r\n");
        // The next request is a stream of the same connection.
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(client.read_head().contains("\r\nserved: 2\r\n"));
        drop(client);
        assert_eq!(server.connections(), 1);
        assert_eq!(proxy.log(), "HTTP/2 200 - via_upstream\n".repeat(2));
    }
}

#[test]
fn bodies_and_trailers_pass_both_ways_between_streams() {
    for engine in engines() {
        let server = Server::start();
        let proxy = proxy(engine, &server, |_, _| {});
        let mut client = Client::connect(proxy.address());
        let request = Request::post("http://a/x.Y/Z")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let (answer, mut stream) = client.begin(request, false);
        stream.send_data(Bytes::from_static(b"first"), false).unwrap();
        let answer = client.run(answer).unwrap();
        assert_eq!(answer.headers()["seen-te"], "trailers");
        let mut answered = answer.into_body();
        // What was sent comes back before the request ends: nothing waits for a whole body.
        assert_eq!(client.run(answered.data()).unwrap().unwrap(), "first");
        answered.flow_control().release_capacity(5).unwrap();
        stream.send_data(Bytes::from_static(b"second"), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("sum", "11".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
        assert_eq!(client.run(body(&mut answered)).unwrap(), b"second");
        let trailers = client.run(answered.trailers()).unwrap().unwrap();
        assert_eq!(
            (&trailers["seen-sum"], &trailers["grpc-status"]),
            (&"11".parse().unwrap(), &"0".parse().unwrap())
        );
    }
}

#[test]
fn a_large_body_passes_unharmed() {
    for engine in engines() {
        let server = Server::start();
        let proxy = proxy(engine, &server, |_, _| {});
        let mut client = Client::connect(proxy.address());
        let bytes: Vec<u8> = (0..10 * 1024 * 1024_u32).map(|i| (i / 7) as u8).collect();
        let (answer, mut stream) = client.begin(Request::post("http://a/").body(()).unwrap(), false);
        let sent = bytes.clone();
        let answered = client.run(async move {
            let send = async {
                let mut rest = Bytes::from(sent);
                while !rest.is_empty() {
                    stream.reserve_capacity(rest.len());
                    let room = loop {
                        let room =
                            std::future::poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap();
                        if room > 0 {
                            break room;
                        }
                    };
                    let part = rest.split_to(room.min(rest.len()));
                    let ends = rest.is_empty();
                    stream.send_data(part, ends).unwrap();
                }
            };
            let (answered, ()) = tokio::join!(receive(answer), send);
            answered.unwrap()
        });
        assert!(answered.body == bytes, "{} bytes came back", answered.body.len());
    }
}

#[test]
fn resets_of_the_server_are_worded_as_envoy_does() {
    for engine in engines() {
        let server = Server::start();
        let proxy = proxy(engine, &server, |_, _| {});
        let ask =
            |path: &str| proxy.ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
        for (path, status, reason) in [
            ("/refuse", 503, "remote refused stream reset"),
            ("/reset", 503, "remote reset"),
            ("/protocol-error", 502, "protocol error"),
            ("/drop", 503, "connection termination"),
        ] {
            let answer = ask(path);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
            assert!(answer.ends_with(&format!("before headers. reset reason: {reason}")), "{path}: {answer}");
        }
        assert_eq!(
            proxy.log(),
            "HTTP/2 503 UR upstream_reset_before_response_started{remote_refused_stream_reset}\n\
             HTTP/2 503 UR upstream_reset_before_response_started{remote_reset}\n\
             HTTP/2 502 UPE upstream_reset_before_response_started{protocol_error}\n\
             HTTP/2 503 UC upstream_reset_before_response_started{connection_termination}\n"
        );
    }
}

#[test]
fn a_reset_after_the_head_cuts_the_answer() {
    for engine in engines() {
        let server = Server::start();
        let proxy = proxy(engine, &server, |_, _| {});
        let mut client = proxy.connect();
        client.send("GET /reset-after-head HTTP/1.1\r\nHost: a\r\n\r\n");
        client.read_until("4\r\npart\r\n");
        assert_eq!(client.end(), End::Fin);
        let mut client = Client::connect(proxy.address());
        let error = client.get("/reset-after-head").unwrap_err();
        assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR));
        drop(client);
        assert_eq!(
            proxy.log(),
            "HTTP/2 200 UR upstream_reset_after_response_started{remote_reset}\n".repeat(2)
        );
    }
}

#[test]
fn a_refused_stream_is_retried_where_the_policy_says_so() {
    for engine in engines() {
        let server = Server::start();
        let proxy = proxy(engine, &server, |manager, _| {
            manager["route_config"]["virtual_hosts"][0]["retry_policy"] = json!({"retry_on": "refused-stream", "num_retries": 2, "retry_back_off": {"base_interval": "0.001s"}});
        });
        proxy.ask("GET /refuse HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        proxy.ask("GET /reset HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert_eq!(proxy.stat("cluster.up.upstream_rq_retry"), 2);
        assert_eq!(
            proxy.log(),
            "HTTP/2 503 URX,UR upstream_reset_before_response_started{remote_refused_stream_reset}\n\
             HTTP/2 503 UR upstream_reset_before_response_started{remote_reset}\n"
        );
    }
}

#[test]
fn a_client_that_leaves_cancels_its_stream_and_no_other() {
    for engine in engines() {
        let server = Server::start();
        let proxy = proxy(engine, &server, |_, _| {});
        let mut client = Client::connect(proxy.address());
        let (answer, mut stream) = client.begin(get("/hang").map(|_| ()), true);
        assert_eq!(server.note(), "hanging");
        stream.send_reset(h2::Reason::CANCEL);
        drop(answer);
        assert!(server.note().contains("no longer needed"), "the server sees CANCEL");
        let mut http1 = proxy.connect();
        http1.send("GET /hang HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(server.note(), "hanging");
        drop(http1);
        assert!(server.note().contains("no longer needed"));
        assert_eq!(client.get("/").unwrap().status(), 200);
        assert_eq!(server.connections(), 1);
    }
}

#[test]
fn a_connection_that_says_goodbye_finishes_its_streams_and_gets_no_others() {
    for engine in engines() {
        let server = Server::start();
        let proxy = proxy(engine, &server, |_, _| {});
        let mut client = Client::connect(proxy.address());
        let answer = client.get("/goodbye").unwrap();
        assert_eq!((answer.status(), answer.field("served")), (200, "1"));
        let answer = client.get("/").unwrap();
        assert_eq!((answer.status(), answer.field("served")), (200, "1"));
        assert_eq!(server.connections(), 2);
    }
}

#[test]
fn streams_are_bounded_by_both_sides_and_requests_by_the_settings() {
    for engine in engines() {
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(2);
        let server = Server::with(builder);
        let proxy = proxy(engine, &server, |_, cluster| {
            cluster["typed_extension_protocol_options"] = options(json!({"max_concurrent_streams": 100}));
        });
        let mut client = Client::connect(proxy.address());
        // The bound is known once the connection was used.
        client.get("/").unwrap();
        let hanging: Vec<_> = (0..5)
            .map(|_| {
                let request = client.begin(get("/hang").map(|_| ()), true);
                server.note();
                request
            })
            .collect();
        assert_eq!(server.connections(), 3);
        drop(hanging);

        let server = Server::start();
        let proxy = self::proxy(engine, &server, |_, cluster| {
            let options = &mut cluster["typed_extension_protocol_options"];
            options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]["common_http_protocol_options"] =
                json!({"max_requests_per_connection": 2});
        });
        let mut client = Client::connect(proxy.address());
        let served: Vec<String> =
            (0..4).map(|_| client.get("/").unwrap().field("served").to_owned()).collect();
        assert_eq!(served, ["1", "2", "1", "2"]);
    }
}

#[test]
fn requests_that_wait_for_a_connection_share_its_failure() {
    for engine in engines() {
        let proxy = Proxy::http(engine, harness::closed_port(), |_, cluster| {
            cluster["typed_extension_protocol_options"] = options(json!({}));
        });
        let mut client = Client::connect(proxy.address());
        let answers: Vec<_> = (0..3).map(|_| client.begin(get("/").map(|_| ()), true).0).collect();
        for answer in answers {
            let answer = client.run(receive(answer)).unwrap();
            assert_eq!(answer.status(), 503);
            assert!(answer.body.ends_with(b"reset reason: remote connection failure"));
        }
    }
}

#[test]
fn a_server_that_stops_reading_stops_the_client_and_the_other_way_round() {
    for engine in engines() {
        let server = Server::start();
        let proxy = proxy(engine, &server, |_, _| {});
        // A client that reads nothing: the server can send what the windows hold, and no more.
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(65_535).initial_connection_window_size(65_535);
        let mut client = Client::with(proxy.address(), &builder);
        let (answer, _stream) = client.begin(get("/endless").map(|_| ()), true);
        let answer = client.run(answer).unwrap();
        let sent: usize = server.note().parse().unwrap();
        assert!(sent < 3 * 1024 * 1024, "{sent} bytes went into the proxy");
        drop(answer);

        // A server that reads nothing.
        let mut client = Client::connect(proxy.address());
        let (_answer, mut stream) = client.begin(Request::post("http://a/stall").body(()).unwrap(), false);
        assert_eq!(server.note(), "stalling");
        let sent = client.run(async move {
            let mut sent = 0;
            loop {
                stream.reserve_capacity(16_384);
                let room = std::future::poll_fn(|cx| stream.poll_capacity(cx));
                match tokio::time::timeout(std::time::Duration::from_millis(500), room).await {
                    Ok(room) => {
                        let room = room.unwrap().unwrap();
                        sent += room;
                        stream.send_data(Bytes::from(vec![b'x'; room]), false).unwrap();
                    }
                    Err(_) => return sent,
                }
            }
        });
        assert!(sent < 3 * 1024 * 1024, "{sent} bytes went into the proxy");
    }
}

#[test]
fn upgrades_pass_between_both_protocols() {
    for engine in engines() {
        let mut builder = h2::server::Builder::new();
        builder.enable_connect_protocol();
        let server = Server::with(builder);
        let proxy = proxy(engine, &server, |manager, cluster| {
            manager["http2_protocol_options"] = json!({"allow_connect": true});
            cluster["typed_extension_protocol_options"] = options(json!({"allow_connect": true}));
        });
        // HTTP/1 to HTTP/2.
        let mut client = proxy.connect();
        client.send("GET /tunnel HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
        let head = client.read_head();
        assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
        assert!(head.contains("\r\nupgrade: websocket\r\nconnection: upgrade\r\n"), "{head}");
        assert_eq!(server.note(), "CONNECT Some(\"websocket\")");
        client.send("ping");
        assert_eq!(client.read_exact(4), "ping");
        drop(client);
        // HTTP/2 to HTTP/2.
        let mut client = Client::connect(proxy.address());
        let mut request = Request::connect("http://a/tunnel").body(()).unwrap();
        request.extensions_mut().insert(h2::ext::Protocol::from("websocket"));
        let (answer, mut stream) = client.begin(request, false);
        let answer = client.run(answer).unwrap();
        assert_eq!(answer.status(), 200);
        assert!(!answer.headers().contains_key("upgrade"));
        stream.send_data(Bytes::from_static(b"pong"), false).unwrap();
        let mut answered = answer.into_body();
        assert_eq!(client.run(answered.data()).unwrap().unwrap(), "pong");
        stream.send_data(Bytes::new(), true).unwrap();
        // The end of one side ends the other.
        assert_eq!(client.run(body(&mut answered)).unwrap(), b"");
    }
}

#[test]
fn a_body_where_none_may_be_never_reaches_the_client() {
    for engine in engines() {
        let server = Server::start();
        let proxy = proxy(engine, &server, |_, _| {});
        let mut client = proxy.connect();
        client.send("GET /no-content HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.read_to_end();
        assert!(answer.starts_with("HTTP/1.1 204 No Content\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n") && answer.matches("HTTP/1.1").count() == 1, "{answer}");
        let mut client = proxy.connect();
        client.send("HEAD /other HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(client.read_head().starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(client.is_quiet());
        let mut client = Client::connect(proxy.address());
        let (answer, _) = client.begin(Request::get("http://a/no-content").body(()).unwrap(), true);
        let mut answered = client.run(answer).unwrap();
        assert_eq!(answered.status().as_u16(), 204);
        let reset = client.run(body(answered.body_mut())).unwrap_err();
        assert_eq!(reset.reason(), Some(h2::Reason::INTERNAL_ERROR));
        drop(client);
        let log = proxy.log();
        assert!(log.contains("204 UPE upstream_reset_after_response_started{protocol_error}\n"), "{log}");
    }
}
