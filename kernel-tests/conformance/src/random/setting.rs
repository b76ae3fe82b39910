//! Random configurations: one listener with virtual hosts, routes and everything that hangs on them.
//!
//! Names, values and path segments come from small pools that [`super::traffic`] shares, so that requests hit what routes
//! ask for often enough to matter.

use ringsail_harness::config::{TYPE, bootstrap};
use serde_json::{Map, Value, json};

use super::draw::Draw;
use crate::scenario::{cluster, merge};
use crate::suite::{filter, filter_config};
use crate::suites::http2_upstream;

/// Segments of paths, in requests and in matches.
pub(super) const SEGMENTS: &[&str] =
    &["a", "b", "api", "v1", "A", "a.b", "x-y", "%41", "a%20b", "b;p=1", "~"];
/// Names of header fields.
pub(super) const NAMES: &[&str] = &["x-a", "x-b", "x-c"];
/// Values of header fields and query parameters.
pub(super) const VALUES: &[&str] = &["1", "2", "abc", "ABC", "a b", "-5", "10", "007", "", "1,2", "bc"];
/// Names of query parameters.
pub(super) const PARAMETERS: &[&str] = &["q", "r", "Q"];

/// Domains of virtual hosts; a draw gives each to one host at most.
const DOMAINS: &[&str] = &[
    "a.example",
    "b.example",
    "*.example",
    "*.b.example",
    "a.*",
    "a.example:8080",
    "*.example:8080",
    "10.0.0.1",
    "[::1]:80",
    "A.upper.example",
];
/// What a request's log line says, but for the bytes of a body that nobody wanted (see `differences::LEFT_OUT`).
const LOG_FORMAT: &str = "%REQ(X-CASE)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %REQ(:METHOD)% \
    %REQ(X-ENVOY-ORIGINAL-PATH?:PATH):60% %PROTOCOL% %UPSTREAM_CLUSTER% %ROUTE_NAME% %BYTES_SENT% \
    %UPSTREAM_REQUEST_ATTEMPT_COUNT% %UPSTREAM_TRANSPORT_FAILURE_REASON%\n";
/// Clusters that exist in every setting, and one that does not.
const CLUSTERS: &[&str] = &["one", "one", "two", "many", "h2", "dead", "empty", "missing"];
/// The host whose only route splits its requests; see [`super::split`].
pub(super) const SPLIT_HOST: &str = "split.test";
/// The clusters it splits between, each with the backends that answer for it.
pub(super) const SPLIT: [(&str, &[&str]); 3] =
    [("split-1", &["a"]), ("split-2", &["b"]), ("split-3", &["c", "d"])];

/// A configuration, in the two parts that shrink.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Fields of the HTTP connection manager.
    pub manager: Value,
    /// The route configuration.
    pub routes: Value,
}

impl Setting {
    /// Draws a configuration.
    pub fn draw(draw: &mut Draw) -> Setting {
        let manager = manager(draw);
        let mut hosts = Vec::new();
        let mut domains = DOMAINS.to_vec();
        for index in 0..draw.between(1, 4) {
            let count = draw.between(1, 2) as usize;
            let own = draw.some(&domains, count);
            domains.retain(|domain| !own.contains(domain));
            hosts.push(virtual_host(draw, &format!("host-{index}"), json!(own)));
        }
        if draw.chance(80) {
            hosts.push(virtual_host(draw, "any", json!(["*"])));
        }
        hosts.push(splitting_host(draw));
        let mut routes = json!({"name": "random", "validate_clusters": false, "virtual_hosts": hosts});
        header_edits(draw, &mut routes, 15);
        if draw.chance(20) {
            routes["most_specific_header_mutations_wins"] = json!(true);
        }
        if draw.chance(20) {
            routes["ignore_port_in_host_matching"] = json!(true);
        }
        Setting { manager, routes }
    }

