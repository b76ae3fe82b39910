use serde_json::json;

use super::*;
use crate::envoy::admin::v3::Memory;
use crate::envoy::config::cluster::v3::Cluster;
use crate::envoy::config::listener::v3::Listener;
use crate::type_url;

/// Reads a listener with one filter and prints it again.
fn through_listener(typed_config: Value) -> Value {
    let schema = Schema::shared();
    let written = json!({"filter_chains": [{"filters": [{"name": "f", "typed_config": typed_config}]}]});
    let listener: Listener = schema.from_json(&written).expect("valid");
    let printed = schema.to_json(&listener, Print::Set);
    printed["filter_chains"][0]["filters"][0]["typed_config"].clone()
}

fn cluster_error(value: Value) -> String {
    Schema::shared().from_json::<Cluster>(&value).expect_err("must not be accepted").to_string()
}

#[test]
fn a_message_prints_as_it_was_written() {
    let schema = Schema::shared();
    let written = json!({
        "name": "a",
        "type": "STRICT_DNS",
        "connect_timeout": "0.250s",
        "per_connection_buffer_limit_bytes": 32768,
        "lb_policy": "LEAST_REQUEST",
        "load_assignment": {
            "cluster_name": "a",
            "endpoints": [{
                "lb_endpoints": [{
                    "endpoint": {"address": {"socket_address": {"address": "10.0.0.1", "port_value": 80}}},
                    "metadata": {"filter_metadata": {"envoy.lb": {"list": [1, 2.5, "x", true, null, {}]}}},
                }],
            }],
        },
        "outlier_detection": {"max_ejection_percent": 0},
    });
    let cluster: Cluster = schema.from_json(&written).expect("valid");
    let mut printed = schema.to_json(&cluster, Print::Set);
    printed.sort_all_objects();
    let mut written = written;
    written.sort_all_objects();
    assert_eq!(printed, written);
}

#[test]
fn both_spellings_of_a_field_are_read_but_not_both_at_once() {
    let schema = Schema::shared();
    let cluster: Cluster = schema.from_json(&json!({"connectTimeout": "1s"})).expect("valid");
    assert_eq!(cluster.connect_timeout.expect("set").seconds, 1);
    assert_eq!(
        cluster_error(json!({"connectTimeout": "1s", "connect_timeout": "2s"})),
        "connect_timeout: is given twice"
    );
}

#[test]
fn a_known_type_in_an_any_is_read_and_printed() {
    let router = json!({"@type": type_url::TCP_PROXY, "stat_prefix": "x", "cluster": "a"});
    assert_eq!(through_listener(router.clone()), router);
}

#[test]
fn an_unknown_type_in_an_any_is_kept_as_a_typed_struct() {
    let unknown = json!({"@type": "type.googleapis.com/some.Filter", "a": [1], "value": {"b": null}});
    assert_eq!(
        through_listener(unknown),
        json!({
            "@type": type_url::TYPED_STRUCT,
            "type_url": "type.googleapis.com/some.Filter",
            "value": {"a": [1], "value": {"b": null}},
        })
    );
}

#[test]
fn an_unknown_type_without_fields_needs_no_wrapping() {
    let schema = Schema::shared();
    let any = schema.any_from_json(&json!({"@type": "type.googleapis.com/some.Filter"})).expect("valid");
    assert_eq!((any.type_url.as_str(), any.value.len()), ("type.googleapis.com/some.Filter", 0));
}

#[test]
fn unknown_bytes_are_printed_in_base64_and_read_back() {
    let opaque = json!({"@type": "type.googleapis.com/some.Filter", "value": "AAEC"});
    assert_eq!(through_listener(opaque.clone()), opaque);
}

#[test]
fn a_well_known_type_in_an_any_sits_under_value() {
    let wrapped = json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": "x"});
    assert_eq!(through_listener(wrapped.clone()), wrapped);
}

#[test]
fn errors_say_where_and_how_to_write_it() {
    assert_eq!(
        cluster_error(json!({"conect_timeout": "1s"})),
        "conect_timeout: is no field of envoy.config.cluster.v3.Cluster: did you mean \"connect_timeout\"?"
    );
    assert_eq!(
        cluster_error(json!({"connect_timeout": 1})),
        "connect_timeout: 1 is no duration: write seconds with the letter s, as in \"0.25s\""
    );
    assert_eq!(cluster_error(json!({"name": 1})), "name: must be a string, found 1");
    assert_eq!(
        cluster_error(json!({"load_assignment": {"endpoints": [{}, {"priority": -1}]}})),
        "load_assignment.endpoints[1].priority: must be a whole number from 0 to 4294967295, found -1"
    );
    assert!(
        cluster_error(json!({"type": "EDSX"})).starts_with("type: \"EDSX\" is none of STATIC, STRICT_DNS")
    );
    assert_eq!(
        cluster_error(json!({"type": "EDS", "cluster_type": {"name": "x"}})),
        "cluster_type: cannot be set together with type"
    );
}

#[test]
fn nesting_is_bounded() {
    let mut value = json!("x");
    for _ in 0..200 {
        value = json!({"a": value});
    }
    let error = cluster_error(json!({"metadata": {"filter_metadata": {"a": value}}}));
    assert!(error.ends_with("is nested deeper than 100 levels"), "{error}");
}

#[test]
fn defaults_are_printed_where_envoy_prints_them() {
    let printed =
        Schema::shared().to_json(&Memory { allocated: 5, ..Memory::default() }, Print::WithDefaults);
    assert_eq!(
        printed,
        json!({
            "allocated": "5", "heap_size": "0", "pageheap_unmapped": "0", "pageheap_free": "0",
            "total_thread_cache": "0", "total_physical_bytes": "0",
        })
    );
}

#[test]
fn durations_and_wrappers_may_be_written_as_plain_fields() {
    let schema = Schema::shared();
    let plain: Cluster = schema
        .from_json(
            &json!({"connect_timeout": {"seconds": 5}, "per_connection_buffer_limit_bytes": {"value": 7}}),
        )
        .expect("Envoy takes this form");
    let short: Cluster = schema
        .from_json(&json!({"connect_timeout": "5s", "per_connection_buffer_limit_bytes": 7}))
        .expect("the usual form");
    assert_eq!(plain, short);
}
