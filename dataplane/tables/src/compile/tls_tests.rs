//! TLS contexts and secrets.

use std::time::UNIX_EPOCH;

use ringsail_tls::Utc;
use ringsail_tls::issue::{Issued, Request};
use serde_json::{Value, json};

use super::tests::put;
use super::*;
use crate::diagnostic::Severity;
use crate::metadata::Metadata;

fn request() -> Request {
    let now = UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs()) as i64;
    Request::new(Utc(now - 3600), Utc(now + 3600))
}

struct Made {
    ca: String,
    certificate: String,
    key: String,
}

fn made() -> Made {
    let text = |pem: Vec<u8>| String::from_utf8(pem).unwrap();
    let ca = Issued::self_signed(&Request { is_authority: true, common_name: "root".into(), ..request() })
        .unwrap();
    let leaf = ca.issue(&Request { uri_names: vec!["spiffe://a/ns/b/sa/c".into()], ..request() }).unwrap();
    Made {
        ca: text(ca.certificate_pem().unwrap()),
        certificate: text(leaf.certificate_pem().unwrap()),
        key: text(leaf.key_pem().unwrap()),
    }
}

fn certificate_secret(name: &str, made: &Made) -> Change {
    put(
        ResourceType::Secret,
        json!({"name": name, "tls_certificate": {
            "certificate_chain": {"inline_string": made.certificate}, "private_key": {"inline_string": made.key}}}),
    )
}

fn root_secret(name: &str, made: &Made) -> Change {
    let context = json!({"trusted_ca": {"inline_string": made.ca}});
    put(ResourceType::Secret, json!({"name": name, "validation_context": context}))
}

fn listener(context: Value) -> Change {
    let mut tls = json!({"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"});
    tls.as_object_mut().unwrap().extend(context.as_object().unwrap().clone());
    put(
        ResourceType::Listener,
        json!({"name": "l", "address": {"socket_address": {"address": "127.0.0.1", "port_value": 443}},
            "filter_chains": [{"transport_socket": {"name": "tls", "typed_config": tls},
                "filters": [{"name": "tcp", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                    "stat_prefix": "x", "cluster": "a"}}]}]}),
    )
}

fn cluster(more: Value) -> Change {
    let mut cluster = json!({"name": "a", "type": "STATIC"});
    cluster.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    put(ResourceType::Cluster, cluster)
}

fn upstream(context: Value) -> Value {
    let mut tls =
        json!({"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"});
    tls.as_object_mut().unwrap().extend(context.as_object().unwrap().clone());
    json!({"name": "tls", "typed_config": tls})
}

fn by_name() -> Value {
    json!({"require_client_certificate": true, "common_tls_context": {
        "tls_certificate_sds_secret_configs": [{"name": "default", "sds_config": {"ads": {}}}],
        "combined_validation_context": {"default_validation_context": {},
            "validation_context_sds_secret_config": {"name": "ROOTCA", "sds_config": {"ads": {}}}}}})
}

fn accept(compiler: &mut Compiler, change: Change) -> Arc<Tables> {
    let (tables, diagnostics) = compiler.apply([change]);
    assert_eq!(diagnostics, []);
    tables
}

fn refusal(compiler: &mut Compiler, change: Change) -> String {
    let (_, diagnostics) = compiler.apply([change]);
    let refused = diagnostics.iter().find(|found| found.severity == Severity::Refused);
    let refused = refused.unwrap_or_else(|| panic!("nothing was refused: {diagnostics:?}"));
    format!("{}: {}", refused.field, refused.text)
}

#[test]
fn a_listener_waits_for_its_secrets_and_a_rotated_one_changes_no_listener() {
    let (first, second) = (made(), made());
    let mut compiler = Compiler::new();
    accept(&mut compiler, listener(by_name()));
    assert_eq!(compiler.wanted().secrets, [Str::new("ROOTCA"), Str::new("default")]);
    let tables = accept(&mut compiler, certificate_secret("default", &first));
    assert!(tables.listener_named("l").is_none());
    assert_eq!(compiler.warming().len(), 1);
    let before = accept(&mut compiler, root_secret("ROOTCA", &first));
    let after = accept(&mut compiler, certificate_secret("default", &second));
    let chain = |tables: &Tables| tables.listener_named("l").unwrap().clone();
    assert!(Arc::ptr_eq(&chain(&before), &chain(&after)));
    assert!(after.version > before.version);
    let shown = |tables: &Tables| {
        let tls = chain(tables).filter_chains[0].tls.clone().unwrap();
        tls.settings(tables.secrets()).unwrap().certificates[0].facts().clone()
    };
    assert_ne!(shown(&before), shown(&after));
}

#[test]
fn a_secret_that_would_break_its_users_is_refused_and_the_last_one_stays() {
    let made = made();
    let mut compiler = Compiler::new();
    accept(&mut compiler, listener(by_name()));
    accept(&mut compiler, certificate_secret("default", &made));
    let before = accept(&mut compiler, root_secret("ROOTCA", &made));
    let wrong = put(
        ResourceType::Secret,
        json!({"name": "default", "validation_context": {"trusted_ca": {"inline_string": made.ca}}}),
    );
    assert_eq!(refusal(&mut compiler, wrong), ": secret \"default\" is no certificate");
    let empty = put(ResourceType::Secret, json!({"name": "ROOTCA", "validation_context": {}}));
    assert_eq!(
        refusal(&mut compiler, empty),
        ": requires client certificates without a trusted certificate or pin to judge them by"
    );
    let mismatched = Made { key: self::made().key, ..made };
    let text = refusal(&mut compiler, certificate_secret("default", &mismatched));
    assert!(
        text.starts_with("tls_certificate: the private key does not belong to the certificate"),
        "{text}"
    );
    assert_eq!(compiler.tables().version, before.version);
}

