//! gRPC-Web over both versions of HTTP, to gRPC servers.

use serde_json::json;

use super::{http2_call as call, http2_upstream, note_http2 as note};
use crate::http2::{Call, calls};
use crate::scenario::{Observed, Run, Scenario};
use crate::suite::{Suite, filter};

/// A message of three bytes.
const MESSAGE: &[u8] = b"\0\0\0\0\x03abc";
/// The same in base64.
const TEXT: &[u8] = b"AAAAAANhYmM=";

fn scenario(id: &'static str) -> Scenario {
    Scenario::new(id).backends(&["ha"]).cluster(http2_upstream())
}

/// A POST over HTTP/1.1 with this body.
fn http1(scenario: Scenario, fields: &'static str, body: &'static [u8]) -> Scenario {
    scenario.does(move |run| run.raw(post(run, fields, body)))
}

fn post(run: &Run<'_>, fields: &str, body: &[u8]) -> Vec<u8> {
    let length = format!("content-length: {}\r\n{fields}", body.len());
    let head = run.request_of("POST", &format!("/{}/pack.Service/Method", run.id), &length);
    [head.as_bytes(), body].concat()
}

/// The same over HTTP/2, in pieces.
fn http2(
    scenario: Scenario,
    fields: &'static [(&'static str, &'static str)],
    pieces: &'static [&'static [u8]],
) -> Scenario {
    scenario.does(move |run| {
        let body = pieces.iter().map(|piece| piece.to_vec()).collect();
        let call =
            Call { body, path: format!("/{}/pack.Service/Method", run.id), ..call(run, "POST", fields) };
        let mut observed = Observed::new();
        calls(run.address, vec![call])?.iter().for_each(|reply| note(&mut observed, run, reply));
        observed.attempts(run);
        Ok(observed)
    })
}

/// The suite.
pub fn suite() -> Suite {
    let s = scenario;
    let text = "content-type: application/grpc-web-text\r\naccept: application/grpc-web-text\r\n";
    let scenarios = vec![
        http1(
            s("web-binary"),
            "content-type: application/grpc-web\r\nx-show: content-type,te,grpc-accept-encoding,content-length,accept\r\n",
            MESSAGE,
        ),
        http1(
            s("web-binary-proto"),
            "content-type: application/grpc-web+proto\r\naccept: application/grpc-web+proto\r\n",
            MESSAGE,
        ),
        http1(s("web-text"), text, TEXT),
        http1(s("web-text-request-only"), "content-type: application/grpc-web-text+proto\r\n", TEXT),
        http1(
            s("web-text-answer-only"),
            "content-type: application/grpc-web+proto\r\naccept: application/grpc-web-text+proto\r\n",
            MESSAGE,
        ),
        http1(
            s("web-two-messages"),
            "content-type: application/grpc-web\r\naccept: application/grpc-web-text\r\n",
            b"\0\0\0\0\x03abc\0\0\0\0\x01x",
        ),
        http1(
            s("web-content-type-with-parameter"),
            "content-type: application/grpc-web; charset=utf-8\r\n",
            MESSAGE,
        ),
        http1(s("web-content-type-json"), "content-type: application/grpc-web+json\r\n", MESSAGE),
        http1(s("web-bad-base64"), text, b"AAAA*ANhYmM="),
        http1(s("web-cut-base64"), text, b"AAAAAANhYmM"),
        http1(s("web-empty-body"), "content-type: application/grpc-web\r\n", b""),
        http1(s("web-status-in-head"), "content-type: application/grpc-web\r\nx-script: grpc=5\r\n", MESSAGE),
        http1(
            s("web-status-in-head-text"),
            "content-type: application/grpc-web\r\naccept: application/grpc-web-text\r\nx-script: grpc=5\r\n",
            MESSAGE,
        ),
        http1(s("web-http-503"), "content-type: application/grpc-web\r\nx-script: 503\r\n", MESSAGE),
        http1(
            s("web-not-grpc"),
            "content-type: application/grpc-web\r\nx-script: 200 content-type=text/plain\r\n",
            MESSAGE,
        ),
        http1(
            s("web-not-grpc-404"),
            "content-type: application/grpc-web\r\nx-script: 404 content-type=text/plain\r\n",
            MESSAGE,
        ),
        http1(
            s("web-not-found").entry(
                json!({"direct_response": {"status": 404, "body": {"inline_string": "nothing here"}}}),
            ),
            "content-type: application/grpc-web\r\n",
            MESSAGE,
        ),
        http1(
            s("web-refused").backends(&["refused"]).backends(&["refused"]),
            "content-type: application/grpc-web\r\n",
            MESSAGE,
        ),
        http1(s("web-reset"), "content-type: application/grpc-web\r\nx-script: reset=8\r\n", MESSAGE),
        http1(
            s("web-retried").route(json!({"retry_policy": {"retry_on": "unavailable", "num_retries": 1}})),
            "content-type: application/grpc-web-text\r\nx-script: grpc=14;200\r\n",
            TEXT,
        ),
        http1(
            s("web-deadline").route(json!({"max_stream_duration": {"grpc_timeout_header_max": "0s"}})),
            "content-type: application/grpc-web\r\ngrpc-timeout: 300m\r\nx-script: hang\r\n",
            MESSAGE,
        ),
        http1(
            s("web-timeout").route(json!({"timeout": "0.3s"})),
            "content-type: application/grpc-web\r\nx-script: hang\r\n",
            MESSAGE,
        ),
        http1(s("web-not-web"), "content-type: application/grpc\r\nte: trailers\r\n", MESSAGE),
        http1(s("web-plain"), "content-type: text/plain\r\n", b"hello"),
        http2(s("web-h2-binary"), &[("content-type", "application/grpc-web")], &[MESSAGE]),
        http2(
            s("web-h2-text"),
            &[("content-type", "application/grpc-web-text"), ("accept", "application/grpc-web-text")],
            &[TEXT],
        ),
        http2(
            s("web-h2-text-in-pieces"),
            &[("content-type", "application/grpc-web-text"), ("accept", "application/grpc-web-text")],
            &[b"AAA", b"AAANh", b"YmM="],
        ),
        http2(
            s("web-h2-status-in-head"),
            &[("content-type", "application/grpc-web"), ("x-script", "grpc=7")],
            &[MESSAGE],
        ),
        http2(
            s("web-h2-not-grpc"),
            &[("content-type", "application/grpc-web"), ("x-script", "500 content-type=text/html")],
            &[MESSAGE],
        ),
        http2(
            s("web-h2-refused").backends(&["refused"]).backends(&["refused"]),
            &[("content-type", "application/grpc-web")],
            &[MESSAGE],
        ),
    ];
    Suite {
        name: "grpc-web",
        scenarios,
        filters: json!([filter("grpc_web", "grpc_web.v3.GrpcWeb", json!({}))]),
    }
}
