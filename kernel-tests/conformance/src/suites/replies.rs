//! Raw HTTP/1.1 bytes: same reply, same forwarded request, same end, same log line.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use ringsail_harness::config::static_cluster;
use ringsail_harness::peer::Peer;
use ringsail_harness::upstream;
use serde_json::{Value, json};

use crate::case::{Case, Observed};
use crate::differences;
use crate::suite::{Outcome, Selection, Verdict};

/// The suite's name.
pub const NAME: &str = "replies";

/// How many connections run at once: most of a case's time is waiting.
const CONCURRENT_CASES: usize = 8;
/// How long log lines may take to be written.
const SETTLE: Duration = Duration::from_secs(10);

/// The cases' ids.
pub fn ids() -> Vec<&'static str> {
    cases().iter().map(|case| case.id).collect()
}

/// Runs the selected cases on both proxies; `None` when nothing is selected.
pub fn run(envoy: &Path, ringsail: &Path, selection: Selection<'_>) -> Result<Option<Outcome>> {
    let start = Instant::now();
    let mut cases = cases();
    cases.retain(|case| selection.names(NAME, case.id));
    if cases.is_empty() {
        return Ok(None);
    }
    let template = template();
    let envoy = Peer::start("envoy", envoy, &template)?;
    let ringsail = Peer::start("ringsail", ringsail, &template)?;
    let (expected, found) = thread::scope(|scope| {
        let expected = scope.spawn(|| run_all(&envoy, &cases));
        let found = scope.spawn(|| run_all(&ringsail, &cases));
        (expected.join(), found.join())
    });
    let panicked = |_| anyhow::anyhow!("a case panicked");
    let (expected, found) = (expected.map_err(panicked)??, found.map_err(panicked)??);
    let deadline = Instant::now() + SETTLE;
    let (expected_logs, found_logs) = loop {
        let logs = (log_by_case(&envoy), log_by_case(&ringsail));
        let agree = |case: &Case| {
            logs.0.get(case.id) == logs.1.get(case.id) || differences::reason(case.id).is_some()
        };
        if cases.iter().all(agree) || Instant::now() > deadline {
            break logs;
        }
        thread::sleep(Duration::from_millis(100));
    };
    let verdicts = cases.iter().map(|case| {
        let agrees =
            expected[case.id] == found[case.id] && expected_logs.get(case.id) == found_logs.get(case.id);
        let verdict = match (agrees, differences::reason(case.id)) {
            (true, None) => Verdict::Agrees,
            (false, Some(_)) => Verdict::Differs,
            (true, Some(reason)) => Verdict::Fails(format!("agrees, yet listed as different ({reason})")),
            (false, None) => Verdict::Fails(format!(
                "envoy    {:?}\n  ringsail {:?}\n  envoy log    {:?}\n  ringsail log {:?}",
                expected[case.id],
                found[case.id],
                expected_logs.get(case.id),
                found_logs.get(case.id)
            )),
        };
        (case.id.to_string(), verdict)
    });
    let verdicts = verdicts.collect();
    Ok(Some(Outcome { suite: NAME, verdicts, pending: Vec::new(), elapsed: start.elapsed() }))
}

fn run_all<'a>(peer: &Peer, cases: &'a [Case]) -> Result<BTreeMap<&'a str, Observed>> {
    let mut results = BTreeMap::new();
    for group in cases.chunks(CONCURRENT_CASES) {
        thread::scope(|scope| {
            let running: Vec<_> =
                group.iter().map(|case| (case.id, scope.spawn(|| case.run(peer.address(0))))).collect();
            for (id, handle) in running {
                let observed = handle.join().map_err(|_| anyhow::anyhow!("{id} panicked"))??;
                results.insert(id, observed);
            }
            anyhow::Ok(())
        })?;
    }
    Ok(results)
}

/// The log line of each case that named itself in `x-case`.
fn log_by_case(peer: &Peer) -> BTreeMap<String, String> {
    peer.access_log()
        .iter()
        .filter_map(|line| line.split_once(' '))
        .filter(|(case, _)| *case != "-")
        .map(|(case, rest)| (case.to_string(), rest.to_string()))
        .collect()
}

const LOG_FORMAT: &str = "%REQ(X-CASE)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %REQ(:METHOD)% \
    %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL% %UPSTREAM_CLUSTER% %ROUTE_NAME% %BYTES_RECEIVED%\n";