#[test]
fn what_is_not_known_or_would_let_anyone_in_is_refused_where_it_stands() {
    let made = made();
    let certificates = json!([{"certificate_chain": {"inline_string": made.certificate},
        "private_key": {"inline_string": made.key}}]);
    let with = |more: Value, common: Value| {
        let mut common_tls = json!({"tls_certificates": certificates});
        common_tls.as_object_mut().unwrap().extend(common.as_object().unwrap().clone());
        let mut context = json!({"common_tls_context": common_tls});
        context.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        listener(context)
    };
    let at = "filter_chains[0].transport_socket.typed_config";
    for (change, text) in [
        (
            with(json!({"require_client_certificate": true}), json!({})),
            format!(
                "{at}: requires client certificates without a trusted certificate or pin to judge them by"
            ),
        ),
        (
            with(json!({}), json!({"tls_params": {"tls_minimum_protocol_version": "TLSv1_0"}})),
            format!(
                "{at}.common_tls_context.tls_params.tls_minimum_protocol_version: TLS 1.0 and 1.1 are not spoken (RFC 8996)"
            ),
        ),
        (
            with(json!({}), json!({"tls_params": {"cipher_suites": ["NONE"]}})),
            format!("{at}: the cipher suites \"NONE\" hold one that is not known"),
        ),
        (
            with(json!({}), json!({"key_log": {"path": "/tmp/keys"}})),
            format!("{at}.common_tls_context.key_log: keys of sessions are written nowhere"),
        ),
        (
            with(
                json!({}),
                json!({"validation_context": {"match_typed_subject_alt_names": [
                {"san_type": "URI", "matcher": {"exact": "spiffe://x"}}]}}),
            ),
            format!("{at}: names are matched without trusted certificates, and anyone can write any name"),
        ),
        (
            with(json!({}), json!({"validation_context": {"verify_certificate_hash": ["abc"]}})),
            format!("{at}.common_tls_context.validation_context.verify_certificate_hash[0]: is no SHA-256"),
        ),
        (listener(json!({})), format!("{at}.common_tls_context: has no certificate")),
    ] {
        assert_eq!(refusal(&mut Compiler::new(), change), text);
    }
    let both_sides = cluster(json!({"transport_socket": {"name": "tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"}}}));
    let text = refusal(&mut Compiler::new(), both_sides);
    assert!(text.ends_with("is for the other side"), "{text}");
}

#[test]
fn files_become_secrets_that_the_agent_makes() {
    let made = made();
    let mut compiler = Compiler::new();
    let context = json!({"common_tls_context": {"tls_certificates": [
        {"certificate_chain": {"filename": "/a/chain.pem"}, "private_key": {"filename": "/a/key.pem"}}]}});
    accept(&mut compiler, listener(context));
    let wanted = compiler.wanted();
    assert!(wanted.secrets.is_empty());
    let [file] = &wanted.file_secrets[..] else { panic!("{wanted:?}") };
    assert!(compiler.tables().listener_named("l").is_none());
    let tables = accept(&mut compiler, certificate_secret(&file.name, &made));
    assert!(tables.listener_named("l").is_some());
}

#[test]
fn endpoints_choose_among_a_clusters_transports_by_their_metadata() {
    let made = made();
    let mut compiler = Compiler::new();
    let matches = json!([
        {"name": "tlsMode-istio", "match": {"tlsMode": "istio"}, "transport_socket": upstream(json!({
            "sni": "x", "common_tls_context": {"validation_context_sds_secret_config": {"name": "ROOTCA"}}}))},
        {"name": "tlsMode-disabled", "match": {}, "transport_socket": {"name": "envoy.transport_sockets.raw_buffer"}},
    ]);
    accept(&mut compiler, cluster(json!({"transport_socket_matches": matches})));
    assert!(compiler.tables().cluster_named("a").is_none(), "it waits for the secret");
    let tables = accept(&mut compiler, root_secret("ROOTCA", &made));
    let transports = tables.cluster_named("a").unwrap().cluster.connection.transports.clone();
    let fields = crate::metadata::Value::object([(
        Str::new("tlsMode"),
        crate::metadata::Value::String(Str::new("istio")),
    )]);
    let istio = Metadata { namespaces: [(Str::new(crate::tls::TRANSPORT_MATCH), fields)].into() };
    assert_eq!(transports.of(Some(&istio)).unwrap().server_name.as_deref(), Some("x"));
    assert!(transports.of(None).is_none());
}

#[test]
fn other_demands_on_clients_make_another_filter_chain() {
    let made = made();
    let mut compiler = Compiler::new();
    accept(&mut compiler, certificate_secret("default", &made));
    accept(&mut compiler, root_secret("ROOTCA", &made));
    let key = |tables: Arc<Tables>| tables.listener_named("l").unwrap().filter_chains[0].key;
    let before = key(accept(&mut compiler, listener(by_name())));
    let mut optional = by_name();
    optional["require_client_certificate"] = json!(false);
    assert_ne!(before, key(accept(&mut compiler, listener(optional))));
    assert_eq!(before, key(accept(&mut compiler, listener(by_name()))));
}
