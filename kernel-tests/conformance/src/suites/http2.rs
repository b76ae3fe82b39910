//! HTTP/2 on either side, and gRPC over it.

use serde_json::{Value, json};

use crate::http2::{Call, Reply, calls};
use crate::scenario::{Observed, Run, Scenario};
use crate::suite::Suite;

/// A call of the scenario's own path.
pub(super) fn call(run: &Run<'_>, method: &'static str, fields: &[(&str, &str)]) -> Call {
    let mut all = vec![("x-case".to_string(), run.id.to_string()), ("x-run".to_string(), run.run.clone())];
    all.extend(fields.iter().map(|(name, value)| (name.to_string(), value.to_string())));
    Call { method, path: format!("/{}", run.id), authority: run.host(), fields: all, ..Call::default() }
}

pub(super) fn note(observed: &mut Observed, run: &Run<'_>, reply: &Reply) {
    let length = reply.body.len();
    let body = if length > 2_000 {
        format!("{length} bytes")
    } else {
        String::from_utf8_lossy(&reply.body).to_string()
    };
    let body = crate::case::masked(&body.replace('\n', "\r\n"));
    let text = format!("{}\n{}\n\n{body}\n{}\n{}", reply.status, reply.fields, reply.trailers, reply.error);
    observed.exact("reply", run.unnamed(&text));
}

/// One call, as `make` writes it.
fn calling(scenario: Scenario, make: impl Fn(&Run<'_>) -> Call + Send + Sync + 'static) -> Scenario {
    scenario.does(move |run| {
        let replies = calls(run.address, vec![make(run)])?;
        let mut observed = Observed::new();
        replies.iter().for_each(|reply| note(&mut observed, run, reply));
        observed.attempts(run);
        Ok(observed)
    })
}

/// A GET with fields.
fn get(scenario: Scenario, fields: &'static [(&'static str, &'static str)]) -> Scenario {
    calling(scenario, move |run| call(run, "GET", fields))
}

fn to_http2(scenario: Scenario) -> Scenario {
    scenario.backends(&["ha"]).cluster(super::http2_upstream())
}

/// A gRPC message frame of `length` bytes.
fn message(length: usize) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&(length as u32).to_be_bytes());
    bytes.resize(5 + length, b'x');
    bytes
}

fn grpc(scenario: Scenario, script: &'static str) -> Scenario {
    calling(to_http2(scenario), move |run| Call {
        body: vec![message(10)],
        ..call(run, "POST", &[("content-type", "application/grpc"), ("te", "trailers"), ("x-script", script)])
    })
}

fn options(fields: Value) -> Value {
    json!({"http2_protocol_options": fields})
}