/// One listener as istiod shapes it, and a route for each kind of thing a route can do.
fn template() -> Value {
    let upstream = upstream::start().unwrap();
    let refused = upstream::refused().unwrap();
    let istio_retries = json!({"num_retries": 2, "host_selection_retry_max_attempts": "5",
        "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"});
    let routes = json!([
        {"name": "direct", "match": {"path": "/direct"}, "direct_response": {"status": 418, "body": {"inline_string": "short and stout"}}},
        {"name": "direct-empty", "match": {"path": "/direct-empty"}, "direct_response": {"status": 502}},
        {"name": "redirect", "match": {"path": "/redirect"}, "redirect": {"host_redirect": "new.example", "path_redirect": "/p"}},
        {"name": "redirect-https", "match": {"path": "/redirect-https"}, "redirect": {"https_redirect": true, "response_code": "TEMPORARY_REDIRECT"}},
        {"name": "redirect-prefix", "match": {"prefix": "/old/"}, "redirect": {"prefix_rewrite": "/new/", "strip_query": true}},
        {"name": "rewrite-prefix", "match": {"prefix": "/rewrite/"}, "route": {"cluster": "app", "prefix_rewrite": "/"}},
        {"name": "rewrite-regex", "match": {"prefix": "/regex/"}, "route": {"cluster": "app", "regex_rewrite":
            {"pattern": {"regex": "^/regex/([^/]+)/(.*)$"}, "substitution": "/\\2/of/\\1"}}},
        {"name": "rewrite-host", "match": {"prefix": "/host/"}, "route": {"cluster": "app", "host_rewrite_literal": "other.example"}},
        {"name": "headers", "match": {"prefix": "/headers/"}, "route": {"cluster": "app"},
            "request_headers_to_add": [
                {"header": {"key": "x-added", "value": "a"}},
                {"header": {"key": "x-present", "value": "over"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"},
                {"header": {"key": "x-proto", "value": "%PROTOCOL%"}}],
            "request_headers_to_remove": ["x-gone"],
            "response_headers_to_add": [{"header": {"key": "x-response", "value": "%RESPONSE_CODE%"}}],
            "response_headers_to_remove": ["x-mixed-case"]},
        {"name": "no-such-cluster", "match": {"prefix": "/no-cluster"}, "route": {"cluster": "missing"}},
        {"name": "no-such-cluster-500", "match": {"prefix": "/no-500"}, "route": {"cluster": "missing", "cluster_not_found_response_code": "INTERNAL_SERVER_ERROR"}},
        {"name": "empty", "match": {"prefix": "/empty"}, "route": {"cluster": "empty", "retry_policy": istio_retries}},
        {"name": "refused", "match": {"prefix": "/refused"}, "route": {"cluster": "refused"}},
        {"name": "refused-retry", "match": {"prefix": "/retry-refused"}, "route": {"cluster": "refused", "retry_policy": istio_retries}},
        {"name": "retry-503", "match": {"prefix": "/retry/"}, "route": {"cluster": "app", "prefix_rewrite": "/",
            "retry_policy": {"retry_on": "5xx", "num_retries": 1}}},
        {"name": "timeout", "match": {"prefix": "/timeout/"}, "route": {"cluster": "app", "prefix_rewrite": "/", "timeout": "0.2s"}},
        {"name": "per-try", "match": {"prefix": "/per-try/"}, "route": {"cluster": "app", "prefix_rewrite": "/", "timeout": "3s",
            "retry_policy": {"retry_on": "connect-failure", "num_retries": 1, "per_try_timeout": "0.2s"}}},
        {"name": "exact-header", "match": {"prefix": "/match/", "headers": [{"name": "x-user", "string_match": {"exact": "jason"}}]},
            "direct_response": {"status": 200, "body": {"inline_string": "exact"}}},
        {"name": "regex-header", "match": {"prefix": "/match/", "headers": [{"name": "cookie", "string_match": {"safe_regex": {"regex": "^(.*?;)?\\s*(user=beta)(;.*)?$"}}}]},
            "direct_response": {"status": 200, "body": {"inline_string": "regex"}}},
        {"name": "query", "match": {"prefix": "/match/", "query_parameters": [{"name": "v", "string_match": {"exact": "2"}}]},
            "direct_response": {"status": 200, "body": {"inline_string": "query"}}},
        {"name": "separated", "match": {"path_separated_prefix": "/sep"}, "direct_response": {"status": 200, "body": {"inline_string": "separated"}}},
        {"name": "no-match-fallthrough", "match": {"prefix": "/match/"}, "direct_response": {"status": 200, "body": {"inline_string": "none"}}},
        {"name": "abort", "match": {"prefix": "/abort"}, "route": {"cluster": "app"}, "typed_per_filter_config": {"envoy.filters.http.fault": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
            "abort": {"http_status": 555, "percentage": {"numerator": 100}}}}},
        {"name": "default", "match": {"prefix": "/"}, "route": {"cluster": "app", "timeout": "0s"}}
    ]);
    let hosts = json!([
        {"name": "app", "domains": ["app.example", "*.wild.example"], "include_request_attempt_count": true, "routes": routes},
        {"name": "bare", "domains": ["bare.example"]},
        {"name": "tunnel", "domains": ["tunnel.example"], "routes": [{"match": {"connect_matcher": {}},
            "route": {"cluster": "echo", "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]}}]}
    ]);
    let clusters = [
        static_cluster("app", &[upstream]),
        static_cluster("refused", &[refused]),
        static_cluster("empty", &[]),
        static_cluster("echo", &[upstream::echo().unwrap()]),
    ];
    json!({
        "node": {"id": "sidecar~127.0.0.1~a.b~b.svc.cluster.local", "cluster": "test"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": "ADMIN"}}},
        "layered_runtime": {"layers": [{"name": "static", "static_layer": {"envoy.reloadable_features.http_reject_path_with_fragment": false}}]},
        "static_resources": {
            "listeners": [{"name": "outbound", "traffic_direction": "OUTBOUND",
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
                "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                    "stat_prefix": "outbound", "codec_type": "AUTO", "normalize_path": true, "stream_idle_timeout": "0s",
                    "use_remote_address": false, "upgrade_configs": [{"upgrade_type": "websocket"}, {"upgrade_type": "CONNECT"}],
                    "access_log": [{"name": "envoy.access_loggers.file", "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog", "path": "ACCESS_LOG",
                        "log_format": {"text_format_source": {"inline_string": LOG_FORMAT}}}}],
                    "http_filters": [
                        {"name": "envoy.filters.http.fault", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"}},
                        {"name": "envoy.filters.http.cors", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors"}},
                        {"name": "envoy.filters.http.router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
                    "route_config": {"name": "outbound", "validate_clusters": false, "ignore_port_in_host_matching": true, "virtual_hosts": hosts}}}]}]}],
            "clusters": clusters
        }
    })
}

fn cases() -> Vec<Case> {
    let get = |id: &'static str, path: &str| {
        Case::new(id, format!("GET {path} HTTP/1.1\r\nhost: app.example\r\nx-case: {id}\r\n\r\n"))
    };
    let with = |id: &'static str, path: &str, fields: &str| {
        Case::new(id, format!("GET {path} HTTP/1.1\r\nhost: app.example\r\nx-case: {id}\r\n{fields}\r\n"))
    };
    let raw = |id: &'static str, bytes: &str| Case::new(id, bytes.as_bytes().to_vec());
    let mut cases = vec![
        // Routing.
        get("plain", "/anything?q=1"),
        get("direct", "/direct"),
        get("direct-empty", "/direct-empty"),
        get("redirect", "/redirect?x=1"),
        get("redirect-https", "/redirect-https?x=1"),
        get("redirect-prefix", "/old/a/b?x=1"),
        get("rewrite-prefix", "/rewrite/a/b?x=1"),
        get("rewrite-regex", "/regex/one/two?x=1"),
        get("rewrite-host", "/host/a"),
        with("headers", "/headers/a", "x-present: 1\r\nx-gone: 1\r\n"),
        get("no-cluster", "/no-cluster"),
        get("no-cluster-500", "/no-500"),
        get("separated", "/sep"),
        get("separated-child", "/sep/child"),
        get("separated-not", "/separate"),
        with("match-exact-header", "/match/a", "x-user: jason\r\n"),
        with("match-header-other-case", "/match/a", "x-user: Jason\r\n"),
        with("match-cookie", "/match/a", "cookie: a=1; user=beta\r\n"),
        get("match-query", "/match/a?u=1&v=2"),
        get("match-none", "/match/a?v=3"),
        raw("unknown-host", "GET / HTTP/1.1\r\nhost: nobody.example\r\nx-case: unknown-host\r\n\r\n"),
        raw(
            "host-without-routes",
            "GET / HTTP/1.1\r\nhost: bare.example\r\nx-case: host-without-routes\r\n\r\n",
        ),
        raw(
            "host-with-port",
            "GET /direct HTTP/1.1\r\nhost: app.example:8080\r\nx-case: host-with-port\r\n\r\n",
        ),
        raw(
            "host-upper-case",
            "GET /direct HTTP/1.1\r\nhost: APP.example\r\nx-case: host-upper-case\r\n\r\n",
        ),
        raw(
            "host-trailing-dot",
            "GET /direct HTTP/1.1\r\nhost: app.example.\r\nx-case: host-trailing-dot\r\n\r\n",
        ),
        raw(
            "host-wildcard",
            "GET /direct HTTP/1.1\r\nhost: a.b.wild.example\r\nx-case: host-wildcard\r\n\r\n",
        ),
        raw(
            "absolute-form",
            "GET http://app.example/direct HTTP/1.1\r\nhost: nobody.example\r\nx-case: absolute-form\r\n\r\n",
        ),
        // Upstream failures.
        get("empty-cluster", "/empty"),
        get("refused", "/refused"),
        get("refused-retried", "/retry-refused"),
        get("upstream-closes", "/close"),
        get("upstream-half-head", "/half-head"),
        get("upstream-garbage", "/garbage"),
        get("upstream-bad-length", "/bad-length"),
        get("upstream-short-body", "/short-body"),
        get("upstream-until-close", "/until-close"),
        get("upstream-http10", "/http10"),
        get("route-timeout", "/timeout/slow"),
        get("per-try-timeout", "/per-try/slow"),
        get("slow-but-in-time", "/slow"),
        get("status-503-passes", "/status/503"),
        get("reason-phrase", "/status/299"),
        get("status-503-retried", "/retry/status/503"),
        get("fault-abort", "/abort"),
        with("grpc-local-reply", "/empty", "content-type: application/grpc\r\nte: trailers\r\n"),
        with("grpc-no-route", "/no-cluster", "content-type: application/grpc\r\n"),
        // Bodies and framing.
        get("no-content", "/no-content"),
        get("chunked-answer", "/chunked"),
        get("early-hints", "/early-hints"),
        raw("head", "HEAD /x HTTP/1.1\r\nhost: app.example\r\nx-case: head\r\n\r\n"),
        raw("head-direct", "HEAD /direct HTTP/1.1\r\nhost: app.example\r\nx-case: head-direct\r\n\r\n"),
        raw(
            "post-length",
            "POST /x HTTP/1.1\r\nhost: app.example\r\nx-case: post-length\r\ncontent-length: 5\r\n\r\nhello",
        ),
        raw(
            "post-chunked",
            "POST /x HTTP/1.1\r\nhost: app.example\r\nx-case: post-chunked\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        raw(
            "get-with-body",
            "GET /x HTTP/1.1\r\nhost: app.example\r\nx-case: get-with-body\r\ncontent-length: 2\r\n\r\nhi",
        ),
        raw(
            "pipelined",
            "GET /direct HTTP/1.1\r\nhost: app.example\r\n\r\nGET /redirect HTTP/1.1\r\nhost: app.example\r\nx-case: pipelined\r\n\r\n",
        ),
        raw(
            "connection-close",
            "GET /direct HTTP/1.1\r\nhost: app.example\r\nx-case: connection-close\r\nconnection: close\r\n\r\n",
        ),
        raw(
            "early-answer",
            "POST /direct HTTP/1.1\r\nhost: app.example\r\nx-case: early-answer\r\ncontent-length: 10\r\n\r\nhalf",
        ),
        // Refused requests.
        raw("not-http", "hello world\r\n\r\n"),
        raw("unknown-method", "FOO / HTTP/1.1\r\nhost: app.example\r\n\r\n"),
        raw("lower-case-method", "get / HTTP/1.1\r\nhost: app.example\r\n\r\n"),
        raw("purge", "PURGE /x HTTP/1.1\r\nhost: app.example\r\nx-case: purge\r\n\r\n"),
        raw("space-before-colon", "GET / HTTP/1.1\r\nhost : app.example\r\n\r\n"),
        raw(
            "two-lengths",
            "POST / HTTP/1.1\r\nhost: app.example\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nhi",
        ),
        raw("negative-length", "POST / HTTP/1.1\r\nhost: app.example\r\ncontent-length: -1\r\n\r\n"),
        raw(
            "length-and-chunked",
            "POST / HTTP/1.1\r\nhost: app.example\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        raw("gzip-encoding", "POST / HTTP/1.1\r\nhost: app.example\r\ntransfer-encoding: gzip\r\n\r\n"),
        raw("bad-chunk", "POST /x HTTP/1.1\r\nhost: app.example\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
        raw("nul-in-value", "GET / HTTP/1.1\r\nhost: app.example\r\nx: a\0b\r\n\r\n"),
        raw("target-star", "GET * HTTP/1.1\r\nhost: app.example\r\n\r\n"),
        raw("target-without-slash", "GET x HTTP/1.1\r\nhost: app.example\r\n\r\n"),
        raw("bad-scheme", "GET ftp://app.example/ HTTP/1.1\r\nhost: app.example\r\n\r\n"),
        raw("bad-host", "GET / HTTP/1.1\r\nhost: a b\r\n\r\n"),
        raw("no-host", "GET / HTTP/1.1\r\nx-case: no-host\r\n\r\n"),
        raw("http10", "GET / HTTP/1.0\r\nhost: app.example\r\n\r\n"),
        raw("http12", "GET / HTTP/1.2\r\nhost: app.example\r\n\r\n"),
        raw("options-star", "OPTIONS * HTTP/1.1\r\nhost: app.example\r\nx-case: options-star\r\n\r\n"),
        raw(
            "connect",
            "CONNECT app.example:443 HTTP/1.1\r\nhost: app.example:443\r\nx-case: connect\r\n\r\n",
        ),
        raw(
            "h2c-upgrade",
            "GET /x HTTP/1.1\r\nhost: app.example\r\nx-case: h2c-upgrade\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
        ),
        raw(
            "upgrade-not-allowed",
            "GET /x HTTP/1.1\r\nhost: app.example\r\nx-case: upgrade-not-allowed\r\nconnection: upgrade\r\nupgrade: irc\r\n\r\n",
        ),
        raw(
            "websocket-refused",
            "GET /x HTTP/1.1\r\nhost: app.example\r\nx-case: websocket-refused\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        ),
        Case {
            pause_at: Some(92),
            ..raw(
                "websocket-echo",
                "GET /ws HTTP/1.1\r\nhost: app.example\r\nx-case: ws\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nping over the tunnel",
            )
        },
        Case {
            pause_at: Some(65),
            ..raw(
                "connect-tunnel",
                "CONNECT tunnel.example:443 HTTP/1.1\r\nhost: tunnel.example:443\r\n\r\nhello",
            )
        },
        get("nul-in-path", "/a%00b"),
        // Path normalisation before routing.
        get("dot-segments", "/x/../direct"),
        get("encoded-dot-segments", "/x/%2e%2e/direct"),
        get("above-the-root", "/../../direct"),
        get("backslash", "\\direct"),
        get("fragment", "/direct#top"),
        get("double-slash-kept", "//direct"),
        get("encoded-slash-kept", "/a%2Fb"),
        // Headers sent by the client.
        with(
            "hop-by-hop",
            "/x",
            "connection: x-private\r\nx-private: 1\r\nkeep-alive: 5\r\nproxy-connection: keep-alive\r\nte: gzip, trailers\r\n",
        ),
        with(
            "envoy-control-headers",
            "/x",
            "x-envoy-retry-on: 5xx\r\nx-envoy-max-retries: 9\r\nx-envoy-upstream-rq-timeout-ms: 1\r\nx-envoy-internal: true\r\n",
        ),
        with(
            "forwarded-kept",
            "/x",
            "x-forwarded-for: 1.2.3.4\r\nx-forwarded-proto: ftp\r\nx-forwarded-client-cert: By=a\r\n",
        ),
        with("obs-fold", "/x", "x-folded: a\r\n b\r\n"),
        with("duplicate-fields", "/x", "x-twice: 1\r\nx-twice: 2\r\n"),
        with("expect-continue-unknown", "/x", "expect: something\r\n"),
        // The client goes away.
        Case { half_close: true, ..get("half-close", "/slow") },
    ];
    let long = format!("GET /direct HTTP/1.1\r\nhost: app.example\r\nx-long: {}\r\n\r\n", "a".repeat(62_000));
    cases.push(Case::new("head-too-large", long));
    let many: String = (0..101).map(|index| format!("x-{index}: 1\r\n")).collect();
    cases.push(Case::new(
        "too-many-fields",
        format!("GET /direct HTTP/1.1\r\nhost: app.example\r\n{many}\r\n"),
    ));
    cases.push(Case { pause_at: Some(20), ..get("split-head", "/direct") });
    cases
}
