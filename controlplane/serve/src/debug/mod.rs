//! The pages for people and tools: `/debug/…`, `/ready`, `/version`, `/metrics`.

mod config_dump;
mod configz;
mod syncz;

use std::collections::BTreeMap;

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Bytes;
use ringsail_api::Severity;
use serde_json::{Value, json};

use crate::plane::Plane;

/// Every page, for the index.
const PAGES: [(&str, &str); 8] = [
    ("/debug/syncz", "which proxies are connected, what they were sent and what they accepted"),
    ("/debug/config_dump?proxyID=ID", "the configuration of one proxy (POD.NAMESPACE or a node id)"),
    ("/debug/configz", "the accepted objects"),
    ("/debug/diagnostics", "what is wrong with objects, with file, line, field and fix"),
    ("/debug/connections", "the open streams"),
    ("/ready", "200 once a first snapshot is served"),
    ("/version", "version of the control plane"),
    ("/metrics", "metrics in Prometheus' text form"),
];

/// Answers a request; bodies are not read.
pub(crate) fn answer<B>(plane: &Plane, request: &Request<B>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned());
    }
    let query: BTreeMap<String, String> = parse_query(request.uri().query().unwrap_or_default());
    match request.uri().path() {
        "/ready" if plane.is_ready() => text(StatusCode::OK, "ready\n".to_owned()),
        "/ready" => text(StatusCode::SERVICE_UNAVAILABLE, "waiting for the first objects\n".to_owned()),
        "/version" => json_page(&json!({ "name": "ringsaild", "version": env!("CARGO_PKG_VERSION") })),
        "/metrics" => {
            let mut by_version: BTreeMap<String, u64> = BTreeMap::new();
            for connection in plane.connections.all() {
                *by_version.entry(connection.istio_version.clone()).or_default() += 1;
            }
            text(StatusCode::OK, plane.metrics.render(&by_version))
        }
        "/debug/syncz" => json_page(&syncz::page(&plane.connections.all())),
        "/debug/connections" => json_page(&syncz::connections(&plane.connections.all())),
        "/debug/configz" => json_page(&configz::page(plane.newest().as_deref())),
        "/debug/diagnostics" => json_page(&diagnostics(plane)),
        "/debug/config_dump" => match query.get("proxyID").filter(|id| !id.is_empty()) {
            None => {
                text(StatusCode::BAD_REQUEST, "you must provide a proxyID in the query string\n".to_owned())
            }
            Some(id) => match plane.connections.find(id) {
                Some(connection) => json_page(&config_dump::page(&connection)),
                None => text(StatusCode::NOT_FOUND, format!("no proxy {id} is connected\n")),
            },
        },
        "/" | "/debug" | "/debug/" => {
            let lines = PAGES.iter().map(|(page, meaning)| format!("{page:<32} {meaning}\n"));
            text(StatusCode::OK, lines.collect())
        }
        _ => text(StatusCode::NOT_FOUND, "no such page; / lists them\n".to_owned()),
    }
}

fn diagnostics(plane: &Plane) -> Value {
    let newest = plane.newest();
    let lines = newest.iter().flat_map(|published| published.diagnostics.iter());
    lines
        .map(|line| {
            let severity = match line.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
                Severity::Note => "note",
            };
            json!({
                "severity": severity,
                "code": line.code,
                "file": &*line.origin.file,
                "line": line.origin.line,
                "column": line.origin.column,
                "object": line.object.as_ref().map(ToString::to_string),
                "field": line.field_path,
                "message": line.message,
                "fix": line.fix,
            })
        })
        .collect()
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    page(status, "text/plain; charset=utf-8", body)
}

fn json_page(value: &Value) -> Response<Full<Bytes>> {
    let body = format!("{value:#}\n");
    page(StatusCode::OK, "application/json", body)
}

fn page(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}

/// `a=b&c=d` with percent-decoding; the last of equal keys wins.
fn parse_query(query: &str) -> BTreeMap<String, String> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decode(key), percent_decode(value))
        })
        .collect()
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| high * 16 + low),
            _ => None,
        };
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => bytes.push(if *first == b'+' { b' ' } else { *first }),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_percent_decoded() {
        let query = parse_query("proxyID=sidecar%7E10.0.0.1%7Ea.b%7Ec&x=%2&y=a+b&z");
        assert_eq!(query["proxyID"], "sidecar~10.0.0.1~a.b~c");
        assert_eq!((query["x"].as_str(), query["y"].as_str(), query["z"].as_str()), ("%2", "a b", ""));
    }

    #[test]
    fn a_plane_without_a_snapshot_is_not_ready() {
        let plane = Plane::default();
        let status = |path: &str| answer(&plane, &Request::get(path).body(()).expect("a request")).status();
        assert_eq!(status("/ready"), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status("/metrics"), StatusCode::OK);
        assert_eq!(status("/debug/config_dump"), StatusCode::BAD_REQUEST);
        assert_eq!(status("/debug/config_dump?proxyID=a.b"), StatusCode::NOT_FOUND);
        assert_eq!(status("/elsewhere"), StatusCode::NOT_FOUND);
    }
}
