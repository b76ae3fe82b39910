use super::*;
use crate::metrics::*;
use crate::registry::Registry;

const CLUSTER: &str = "outbound|9080|v1|reviews.default.svc.cluster.local;";

/// A registry with a little of everything, shown in form `show`.
fn shown(show: fn(&Registry, Selection<'_>, &mut String), selection: Selection<'_>) -> String {
    let registry = Registry::new();
    let shard = registry.seat().open();
    let cluster = shard.cluster(CLUSTER);
    cluster.add(ClusterCounter::UpstreamRqTotal, 3);
    cluster.count_answer(200);
    cluster.count_answer(200);
    cluster.count_answer(503);
    cluster.record(ClusterHistogram::UpstreamRqTime, 7);
    shard.http("inbound_0.0.0.0_8080;").count_answer(204);
    shard.http("inbound_0.0.0.0_8080;").add(HttpCounter::RbacDenied, 2);
    shard.listener("0.0.0.0:15006").raise(ListenerGauge::DownstreamCxActive, 4);
    shard.tcp("quote\"back\\slash").add(TcpCounter::DownstreamCxTotal, 1);
    registry.server().set(ServerGauge::Live, 1);
    registry.cluster_manager().add(ClusterManagerCounter::CdsUpdateSuccess, 5);
    let mut out = String::new();
    show(&registry, selection, &mut out);
    out
}

const USED: Selection<'static> = Selection {
    used_only: true,
    filter: None,
    memberships: &[],
    kinds: Kinds::All,
    buckets: Buckets::Summary,
};

#[test]
fn text_is_sorted_and_has_histograms_last() {
    assert_eq!(
        shown(text, USED),
        "\
cluster.outbound|9080|v1|reviews.default.svc.cluster.local;.upstream_rq_200: 2
cluster.outbound|9080|v1|reviews.default.svc.cluster.local;.upstream_rq_2xx: 2
cluster.outbound|9080|v1|reviews.default.svc.cluster.local;.upstream_rq_503: 1
cluster.outbound|9080|v1|reviews.default.svc.cluster.local;.upstream_rq_5xx: 1
cluster.outbound|9080|v1|reviews.default.svc.cluster.local;.upstream_rq_completed: 3
cluster.outbound|9080|v1|reviews.default.svc.cluster.local;.upstream_rq_total: 3
cluster_manager.cds.update_success: 5
http.inbound_0.0.0.0_8080;.downstream_rq_2xx: 1
http.inbound_0.0.0.0_8080;.downstream_rq_completed: 1
http.inbound_0.0.0.0_8080;.rbac.denied: 2
listener.0.0.0.0_15006.downstream_cx_active: 4
server.live: 1
tcp.quote\"back\\slash.downstream_cx_total: 1
cluster.outbound|9080|v1|reviews.default.svc.cluster.local;.upstream_rq_time: P0(nan,5) P25(nan,6.25) P50(nan,7.5) \
P75(nan,8.75) P90(nan,9.5) P95(nan,9.75) P99(nan,9.95) P99.5(nan,9.975) P99.9(nan,9.995) P100(nan,10)
"
    );
}

#[test]
fn unused_statistics_show_unless_left_out() {
    let all = shown(text, Selection::default());
    assert!(all.contains("listener_manager.lds.update_rejected: 0\n"));
    assert!(!all.contains("downstream_cx_length_ms"));
}

#[test]
fn filter_sees_full_names() {
    let server = |name: &str| name.starts_with("server.");
    let only = shown(text, Selection { filter: Some(&server), ..USED });
    assert_eq!(only, "server.live: 1\n");
    let only = shown(prometheus, Selection { filter: Some(&server), ..USED });
    assert_eq!(
        only,
        "# HELP envoy_server_live 1 while the server serves.\n# TYPE envoy_server_live gauge\nenvoy_server_live{} 1\n"
    );
}