    /// The bootstrap of it, as [`ringsail_harness::peer::Peer`] takes it.
    pub fn bootstrap(&self) -> Value {
        let mut manager = json!({
            "@type": format!("{TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": "random", "codec_type": "AUTO", "stream_idle_timeout": "0s",
            "access_log": [{"name": "envoy.access_loggers.file", "typed_config": {
                "@type": format!("{TYPE}envoy.extensions.access_loggers.file.v3.FileAccessLog"), "path": "ACCESS_LOG",
                "log_format": {"text_format_source": {"inline_string": LOG_FORMAT}}}}],
            "http_filters": [
                filter("cors", "cors.v3.Cors", json!({})),
                filter("fault", "fault.v3.HTTPFault", json!({})),
                filter("router", "router.v3.Router", json!({}))],
            "route_config": self.routes
        });
        merge(&mut manager, self.manager.clone());
        let listener = json!({"name": "random", "traffic_direction": "OUTBOUND",
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
            "filter_chains": [{"filters": [
                {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}]});
        let mut bootstrap = bootstrap(json!([listener]), clusters());
        // As Istio's bootstrap has it: a fragment is cut off instead of refused.
        bootstrap["layered_runtime"] = json!({"layers": [{"name": "static", "static_layer":
            {"envoy.reloadable_features.http_reject_path_with_fragment": false}}]});
        bootstrap
    }

    /// The split's weights, in the order of [`SPLIT`]; `None` when shrinking took the host away.
    pub(super) fn split_weights(&self) -> Option<Vec<u64>> {
        let hosts = self.routes["virtual_hosts"].as_array()?;
        let host = hosts.iter().find(|host| host["name"] == "split")?;
        let clusters = host.pointer("/routes/0/route/weighted_clusters/clusters")?.as_array()?;
        Some(clusters.iter().map(|cluster| cluster["weight"].as_u64().unwrap_or(0)).collect())
    }
}

/// The clusters of every setting. Retries of concurrent requests must not meet a breaker.
fn clusters() -> Value {
    let breakers = json!({"circuit_breakers": {"thresholds": [{"max_retries": 1000}]}});
    let with = |mut cluster: Value| {
        merge(&mut cluster, breakers.clone());
        cluster
    };
    let mut h2 = cluster("h2", &["ha"]);
    merge(&mut h2, http2_upstream());
    let shares = SPLIT.iter().map(|(name, backends)| cluster(name, backends));
    let others = [
        with(cluster("one", &["a"])),
        with(cluster("two", &["b"])),
        with(cluster("many", &["c"])),
        with(h2),
        with(cluster("dead", &["refused"])),
        with(cluster("empty", &[])),
    ];
    shares.chain(others).collect()
}

fn manager(draw: &mut Draw) -> Value {
    let mut fields = json!({"use_remote_address": draw.chance(50)});
    let mut may = |percent: u32, name: &str, values: &[Value]| {
        if draw.chance(percent) {
            let values: Vec<&Value> = values.iter().collect();
            fields[name] = draw.one(&values).clone();
        }
    };
    may(60, "normalize_path", &[json!(true), json!(false)]);
    may(30, "merge_slashes", &[json!(true)]);
    may(30, "path_with_escaped_slashes_action", &[json!("KEEP_UNCHANGED"), json!("UNESCAPE_AND_FORWARD")]);
    may(20, "strip_any_host_port", &[json!(true)]);
    may(20, "strip_trailing_host_dot", &[json!(true)]);
    may(20, "server_name", &[json!("random")]);
    may(20, "server_header_transformation", &[json!("PASS_THROUGH"), json!("APPEND_IF_ABSENT")]);
    may(20, "via", &[json!("random")]);
    may(20, "preserve_external_request_id", &[json!(true)]);
    may(20, "always_set_request_id_in_response", &[json!(true)]);
    may(10, "generate_request_id", &[json!(false)]);
    may(20, "skip_xff_append", &[json!(true)]);
    may(20, "xff_num_trusted_hops", &[json!(1), json!(2)]);
    may(
        30,
        "common_http_protocol_options",
        &[
            json!({"headers_with_underscores_action": "REJECT_REQUEST"}),
            json!({"headers_with_underscores_action": "DROP_HEADER"}),
            json!({"max_headers_count": 20}),
        ],
    );
    may(
        30,
        "internal_address_config",
        &[json!({"cidr_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]})],
    );
    fields
}

fn virtual_host(draw: &mut Draw, name: &str, domains: Value) -> Value {
    let count = draw.between(1, 7);
    let mut routes: Vec<Value> = (0..count).map(|index| route(draw, &format!("{name}-{index}"))).collect();
    if draw.chance(70) {
        routes.push(
            json!({"name": format!("{name}-rest"), "match": {"prefix": "/"}, "route": {"cluster": "one"}}),
        );
    }
    let mut host = json!({"name": name, "domains": domains, "routes": routes});
    header_edits(draw, &mut host, 15);
    for field in ["include_request_attempt_count", "include_attempt_count_in_response"] {
        if draw.chance(30) {
            host[field] = json!(true);
        }
    }
    if draw.chance(5) {
        host["require_tls"] = json!(draw.one(&["ALL", "EXTERNAL_ONLY"]));
    }
    if draw.chance(15) {
        host["retry_policy"] = retry_policy(draw);
    }
    filters(draw, &mut host, 8);
    host
}

fn splitting_host(draw: &mut Draw) -> Value {
    let clusters: Vec<Value> =
        SPLIT.iter().map(|(name, _)| json!({"name": name, "weight": draw.between(0, 60) + 1})).collect();
    json!({"name": "split", "domains": [SPLIT_HOST], "routes": [
        {"name": "split", "match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": clusters}}}]})
}

fn route(draw: &mut Draw, name: &str) -> Value {
    let mut route = json!({"name": name, "match": condition(draw)});
    match draw.between(0, 99) {
        0..70 => route["route"] = action(draw),
        70..86 => route["redirect"] = redirect(draw),
        _ => {
            route["direct_response"] = json!({"status": draw.one(&[&200u16, &204, &304, &404, &418, &503])});
            if draw.chance(60) {
                route["direct_response"]["body"] =
                    json!({"inline_string": draw.one(&["hello", "{\"a\": 1}", ""])});
            }
        }
    }
    header_edits(draw, &mut route, 20);
    if draw.chance(10) {
        route["decorator"] = json!({"operation": "op", "propagate": draw.chance(50)});
    }
    filters(draw, &mut route, 12);
    route
}

fn path(draw: &mut Draw, segments_max: u32) -> String {
    let count = draw.between(0, segments_max);
    (0..count).map(|_| format!("/{}", draw.one(SEGMENTS))).collect()
}

fn condition(draw: &mut Draw) -> Value {
    let mut condition = match draw.between(0, 9) {
        0..4 => json!({"prefix": format!("{}{}", path(draw, 2), draw.one(&["/", "", "/a"]))}),
        4..6 => json!({"path": format!("/{}{}", draw.one(SEGMENTS), path(draw, 1))}),
        6..8 => json!({"path_separated_prefix": format!("/{}{}", draw.one(SEGMENTS), path(draw, 1))}),
        _ => json!({"safe_regex": {"regex":
            draw.one(&["/[ab]/.*", "/(a|b|api)(/v[0-9]+)?", ".*[0-9]$", "(?i)/a(/.*)?", "/", "/[^/]+/[^/]+"])}}),
    };
    if condition.get("prefix").is_some_and(|prefix| prefix == "") {
        condition["prefix"] = json!("/");
    }
    if draw.chance(15) {
        condition["case_sensitive"] = json!(false);
    }
    let count = [0, 0, 0, 1, 1, 2][draw.between(0, 5) as usize];
    if count > 0 {
        condition["headers"] = (0..count).map(|_| header_matcher(draw)).collect();
    }
    if draw.chance(15) {
        let mut matcher = json!({"name": draw.one(PARAMETERS)});
        if draw.chance(30) {
            matcher["present_match"] = json!(true);
        } else {
            matcher["string_match"] = string_matcher(draw);
        }
        condition["query_parameters"] = json!([matcher]);
    }
    if draw.chance(8) {
        condition["runtime_fraction"] = json!({"default_value": {"numerator": draw.one(&[&0, &100])}});
    }
    if draw.chance(4) {
        condition["grpc"] = json!({});
    }
    condition
}

fn string_matcher(draw: &mut Draw) -> Value {
    let kind = draw.one(&["exact", "prefix", "suffix", "contains"]);
    let value = draw.one(&["1", "2", "abc", "a", "bc", "a b", "b"]);
    if draw.chance(15) {
        return json!({"safe_regex": {"regex": draw.one(&["[0-9]+", "a.*", "abc|1", ".*"])}});
    }
    let mut matcher = json!({kind: value});
    if draw.chance(25) {
        matcher["ignore_case"] = json!(true);
    }
    matcher
}

fn header_matcher(draw: &mut Draw) -> Value {
    let name =
        draw.one(&["x-a", "x-a", "x-b", "x-c", ":method", ":authority", ":path", "content-type", "cookie"]);
    let mut matcher = json!({"name": name});
    match draw.between(0, 9) {
        0 | 1 => matcher["present_match"] = json!(draw.chance(60)),
        2 | 3 => {
            matcher["range_match"] = json!({"start": draw.one(&[&-10, &0, &2]), "end": draw.one(&[&3, &11])})
        }
        _ => matcher["string_match"] = string_matcher(draw),
    }
    if draw.chance(25) {
        matcher["invert_match"] = json!(true);
    }
    if draw.chance(15) {
        matcher["treat_missing_header_as_empty"] = json!(true);
    }
    matcher
}

fn action(draw: &mut Draw) -> Value {
    let mut action = match draw.between(0, 19) {
        0 => json!({"cluster_header": "x-cluster"}),
        1 | 2 => {
            let (chosen, other) = (draw.one(&["one", "two", "h2"]), draw.one(&["many", "dead"]));
            let mut clusters = json!([{"name": chosen, "weight": 100}, {"name": other, "weight": 0}]);
            header_edits(draw, &mut clusters[0], 40);
            if draw.chance(20) {
                clusters[0]["host_rewrite_literal"] = json!("weighted.example");
            }
            json!({"weighted_clusters": {"clusters": clusters}})
        }
        _ => json!({"cluster": draw.one(CLUSTERS)}),
    };
    action["timeout"] = json!(draw.one(&["0s", "3s", "3s"]));
    if draw.chance(20) {
        action["cluster_not_found_response_code"] = json!(draw.one(&["NOT_FOUND", "INTERNAL_SERVER_ERROR"]));
    }
    match draw.between(0, 9) {
        0 | 1 => action["prefix_rewrite"] = json!(draw.one(&["/", "/new", "/new/", "/n?x=1"])),
        2 => action["regex_rewrite"] = substitution(draw),
        _ => {}
    }
    match draw.between(0, 19) {
        0 | 1 => action["host_rewrite_literal"] = json!("literal.example"),
        2 => action["host_rewrite_header"] = json!("x-a"),
        3 => action["host_rewrite_path_regex"] = substitution(draw),
        _ => {}
    }
    if draw.chance(15) {
        action["append_x_forwarded_host"] = json!(true);
    }
    if draw.chance(35) {
        action["retry_policy"] = retry_policy(draw);
    }
    if draw.chance(8) {
        action["hash_policy"] = json!([{"cookie": {"name": "c", "ttl": "60s", "path": "/p"}}]);
    }
    action
}

fn substitution(draw: &mut Draw) -> Value {
    let (regex, with) =
        [("^/([^/]+)/(.*)$", "/\\2/\\1"), ("[ab]", "z"), ("^/never$", "/x"), ("/api(/v1)?", "/w\\1")]
            [draw.between(0, 3) as usize];
    json!({"pattern": {"regex": regex}, "substitution": with})
}

fn retry_policy(draw: &mut Draw) -> Value {
    let on = draw.one(&[
        "5xx",
        "gateway-error",
        "connect-failure",
        "reset",
        "retriable-4xx",
        "retriable-status-codes",
        "refused-stream",
        "reset-before-request",
        "retriable-headers",
        "unavailable,internal",
        "5xx,retriable-4xx,connect-failure",
        "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
    ]);
    let mut policy = json!({"retry_on": on, "num_retries": draw.between(0, 3),
        "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.002s"}});
    if on.contains("status-codes") {
        policy["retriable_status_codes"] = json!([418, 503]);
    }
    if on.contains("headers") {
        policy["retriable_headers"] = json!([{"name": "x-up", "present_match": true}]);
    }
    if draw.chance(15) {
        policy["retriable_request_headers"] = json!([{"name": "x-a", "present_match": true}]);
    }
    policy
}

fn redirect(draw: &mut Draw) -> Value {
    let mut redirect = json!({});
    match draw.between(0, 4) {
        0 => redirect["https_redirect"] = json!(true),
        1 => redirect["scheme_redirect"] = json!("https"),
        _ => {}
    }
    if draw.chance(40) {
        redirect["host_redirect"] = json!(draw.one(&["other.example", "other.example:81"]));
    }
    if draw.chance(25) {
        redirect["port_redirect"] = json!(draw.one(&[&443, &80, &8080]));
    }
    match draw.between(0, 5) {
        0 | 1 => redirect["path_redirect"] = json!(draw.one(&["/p", "/p?z=1", "/"])),
        2 => redirect["prefix_rewrite"] = json!(draw.one(&["/", "/new", "/n?x=1"])),
        3 => redirect["regex_rewrite"] = substitution(draw),
        _ => {}
    }
    if draw.chance(30) {
        redirect["strip_query"] = json!(true);
    }
    if draw.chance(50) {
        redirect["response_code"] =
            json!(draw.one(&["FOUND", "SEE_OTHER", "TEMPORARY_REDIRECT", "PERMANENT_REDIRECT"]));
    }
    redirect
}

/// Adds and removes fields at this level, each kind with a probability of `percent`.
fn header_edits(draw: &mut Draw, level: &mut Value, percent: u32) {
    const REQUEST: &[&str] = &[
        "3",
        "",
        "%REQ(X-A)%",
        "%REQ(:PATH)%",
        "100%%",
        "%PROTOCOL%",
        "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        "%REQ(X-NONE?X-B):2%",
        "a,b",
    ];
    const RESPONSE: &[&str] = &[
        "3",
        "",
        "%RESP(X-BACKEND)%",
        "%RESPONSE_CODE%",
        "%RESPONSE_FLAGS%",
        "%ROUTE_NAME%",
        "%UPSTREAM_CLUSTER%",
        "%RESPONSE_CODE_DETAILS%",
        "%REQ(X-A)%",
    ];
    for (field, values) in [("request_headers_to_add", REQUEST), ("response_headers_to_add", RESPONSE)] {
        if draw.chance(percent) {
            let count = draw.between(1, 2);
            level[field] = (0..count).map(|_| header_edit(draw, values)).collect();
        }
    }
    for (field, names) in [
        ("request_headers_to_remove", ["x-a", "x-b", "cookie"]),
        ("response_headers_to_remove", ["x-a", "x-up", "server"]),
    ] {
        if draw.chance(percent / 2) {
            level[field] = json!(draw.some(&names, 1));
        }
    }
}

fn header_edit(draw: &mut Draw, values: &[&str]) -> Value {
    let mut edit =
        json!({"header": {"key": draw.one(&["x-a", "x-b", "x-new", "x-up"]), "value": draw.one(values)}});
    if draw.chance(75) {
        edit["append_action"] = json!(draw.one(&[
            "APPEND_IF_EXISTS_OR_ADD",
            "ADD_IF_ABSENT",
            "OVERWRITE_IF_EXISTS_OR_ADD",
            "OVERWRITE_IF_EXISTS"
        ]));
    }
    edit
}

/// Faults that happen always or never, and CORS policies, each with a probability of `percent`.
fn filters(draw: &mut Draw, level: &mut Value, percent: u32) {
    let mut filters = Map::new();
    if draw.chance(percent) {
        let percentage = json!({"numerator": draw.one(&[&0, &100, &100]), "denominator": "HUNDRED"});
        let mut fault = json!({});
        if draw.chance(80) {
            fault["abort"] = match draw.between(0, 3) {
                0 => json!({"grpc_status": 14, "percentage": percentage}),
                1 => json!({"header_abort": {}, "percentage": percentage}),
                _ => json!({"http_status": draw.one(&[&418, &503]), "percentage": percentage}),
            };
        } else {
            fault["delay"] = json!({"fixed_delay": "0.05s", "percentage": percentage});
        }
        if fault.get("delay").is_some() {
            // See `differences::LEFT_OUT`.
            fault["headers"] = json!([{"name": ":method", "string_match": {"exact": "GET"}}]);
        } else if draw.chance(40) {
            fault["headers"] = json!([header_matcher(draw)]);
        }
        filters.insert("envoy.filters.http.fault".to_string(), filter_config("fault.v3.HTTPFault", fault));
    }
    if draw.chance(percent) {
        let mut policy =
            json!({"allow_origin_string_match": [{"exact": "https://a.example"}, {"suffix": ".org"}]});
        for (field, value) in [
            ("allow_methods", json!("GET,POST")),
            ("allow_headers", json!("x-a")),
            ("expose_headers", json!("x-up")),
            ("max_age", json!("60")),
            ("allow_credentials", json!(true)),
            ("forward_not_matching_preflights", json!(false)),
        ] {
            if draw.chance(40) {
                policy[field] = value;
            }
        }
        filters.insert("envoy.filters.http.cors".to_string(), filter_config("cors.v3.CorsPolicy", policy));
    }
    if !filters.is_empty() {
        level["typed_per_filter_config"] = Value::Object(filters);
    }
}
