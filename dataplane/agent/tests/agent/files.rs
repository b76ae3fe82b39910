use std::path::Path;

use ringsail_agent::Phase;

use crate::proxy::{Proxy, eventually};

fn replace(path: &Path, text: &str) {
    let fresh = path.with_extension("fresh");
    std::fs::write(&fresh, text).expect("written");
    std::fs::rename(&fresh, path).expect("renamed");
}

fn cluster(name: &str, more: &str) -> String {
    format!(
        "- {{'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster, name: {name}, type: STATIC{more}}}\n"
    )
}

fn bootstrap(dir: &Path) -> String {
    format!(
        r#"
dynamic_resources:
  cds_config: {{path_config_source: {{path: {0}/cds.yaml}}}}
  lds_config: {{path_config_source: {{path: {0}/lds.yaml}}}}
"#,
        dir.display()
    )
}

fn listener(dir: &Path) -> String {
    format!(
        r#"
resources:
- '@type': type.googleapis.com/envoy.config.listener.v3.Listener
  name: l
  address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
  filter_chains:
  - filters:
    - name: envoy.filters.network.http_connection_manager
      typed_config:
        '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
        stat_prefix: x
        rds: {{route_config_name: r, config_source: {{path_config_source: {{path: {}/rds.yaml}}}}}}
        http_filters:
        - name: envoy.filters.http.router
          typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
"#,
        dir.display()
    )
}

fn routes(cluster: &str) -> String {
    format!(
        r#"
resources:
- '@type': type.googleapis.com/envoy.config.route.v3.RouteConfiguration
  name: r
  virtual_hosts: [{{name: v, domains: ["*"], routes: [{{match: {{prefix: /}}, route: {{cluster: {cluster}}}}}]}}]
"#
    )
}

#[test]
fn files_are_followed_when_they_are_renamed_in() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    replace(&at("cds.yaml"), &format!("version_info: '1'\nresources:\n{}", cluster("a", "")));
    replace(&at("lds.yaml"), &listener(dir.path()));
    replace(&at("rds.yaml"), &routes("a"));
    let proxy = Proxy::start(&bootstrap(dir.path()));
    eventually("live", || proxy.agent.phase() == Phase::Live);
    assert_eq!(proxy.clusters(), ["a"]);
    assert_eq!(proxy.get("/listeners"), "l::127.0.0.1:0\n");

    replace(
        &at("cds.yaml"),
        &format!("version_info: '2'\nresources:\n{}{}", cluster("b", ""), cluster("c", "")),
    );
    eventually("the new clusters", || proxy.clusters() == ["b", "c"]);
    replace(&at("rds.yaml"), &routes("b"));
    eventually("the new route", || {
        let dump = proxy.json("/config_dump?resource=dynamic_route_configs");
        dump["configs"][0]["route_config"]["virtual_hosts"][0]["routes"][0]["route"]["cluster"] == "b"
    });
    let dump = proxy.json("/config_dump?resource=dynamic_active_clusters");
    assert_eq!(dump["configs"][0]["version_info"], "2");
}

#[test]
fn a_broken_file_changes_nothing_and_is_counted() {
    let dir = tempfile::tempdir().expect("a directory");
    let cds = dir.path().join("cds.yaml");
    replace(&cds, &format!("resources:\n{}", cluster("a", "")));
    let proxy = Proxy::start(&bootstrap(dir.path()));
    eventually("read", || proxy.clusters() == ["a"]);
    replace(&cds, "resources: [");
    eventually("counted", || proxy.stat("cluster_manager.cds.update_failure") == Some(1));
    assert_eq!(proxy.clusters(), ["a"]);
    // One bad cluster does not stop the others, and nothing is taken for gone.
    replace(&cds, &format!("resources:\n{}{}", cluster("b", ""), cluster("c", ", connect_timeout: soon")));
    eventually("the good one", || proxy.clusters() == ["a", "b"]);
    assert_eq!(proxy.stat("cluster_manager.cds.update_rejected"), Some(1));
    replace(&cds, &format!("resources:\n{}", cluster("b", "")));
    eventually("mended", || proxy.clusters() == ["b"]);
    assert_eq!(proxy.stat("cluster_manager.cds.update_success"), Some(2));
}

#[test]
fn broken_route_files_are_counted_where_envoy_counts_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    replace(&at("cds.yaml"), &format!("resources:\n{}", cluster("a", "")));
    replace(&at("lds.yaml"), &listener(dir.path()));
    replace(&at("rds.yaml"), &routes("a"));
    let proxy = Proxy::start(&bootstrap(dir.path()));
    eventually("live", || proxy.agent.phase() == Phase::Live);
    let broken = [
        ("not YAML", "resources: [".to_string(), "update_failure", 1),
        ("an unknown field", routes("a").replace("domains", "domain"), "update_rejected", 1),
        (
            "a bad expression",
            routes("a").replace("prefix: /", "safe_regex: {regex: '('}"),
            "update_rejected",
            2,
        ),
    ];
    for (what, text, counter, count) in broken {
        replace(&at("rds.yaml"), &text);
        eventually(what, || proxy.stat(&format!("http.x.rds.r.{counter}")) == Some(count));
    }
    assert_eq!(proxy.stat("http.x.rds.r.update_success"), Some(1));
    assert_eq!(proxy.stat("http.x.rds.r.update_attempt"), Some(4));
}

#[test]
fn a_missing_file_does_not_keep_the_proxy_from_serving_the_rest() {
    let dir = tempfile::tempdir().expect("a directory");
    replace(&dir.path().join("lds.yaml"), "resources: []");
    let proxy = Proxy::start(&bootstrap(dir.path()));
    eventually("live", || proxy.agent.phase() == Phase::Live);
    replace(&dir.path().join("cds.yaml"), &format!("resources:\n{}", cluster("late", "")));
    eventually("read when it comes", || proxy.clusters() == ["late"]);
}
