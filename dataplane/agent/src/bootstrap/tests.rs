use super::*;
use crate::options::Command;

fn load(yaml: &str, flags: &[&str]) -> Result<Bootstrap, String> {
    let arguments =
        ["--config-yaml", yaml].into_iter().chain(flags.iter().copied()).map(|text| text.to_string());
    let Ok(Command::Run(options)) = Options::parse(arguments) else { panic!("flags") };
    Bootstrap::load(&options).map_err(|error| error.to_string())
}

const ADS: &str = r#"
node: {id: sidecar~10.0.0.5~a.b~b.svc.cluster.local, cluster: a.b, metadata: {INTERCEPTION_MODE: NONE}}
admin: {address: {socket_address: {address: 127.77.0.5, port_value: 15000}}}
dynamic_resources:
  ads_config:
    api_type: DELTA_GRPC
    transport_api_version: V3
    grpc_services: [{envoy_grpc: {cluster_name: xds-grpc}, initial_metadata: [{key: ClusterID, value: k}]}]
  cds_config: {ads: {}, initial_fetch_timeout: 0s, resource_api_version: V3}
  lds_config: {ads: {}, resource_api_version: V3}
static_resources:
  clusters:
  - name: xds-grpc
    type: STATIC
    connect_timeout: 1s
    load_assignment:
      cluster_name: xds-grpc
      endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: ./XDS}}}}]}]
layered_runtime:
  layers:
  - name: global config
    static_layer: {re2: {max_program_size: {error_level: 32768}}, envoy.x: "false"}
"#;

#[test]
fn the_bootstrap_of_a_sidecar_is_understood() {
    let bootstrap = load(ADS, &["--service-cluster", "other"]).expect("valid");
    assert_eq!(bootstrap.node.cluster, "other");
    assert_eq!(bootstrap.admin.expect("admin").to_string(), "127.77.0.5:15000");
    let ads = bootstrap.ads.expect("ads");
    assert_eq!(ads.variant, ringsail_xds::protocol::Variant::Delta);
    assert_eq!(ads.target, Target::Pipe("./XDS".into()));
    assert_eq!(ads.metadata, [("clusterid".to_string(), "k".to_string())]);
    assert_eq!(bootstrap.clusters, Some(Source::Ads { initial_fetch_timeout: None }));
    assert_eq!(
        bootstrap.listeners,
        Some(Source::Ads { initial_fetch_timeout: Some(Duration::from_secs(15)) })
    );
    assert_eq!(bootstrap.runtime["re2.max_program_size.error_level"], 32768);
    assert_eq!(bootstrap.runtime["envoy.x"], "false");
    assert_eq!(bootstrap.runtime_layers, ["global config"]);
}

#[test]
fn every_flavour_of_source_is_known() {
    let files = "dynamic_resources: {cds_config: {path_config_source: {path: /cds.yaml}}, lds_config: {path: l.json}}";
    let bootstrap = load(files, &[]).expect("valid");
    assert_eq!(bootstrap.clusters, Some(Source::Path("/cds.yaml".into())));
    assert_eq!(bootstrap.listeners, Some(Source::Path("l.json".into())));
    let sotw = ADS.replace("DELTA_GRPC", "GRPC");
    assert_eq!(
        load(&sotw, &[]).expect("valid").ads.expect("ads").variant,
        ringsail_xds::protocol::Variant::StateOfTheWorld
    );
}

#[test]
fn what_cannot_work_is_refused_with_line_and_field() {
    for (from, to, error) in [
        (
            "cluster_name: xds-grpc},",
            "cluster_name: nonesuch},",
            ":5:3: dynamic_resources.ads_config: cluster \"nonesuch\" is not in static_resources",
        ),
        (
            "api_type: DELTA_GRPC",
            "api_type: REST",
            ":5:3: dynamic_resources.ads_config: api_type REST is not supported: use GRPC or DELTA_GRPC",
        ),
        ("127.77.0.5", "here", ":3:36: admin.address.socket_address.address: \"here\" is no IP address"),
        (
            "type: STATIC",
            "typ: STATIC",
            ":14:5: static_resources.clusters[0].typ: is no field of envoy.config.cluster.v3.Cluster: did you mean \"type\"?",
        ),
        (
            "lds_config: {ads: {},",
            "lds_config: {self: {},",
            ":10:3: dynamic_resources.lds_config: self is not supported here: use ads",
        ),
        (
            "    connect_timeout: 1s",
            "    transport_socket: {name: envoy.transport_sockets.tls}",
            ":5:3: dynamic_resources.ads_config: cluster \"xds-grpc\" has a transport_socket: TLS to the control plane is not supported yet",
        ),
    ] {
        let text = ADS.replace(from, to);
        assert_eq!(load(&text, &[]).expect_err("refused"), format!("--config-yaml{error}"));
    }
}

#[test]
fn ads_without_a_control_plane_is_refused() {
    let error = load("dynamic_resources: {lds_config: {ads: {}}}", &[]).expect_err("refused");
    assert!(error.ends_with("dynamic_resources.lds_config: uses ads, but there is no ads_config"), "{error}");
}

#[test]
fn the_text_on_the_command_line_is_merged_over_the_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("b.json");
    std::fs::write(&file, r#"{"node": {"id": "a", "cluster": "c"}}"#).expect("written");
    let flags = ["-c", file.to_str().expect("a path"), "--service-zone", "z"];
    let bootstrap = load("node: {id: b}", &flags).expect("valid");
    assert_eq!((bootstrap.node.id.as_str(), bootstrap.node.cluster.as_str()), ("b", "c"));
    assert_eq!(bootstrap.node.locality.expect("set").zone, "z");
}

use std::time::Duration;

#[test]
fn statistics_are_shown_as_the_bootstrap_asks() {
    let list = |kind: &str| {
        format!(
            "stats_config: {{stats_matcher: {{{kind}: {{patterns: [{{prefix: server}}, {{safe_regex: {{regex: 'vhost.*x'}}}}]}}}}}}"
        )
    };
    let shown = |yaml: &str| load(yaml, &[]).expect("valid").shown;
    let only = shown(&list("inclusion_list"));
    assert!(only.contains("server.live") && only.contains("vhost.a.x") && !only.contains("cluster.a.x"));
    let but = shown(&list("exclusion_list"));
    assert!(!but.contains("server.live") && but.contains("cluster.a.x"));
    assert!(!shown("stats_config: {stats_matcher: {reject_all: true}}").contains("server.live"));
    assert!(shown("{}").is_all());
}

#[test]
fn buckets_that_cannot_be_had_are_refused() {
    let buckets = |list: &str| {
        load(
            &format!(
                "stats_config: {{histogram_bucket_settings: [{{match: {{prefix: x}}, buckets: {list}}}]}}"
            ),
            &[],
        )
    };
    assert!(buckets("[1, 2.5]").is_ok());
    for bad in ["[]", "[2, 1]"] {
        let error = buckets(bad).expect_err(bad);
        assert!(error.contains("histogram_bucket_settings"), "{error}");
    }
}