/// The suite.
pub fn suite() -> Suite {
    let s = Scenario::new;
    let scenarios = vec![
        // HTTP/2 to HTTP/1.
        get(s("h2-to-h1"), &[]),
        get(s("h2-to-h1-cookie-crumbs"), &[("cookie", "a=1"), ("cookie", "b=2")]),
        get(s("h2-to-h1-repeated-field"), &[("x-a", "1"), ("x-a", "2")]),
        get(s("h2-to-h1-te"), &[("te", "trailers")]),
        get(s("h2-to-h1-404"), &[("x-script", "404")]),
        get(s("h2-to-h1-204"), &[("x-script", "204")]),
        get(s("h2-to-h1-connection-field"), &[("x-script", "200 connection=x-a x-a=1 keep-alive=5")]),
        get(s("h2-to-h1-close"), &[("x-script", "close")]),
        get(s("h2-local-reply").entry(json!({"direct_response": {"status": 418, "body": {"inline_string": "teapot"}}})), &[]),
        get(s("h2-redirect").entry(json!({"redirect": {"https_redirect": true}})), &[]),
        get(s("h2-timeout").route(json!({"timeout": "0.3s"})), &[("x-script", "hang")]),
        get(s("h2-refused").backends(&["refused"]), &[]),
        calling(s("h2-head"), |run| call(run, "HEAD", &[])),
        calling(s("h2-unknown-method"), |run| call(run, "FOO", &[])),
        calling(s("h2-post"), |run| Call { body: vec![b"hello ".to_vec(), b"world".to_vec()], ..call(run, "POST", &[]) }),
        calling(s("h2-post-with-length"), |run| Call { body: vec![b"hello".to_vec()], ..call(run, "POST", &[("content-length", "5")]) }),
        calling(s("h2-post-with-trailers"), |run| Call {
            body: vec![b"hello".to_vec()], trailers: vec![("x-trailer".to_string(), "1".to_string())], ..call(run, "POST", &[]) }),
        calling(s("h2-large-post"), |run| Call { body: vec![vec![b'x'; 300_000]], ..call(run, "POST", &[]) }),
        calling(s("h2-early-answer").entry(json!({"direct_response": {"status": 403}})), |run| Call {
            body: vec![vec![b'x'; 10]], ..call(run, "POST", &[]) }),
        calling(s("h2-route-not-found"), |run| Call { path: "/nowhere".to_string(), ..call(run, "GET", &[]) }),
        calling(s("h2-underscore-refused").manager(json!({"common_http_protocol_options": {"headers_with_underscores_action": "REJECT_REQUEST"}})),
            |run| call(run, "GET", &[("x_a", "1")])),
        calling(s("h2-many-fields"), |run| {
            let fields: Vec<(String, String)> = (0..101).map(|index| (format!("x-{index}"), "1".to_string())).collect();
            let mut call = call(run, "GET", &[]);
            call.fields.extend(fields);
            call
        }),
        calling(s("h2-large-field"), |run| {
            let mut call = call(run, "GET", &[]);
            call.fields.push(("x-large".to_string(), "a".repeat(65_000)));
            call
        }),
        calling(s("h2-path-normalised"), |run| Call { path: format!("/x/../{}", run.id), ..call(run, "GET", &[]) }),
        calling(s("h2-host-field-dropped"), |run| call(run, "GET", &[("host", "other.example")])),
        calling(s("h2-connection-idle").manager(json!({"common_http_protocol_options": {"idle_timeout": "5s"}})), |run| call(run, "GET", &[])),
        calling(s("h2-expect"), |run| Call { body: vec![b"hi".to_vec()], ..call(run, "POST", &[("expect", "100-continue")]) }),
        s("h2-many-streams").does(|run| {
            let replies = calls(run.address, (0..50).map(|_| call(run, "GET", &[])).collect())?;
            let mut observed = Observed::new();
            observed.exact("statuses", replies.iter().map(|reply| reply.status.to_string()).collect::<Vec<_>>().join(" "));
            Ok(observed)
        }),
        // Options of the listener.
        get(s("h2-small-window").manager(options(json!({"initial_stream_window_size": 65535, "initial_connection_window_size": 65535}))), &[]),
        get(s("h2-few-streams").manager(options(json!({"max_concurrent_streams": 1}))), &[]),
        get(s("h2-codec-forced").manager(json!({"codec_type": "HTTP2"})), &[]),
        s("h1-on-forced-h2").manager(json!({"codec_type": "HTTP2"})).sends(""),
        get(s("h2-on-forced-h1").manager(json!({"codec_type": "HTTP1"})), &[]),
        // HTTP/1 to HTTP/2.
        to_http2(s("h1-to-h2")).sends(""),
        to_http2(s("h1-to-h2-post")).does(|run| run.raw(run.request_of("POST", "/h1-to-h2-post", "content-length: 5\r\n") + "hello")),
        to_http2(s("h1-to-h2-chunked")).does(|run| run.raw(run.request_of("POST", "/h1-to-h2-chunked", "transfer-encoding: chunked\r\n") + "5\r\nhello\r\n0\r\n\r\n")),
        to_http2(s("h1-to-h2-hop-by-hop")).sends("connection: x-a\r\nx-a: 1\r\nkeep-alive: 5\r\nte: trailers\r\n"),
        to_http2(s("h1-to-h2-upper-case")).sends("X-Mixed-Case: A\r\n"),
        to_http2(s("h1-to-h2-refused-stream")).sends("x-script: reset=7\r\n"),
        to_http2(s("h1-to-h2-reset")).sends("x-script: reset=2\r\n"),
        to_http2(s("h1-to-h2-cancelled")).sends("x-script: reset=8\r\n"),
        to_http2(s("h1-to-h2-protocol-error")).sends("x-script: reset=1\r\n"),
        to_http2(s("h1-to-h2-enhance")).sends("x-script: reset=11\r\n"),
        to_http2(s("h1-to-h2-head")).does(|run| run.raw(run.request_of("HEAD", "/h1-to-h2-head", ""))),
        to_http2(s("h1-to-h2-timeout")).route(json!({"timeout": "0.3s"})).sends("x-script: hang\r\n"),
        to_http2(s("h1-to-h2-204")).sends("x-script: 204\r\n"),
        // HTTP/2 to HTTP/2.
        get(to_http2(s("h2-to-h2")), &[]),
        calling(to_http2(s("h2-to-h2-trailers")), |run| Call {
            body: vec![b"hello".to_vec()], trailers: vec![("x-trailer".to_string(), "1".to_string())], ..call(run, "POST", &[]) }),
        calling(to_http2(s("h2-to-h2-large")), |run| Call { body: vec![vec![b'x'; 500_000]], ..call(run, "POST", &[]) }),
        get(to_http2(s("h2-to-h2-refused-stream")), &[("x-script", "reset=7")]),
        get(to_http2(s("h2-to-h2-head-then-reset")), &[("x-script", "204")]),
        // gRPC.
        grpc(s("grpc-unary"), "200"),
        grpc(s("grpc-status-5"), "grpc=5"),
        grpc(s("grpc-http-503"), "503"),
        grpc(s("grpc-reset"), "reset=8"),
        grpc(s("grpc-refused").backends(&["refused"]).backends(&["refused"]), "200"),
        grpc(s("grpc-no-endpoints"), "200").backends(&[]),
        grpc(s("grpc-deadline-of-route").route(json!({"timeout": "0.3s"})), "hang"),
        grpc(s("grpc-retried").route(json!({"retry_policy": {"retry_on": "unavailable", "num_retries": 1}})), "grpc=14;200"),
        calling(to_http2(s("grpc-large-message")), |run| Call {
            body: vec![message(1_000_000)], ..call(run, "POST", &[("content-type", "application/grpc"), ("te", "trailers")]) }),
        calling(to_http2(s("grpc-several-messages")), |run| Call {
            body: vec![message(10), message(20), message(30)], ..call(run, "POST", &[("content-type", "application/grpc"), ("te", "trailers")]) }),
        calling(s("grpc-not-found").entry(json!({"direct_response": {"status": 404}})), |run| Call {
            body: vec![message(1)], ..call(run, "POST", &[("content-type", "application/grpc")]) }),
    ];
    Suite { name: "http2", scenarios, filters: json!([]) }
}
