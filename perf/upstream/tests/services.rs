//! The program as a chain of services over real sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// A running service; ends with the test.
struct Running {
    child: Child,
    address: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn start(arguments: &[&str]) -> Running {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ringsail-upstream"))
        .args(["--listen", "127.0.0.1:0"])
        .args(arguments)
        .env_remove("OUTBOUND_ADDRESS")
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    let address = line.split("http://").nth(1).and_then(|rest| rest.split(',').next()).expect("an address");
    Running { address: address.to_owned(), child }
}

/// Sends one request on a fresh connection; gives status and body.
fn get(service: &Running, target: &str, fields: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(&service.address).expect("it listens");
    write!(stream, "GET {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{fields}\r\n").expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("answered");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    (head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status"), body.to_owned())
}

#[test]
fn answer_names_every_service_of_the_chain() {
    let ratings = start(&["--service", "ratings"]);
    let reviews = start(&[
        "--service=reviews",
        "--service-version=v2",
        "--call",
        &format!("http://{}/ratings/0", ratings.address),
    ]);
    let (status, body) = get(&reviews, "/reviews/0", "");
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(status, 200);
    assert_eq!((&answer["service"], &answer["version"]), (&"reviews".into(), &"v2".into()));
    assert_eq!(answer["calls"][0]["status"], 200);
    assert_eq!(answer["calls"][0]["answer"]["service"], "ratings");
    // The second request reuses the kept connection.
    assert_eq!(get(&reviews, "/reviews/0", "").0, 200);
}

#[test]
fn a_dead_service_is_described_not_fatal() {
    let reviews = start(&["--call", "http://127.0.0.1:1/"]);
    let (status, body) = get(&reviews, "/", "");
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(status, 200);
    assert!(answer["calls"][0]["error"].is_string(), "{answer}");
}

#[test]
fn one_request_controls_its_answer() {
    let service = start(&["--size", "10"]);
    assert_eq!(get(&service, "/", "").1.len(), 10);
    let (status, body) = get(&service, "/?status=418&size=100000", "");
    assert_eq!((status, body.len()), (418, 100_000));
    assert_eq!(get(&service, "/", "x-upstream-status: 404\r\n").0, 404);
    assert_eq!(get(&service, "/?delay=never", "").0, 400);
}

#[test]
fn every_request_fails_at_error_rate_one() {
    let service = start(&["--error-rate", "1", "--error-status", "500"]);
    assert_eq!(get(&service, "/", "").0, 500);
}

#[test]
fn pipelined_requests_and_chunked_bodies_are_answered_in_order() {
    let service = start(&["--size", "1"]);
    let mut stream = TcpStream::connect(&service.address).expect("it listens");
    stream
        .write_all(
            b"POST /?size=2 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
              GET /?size=3 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        )
        .expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("answered");
    let lengths: Vec<_> = text.lines().filter(|line| line.starts_with("content-length")).collect();
    assert_eq!(lengths, ["content-length: 2", "content-length: 3"]);
}

/// Sends one request over HTTP/2; gives status, body length and trailers.
fn get_over_http2(service: &Running, target: &str, kind: &str) -> (u16, usize, http::HeaderMap) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(&service.address).await.expect("it listens");
        let (mut client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        let request = http::Request::post(format!("http://a{target}")).header("content-type", kind);
        let (answer, mut body) =
            client.send_request(request.body(()).expect("a request"), false).expect("sent");
        body.send_data(bytes::Bytes::from_static(b"hello"), true).expect("sent");
        let answer = answer.await.expect("answered");
        let status = answer.status().as_u16();
        let mut body = answer.into_body();
        let mut length = 0;
        while let Some(bytes) = body.data().await {
            let bytes = bytes.expect("a body");
            length += bytes.len();
            body.flow_control().release_capacity(bytes.len()).expect("released");
        }
        (status, length, body.trailers().await.expect("an end").unwrap_or_default())
    })
}

#[test]
fn a_client_that_begins_with_the_preface_is_answered_over_http2() {
    let service = start(&["--size", "10"]);
    assert_eq!(get_over_http2(&service, "/", "text/plain"), (200, 10, http::HeaderMap::new()));
    let (status, length, _) = get_over_http2(&service, "/?status=503&size=3000000", "text/plain");
    assert_eq!((status, length), (503, 3_000_000));
}

#[test]
fn a_grpc_call_gets_one_message_and_its_status_in_the_trailers() {
    let service = start(&["--size", "10"]);
    let (status, length, trailers) = get_over_http2(&service, "/shop.Cart/Add", "application/grpc");
    assert_eq!((status, length), (200, 15));
    assert_eq!(trailers["grpc-status"], "0");
}
