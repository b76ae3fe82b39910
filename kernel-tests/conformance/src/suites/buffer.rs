//! The buffer filter: requests are received completely before they go on.

use serde_json::{Value, json};

use crate::scenario::Scenario;
use crate::suite::{Suite, filter, filter_config};

/// A listener that buffers up to 10 bytes, a route with settings of its own where it has some, and a request.
fn buffering(id: &'static str, of_route: Option<Value>, request: fn(&str) -> String) -> Scenario {
    let scenario = Scenario::new(id).manager(json!({"http_filters": [
        filter("buffer", "buffer.v3.Buffer", json!({"max_request_bytes": 10})),
        filter("router", "router.v3.Router", json!({}))]}));
    let scenario = match of_route {
        Some(fields) => scenario.entry(json!({"typed_per_filter_config": {
            "envoy.filters.http.buffer": filter_config("buffer.v3.BufferPerRoute", fields)}})),
        None => scenario,
    };
    scenario
        .does(move |run| run.raw(request(&run.request_of("POST", &format!("/{}", run.id), "FRAMING\r\n"))))
}

fn sized(head: &str) -> String {
    head.replace("FRAMING", "content-length: 10") + "0123456789"
}

fn chunked(head: &str) -> String {
    head.replace("FRAMING", "transfer-encoding: chunked") + "4\r\n0123\r\n4\r\n4567\r\n0\r\n\r\n"
}

fn too_large(head: &str) -> String {
    head.replace("FRAMING", "content-length: 11") + "0123456789a"
}

fn too_many_chunks(head: &str) -> String {
    head.replace("FRAMING", "transfer-encoding: chunked") + "6\r\n012345\r\n6\r\n678901\r\n0\r\n\r\n"
}

fn without_body(head: &str) -> String {
    head.replace("FRAMING\r\n", "")
}

/// The suite.
pub fn suite() -> Suite {
    let larger = || json!({"buffer": {"max_request_bytes": 20}});
    let scenarios = vec![
        buffering("buffer-sized", None, sized),
        buffering("buffer-chunked", None, chunked),
        buffering("buffer-without-body", None, without_body),
        buffering("buffer-too-large", None, too_large),
        buffering("buffer-too-many-chunks", None, too_many_chunks),
        buffering("buffer-off", Some(json!({"disabled": true})), too_large),
        buffering("buffer-larger-by-route", Some(larger()), too_large),
        buffering("buffer-chunks-larger-by-route", Some(larger()), too_many_chunks),
        buffering("buffer-retried", None, sized)
            .route(json!({"retry_policy": {"retry_on": "5xx", "num_retries": 1}}))
            .does(|run| {
                run.raw(
                    run.request_of("POST", "/buffer-retried", "content-length: 5\r\nx-script: 503;200\r\n")
                        + "hello",
                )
            }),
    ];
    Suite { name: "buffer", scenarios, filters: json!([]) }
}