#[test]
fn prometheus_has_the_labels_istio_extracts() {
    let page = shown(prometheus, USED);
    let cluster = "cluster_name=\"outbound|9080|v1|reviews.default.svc.cluster.local\"";
    for line in [
        "# TYPE envoy_cluster_upstream_rq counter".to_owned(),
        format!("envoy_cluster_upstream_rq{{{cluster},response_code_class=\"2xx\"}} 2"),
        format!("envoy_cluster_upstream_rq{{{cluster},response_code=\"503\"}} 1"),
        format!("envoy_cluster_upstream_rq_total{{{cluster}}} 3"),
        format!("envoy_cluster_upstream_rq_time_bucket{{{cluster},le=\"5\"}} 0"),
        format!("envoy_cluster_upstream_rq_time_bucket{{{cluster},le=\"+Inf\"}} 1"),
        format!("envoy_cluster_upstream_rq_time_sum{{{cluster}}} 7"),
        "envoy_http_downstream_rq{http_conn_manager_prefix=\"inbound_0.0.0.0_8080\",response_code_class=\"2xx\"} 1"
            .to_owned(),
        "envoy_http_rbac{http_conn_manager_prefix=\"inbound_0.0.0.0_8080\",authz_enforce_result=\"denied\"} 2"
            .to_owned(),
        "envoy_listener_downstream_cx_active{listener_address=\"0.0.0.0_15006\"} 4".to_owned(),
        "envoy_cluster_manager_cds_update_success{} 5".to_owned(),
        "envoy_tcp_downstream_cx_total{tcp_prefix=\"quote\\\"back\\\\slash\"} 1".to_owned(),
    ] {
        assert!(page.lines().any(|l| l == line), "{line}\nis missing in\n{page}");
    }
}

#[test]
fn every_prometheus_family_is_declared_once_before_its_series() {
    let page = shown(prometheus, Selection::default());
    let mut current = String::new();
    let mut seen = std::collections::BTreeSet::new();
    for line in page.lines() {
        if line.starts_with("# HELP ") {
            continue;
        }
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            current = declared.split(' ').next().unwrap_or_default().to_owned();
            assert!(seen.insert(current.clone()), "{current} is declared twice");
            assert!(current.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{current}");
        } else {
            let series = line.split('{').next().unwrap_or_default();
            let family =
                ["_bucket", "_sum", "_count", ""].iter().find_map(|suffix| series.strip_suffix(suffix));
            assert!(family == Some(current.as_str()) || series == current, "{line} under {current}");
        }
    }
}

#[test]
fn json_form_is_json() {
    let page: serde_json::Value = serde_json::from_str(&shown(json, USED)).expect("valid JSON");
    let stats = page["stats"].as_array().expect("a list");
    assert!(
        stats.iter().any(|s| s["name"] == "tcp.quote\"back\\slash.downstream_cx_total" && s["value"] == 1)
    );
    let histograms = &stats.last().expect("not empty")["histograms"];
    assert_eq!(histograms["computed_quantiles"][0]["values"][9]["cumulative"], 10);
}

#[test]
fn memberships_show_for_clusters_with_and_without_traffic() {
    let of = |cluster, total, healthy| Membership {
        cluster,
        total,
        healthy,
        degraded: 0,
        limits: Default::default(),
    };
    let memberships = [of(CLUSTER, 5, 4), of("idle;", 2, 2)];
    let membership = |name: &str| name.contains("membership");
    let selection = Selection { memberships: &memberships, filter: Some(&membership), ..USED };
    assert_eq!(
        shown(text, selection),
        format!(
            "cluster.idle;.membership_healthy: 2\ncluster.idle;.membership_total: 2\n\
cluster.{CLUSTER}.membership_healthy: 4\ncluster.{CLUSTER}.membership_total: 5\n"
        )
    );
    assert_eq!(
        shown(prometheus, selection),
        "\
# HELP envoy_cluster_membership_total Endpoints.
# TYPE envoy_cluster_membership_total gauge
envoy_cluster_membership_total{cluster_name=\"outbound|9080|v1|reviews.default.svc.cluster.local\"} 5
envoy_cluster_membership_total{cluster_name=\"idle\"} 2
# HELP envoy_cluster_membership_healthy Healthy endpoints.
# TYPE envoy_cluster_membership_healthy gauge
envoy_cluster_membership_healthy{cluster_name=\"outbound|9080|v1|reviews.default.svc.cluster.local\"} 4
envoy_cluster_membership_healthy{cluster_name=\"idle\"} 2
"
    );
}

#[test]
fn route_configurations_count_under_their_connection_manager() {
    let registry = Registry::new();
    let block = registry.rds_block("outbound_0.0.0.0_9080;", "9080");
    block.add(RdsCounter::UpdateRejected, 3);
    let (mut lines, mut page) = (String::new(), String::new());
    text(&registry, USED, &mut lines);
    prometheus(&registry, USED, &mut page);
    assert_eq!(lines, "http.outbound_0.0.0.0_9080;.rds.9080.update_rejected: 3\n");
    assert_eq!(
        page,
        "# HELP envoy_http_rds_update_rejected Responses refused.\n# TYPE envoy_http_rds_update_rejected counter\nenvoy_http_rds_update_rejected\
{http_conn_manager_prefix=\"outbound_0.0.0.0_9080\",rds_route_config=\"9080\"} 3\n"
    );
}
