//! HTTP/2 clients: their requests, answers, trailers and resets, in front of HTTP/1 servers.

mod harness;

use bytes::Bytes;
use harness::http2::{Client, get, receive};
use harness::{Proxy, Upstream, engines, file_log};
use http::Request;
use serde_json::json;

#[test]
fn a_request_is_translated_both_ways() {
    for engine in engines() {
        let upstream = Upstream::manual();
        let proxy = Proxy::http(engine, upstream.address, |manager, _| {
            manager["access_log"] =
                json!([file_log("%PROTOCOL% %UPSTREAM_PROTOCOL% %RESPONSE_CODE% %BYTES_SENT%")]);
        });
        let mut client = Client::connect(proxy.address());
        let request = Request::get("http://a.example/x?y")
            .header("x-one", "1")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let (answer, _) = client.begin(request, true);
        let mut server = upstream.accept();
        let head = server.read_head();
        assert!(head.starts_with("GET /x?y HTTP/1.1\r\nhost: a.example\r\nx-one: 1\r\n"), "{head}");
        assert!(head.contains("\r\ncookie: a=1; b=2\r\n"), "{head}");
        assert!(head.contains("\r\nte: trailers\r\n"), "{head}");
        assert!(!head.contains("transfer-encoding") && !head.contains("content-length"), "{head}");
        server.send("HTTP/1.1 200 OK\r\nX-Two: 2\r\nConnection: x-three\r\nX-Three: 3\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
        let answer = client.run(receive(answer)).unwrap();
        assert_eq!((answer.status(), answer.field("x-two"), answer.field("server")), (200, "2", "envoy"));
        assert!(!answer.head.headers().contains_key("x-three"));
        assert!(!answer.head.headers().contains_key("transfer-encoding"));
        assert_eq!(answer.body, b"hello");
        drop(client);
        assert_eq!(proxy.log(), "HTTP/2 HTTP/1.1 200 5\n");
    }
}

#[test]
fn a_body_of_unknown_length_leaves_as_chunks_and_a_known_one_with_its_length() {
    for engine in engines() {
        let upstream = Upstream::manual();
        let proxy = Proxy::http(engine, upstream.address, |_, _| {});
        let mut client = Client::connect(proxy.address());
        let (answer, mut body) = client.begin(Request::post("http://a/").body(()).unwrap(), false);
        body.send_data(Bytes::from_static(b"some"), false).unwrap();
        let mut server = upstream.accept();
        assert!(server.read_head().ends_with("transfer-encoding: chunked\r\n\r\n"));
        assert_eq!(server.read_exact(9), "4\r\nsome\r\n");
        body.send_data(Bytes::from_static(b"more"), true).unwrap();
        assert_eq!(server.read_exact(14), "4\r\nmore\r\n0\r\n\r\n");
        server.send("HTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(client.run(receive(answer)).unwrap().status(), 204);

        let request = Request::post("http://a/").header("content-length", "4").body(()).unwrap();
        let (answer, mut body) = client.begin(request, false);
        body.send_data(Bytes::from_static(b"four"), true).unwrap();
        let message = server.read_message();
        assert!(message.contains("content-length: 4\r\n") && message.ends_with("\r\n\r\nfour"), "{message}");
        server.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(client.run(receive(answer)).unwrap().field("content-length"), "0");
    }
}

#[test]
fn streams_of_one_connection_do_not_wait_for_each_other() {
    for engine in engines() {
        let upstream = Upstream::manual();
        let proxy = Proxy::http(engine, upstream.address, |_, _| {});
        let mut client = Client::connect(proxy.address());
        let (first, _) = client.begin(get("/first").map(|_| ()), true);
        let mut slow = upstream.accept();
        assert!(slow.read_head().starts_with("GET /first "));
        let (second, _) = client.begin(get("/second").map(|_| ()), true);
        let mut quick = upstream.accept();
        assert!(quick.read_head().starts_with("GET /second "));
        quick.send("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecond");
        assert_eq!(client.run(receive(second)).unwrap().body, b"second");
        slow.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirst");
        assert_eq!(client.run(receive(first)).unwrap().body, b"first");
    }
}

#[test]
fn a_reset_by_the_client_ends_the_request_upstream_and_nothing_else() {
    for engine in engines() {
        let upstream = Upstream::manual();
        let proxy = Proxy::http(engine, upstream.address, |_, _| {});
        let mut client = Client::connect(proxy.address());
        let (answer, mut stream) = client.begin(get("/").map(|_| ()), true);
        let mut server = upstream.accept();
        server.read_head();
        stream.send_reset(h2::Reason::CANCEL);
        drop(answer);
        server.end();
        // The connection goes on.
        let (answer, _) = client.begin(get("/again").map(|_| ()), true);
        let mut server = upstream.accept();
        server.read_head();
        server.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        assert_eq!(client.run(receive(answer)).unwrap().body, b"ok");
        drop(client);
        assert_eq!(proxy.log(), "0 DR http2.remote_reset\n200 - via_upstream\n");
    }
}

#[test]
fn an_answer_that_breaks_off_ends_its_stream_with_internal_error() {
    for engine in engines() {
        let upstream = Upstream::manual();
        let proxy = Proxy::http(engine, upstream.address, |_, _| {});
        let mut client = Client::connect(proxy.address());
        let (answer, _) = client.begin(get("/").map(|_| ()), true);
        let mut server = upstream.accept();
        server.read_head();
        server.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\npart");
        drop(server);
        let error = client.run(receive(answer)).unwrap_err();
        assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR), "{error}");
        drop(client);
        assert_eq!(proxy.log(), "200 UPE upstream_reset_after_response_started{protocol_error}\n");
    }
}

#[test]
fn local_replies_are_answers_of_their_stream() {
    for engine in engines() {
        let proxy = Proxy::http(engine, harness::closed_port(), |_, _| {});
        let mut client = Client::connect(proxy.address());
        let answer = client.get("/").unwrap();
        assert_eq!((answer.status(), answer.field("content-type")), (503, "text/plain"));
        assert!(answer.body.ends_with(b"reset reason: remote connection failure"));
        let grpc =
            Request::post("http://a/x.Y/Z").header("content-type", "application/grpc").body("").unwrap();
        let answer = client.ask(grpc).unwrap();
        assert_eq!((answer.status(), answer.field("grpc-status")), (200, "14"));
        assert!(answer.field("grpc-message").ends_with("remote connection failure"));
        assert!(answer.body.is_empty() && answer.trailers.is_none());
    }
}

#[test]
fn an_http1_client_is_served_on_the_same_port() {
    for engine in engines() {
        let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        let proxy = Proxy::http(engine, upstream, |_, _| {});
        let mut client = proxy.connect();
        // A part of the preface that turns out to be something else.
        client.send("P");
        client.send("OST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
        assert!(client.read_message().starts_with("HTTP/1.1 200 OK\r\n"));
        assert_eq!(Client::connect(proxy.address()).get("/").unwrap().body, b"ok");
    }
}
