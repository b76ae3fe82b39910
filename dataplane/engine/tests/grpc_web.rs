//! gRPC-Web clients in front of gRPC servers.

mod harness;

use harness::http2::{Client, receive};
use harness::{Proxy, Upstream, engines, listener, manager};
use http::Request;
use ringsail_runtime::engine::EngineChoice;
use serde_json::{Value, json};

const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n\
    8\r\n\0\0\0\0\x03xyz\r\n0\r\ngrpc-status: 0\r\nGrpc-Message: fine\r\n\r\n";

/// The last frame that [`ANSWER`]'s trailers make.
const LAST: &str = "\0\0\0\"grpc-status:0\r\ngrpc-message:fine\r\n";

/// The whole frame in base64.
const LAST_AS_TEXT: &str = "gAAAACJncnBjLXN0YXR1czowDQpncnBjLW1lc3NhZ2U6ZmluZQ0K";

fn proxy(engine: EngineChoice, upstream: std::net::SocketAddr) -> Proxy {
    let mut manager =
        manager(json!([{"match": {"prefix": "/"}, "route": {"cluster": "up", "timeout": "0s"}}]));
    let web = json!({"name": "envoy.filters.http.grpc_web", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.grpc_web.v3.GrpcWeb"}});
    manager["http_filters"].as_array_mut().unwrap().insert(0, web);
    let mut cluster: Value = harness::cluster("up", &[upstream]);
    cluster["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http_protocol_options": {"enable_trailers": true}}}});
    Proxy::start(engine, &[listener(manager)], &[cluster])
}

#[test]
fn a_call_in_text_reaches_the_server_as_grpc_and_its_trailers_come_back_in_the_body() {
    for engine in engines() {
        let upstream = Upstream::manual();
        let proxy = proxy(engine, upstream.address);
        let mut client = proxy.connect();
        client.send(
            "POST /s/m HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc-web-text\r\n\
             accept: application/grpc-web-text\r\ncontent-length: 12\r\n\r\nAAAAA",
        );
        let mut server = upstream.accept();
        let head = server.read_head();
        assert!(head.contains("\r\ncontent-type: application/grpc\r\n"), "{head}");
        assert!(head.contains("\r\nte: trailers\r\n") && !head.contains("content-length"), "{head}");
        // What is decoded does not wait for the rest.
        assert_eq!(server.read_exact(8), "3\r\n\0\0\0\r\n");
        client.send("ANhYmM=");
        assert_eq!(server.read_exact(15), "5\r\n\0\x03abc\r\n0\r\n\r\n");
        server.send(ANSWER);
        let head = client.read_head();
        assert!(head.contains("\r\ncontent-type: application/grpc-web-text+proto\r\n"), "{head}");
        assert_eq!(
            client.read_until("0\r\n\r\n"),
            format!("c\r\nAAAAAAN4eXo=\r\n34\r\n{LAST_AS_TEXT}\r\n0\r\n\r\n")
        );
    }
}

#[test]
fn a_binary_call_over_http2_gets_its_trailers_as_the_last_frame_of_the_body() {
    for engine in engines() {
        let upstream = Upstream::serving(|_| ANSWER.to_owned());
        let proxy = proxy(engine, upstream);
        let mut client = Client::connect(proxy.address());
        let request =
            Request::post("http://a/s/m").header("content-type", "application/grpc-web").body(()).unwrap();
        let (answer, mut stream) = client.begin(request, false);
        stream.send_data(bytes::Bytes::from_static(b"\0\0\0\0\x03abc"), true).unwrap();
        let answer = client.run(receive(answer)).unwrap();
        assert_eq!(answer.field("content-type"), "application/grpc-web+proto");
        assert_eq!(answer.body, [b"\0\0\0\0\x03xyz\x80", LAST.as_bytes()].concat());
        assert!(answer.trailers.is_none());
    }
}
