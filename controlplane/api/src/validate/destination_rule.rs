//! DestinationRule.

use std::collections::BTreeSet;

use crate::networking::{DestinationRule, TrafficPolicy};
use crate::object::Object;
use crate::validate::checker::Checker;
use crate::validate::common::{Export, export_to, labels, port, port_selector, rule, selector, subset_name};
use crate::validate::{connection, load_balancer, names, tls};

pub(crate) fn check(checker: &mut Checker, spec: &DestinationRule, object: &Object) {
    let namespace = object.meta.namespace.as_str();
    checker.field("host", |checker| rule(checker, names::wildcard_domain(&spec.host)));
    checker.set("trafficPolicy", spec.traffic_policy.as_ref(), |checker, policy| {
        traffic_policy(checker, policy, namespace);
    });
    let mut seen = BTreeSet::new();
    checker.each("subsets", &spec.subsets, |checker, subset| {
        checker.field("name", |checker| {
            subset_name(checker, &subset.name);
            if !seen.insert(subset.name.as_str()) {
                checker.error(format!("there are two subsets `{}`", subset.name));
            }
        });
        labels(checker, "labels", &subset.labels);
        checker.set("trafficPolicy", subset.traffic_policy.as_ref(), |checker, policy| {
            traffic_policy(checker, policy, namespace);
        });
    });
    let export = match spec.workload_selector {
        Some(_) => Export::OwnNamespace,
        None => Export::Ordinary,
    };
    export_to(checker, &spec.export_to, namespace, export);
    checker.set("workloadSelector", spec.workload_selector.as_ref(), |checker, workloads| {
        selector(checker, "matchLabels", &workloads.match_labels);
    });
}

fn traffic_policy(checker: &mut Checker, policy: &TrafficPolicy, namespace: &str) {
    let TrafficPolicy {
        load_balancer,
        connection_pool,
        outlier_detection,
        tls,
        port_level_settings,
        tunnel,
        proxy_protocol,
        retry_budget,
    } = policy;
    let sets_nothing = load_balancer.is_none()
        && connection_pool.is_none()
        && outlier_detection.is_none()
        && tls.is_none()
        && port_level_settings.is_empty()
        && tunnel.is_none()
        && proxy_protocol.is_none()
        && retry_budget.is_none();
    if sets_nothing {
        checker.error("the traffic policy sets nothing").fix("give it a field or leave it out");
        return;
    }
    if tunnel.is_some() && proxy_protocol.is_some() {
        checker.error("`tunnel` and `proxyProtocol` exclude each other");
    }
    checker.set("outlierDetection", outlier_detection.as_ref(), connection::outlier);
    checker.set("connectionPool", connection_pool.as_ref(), connection::pool);
    checker.set("loadBalancer", load_balancer.as_ref(), |checker, settings| {
        load_balancer::check(checker, settings, outlier_detection.is_some());
    });
    checker.set("tls", tls.as_ref(), |checker, settings| tls::client(checker, settings, namespace));
    checker.each("portLevelSettings", port_level_settings, |checker, entry| {
        match &entry.port {
            Some(port) => checker.field("port", |checker| port_selector(checker, port)),
            None => {
                checker.error("`port` is required").fix("write `port: {number: …}`");
            }
        }
        let sets_nothing = entry.load_balancer.is_none()
            && entry.connection_pool.is_none()
            && entry.outlier_detection.is_none()
            && entry.tls.is_none();
        if sets_nothing {
            checker.error("the policy of this port sets nothing");
        }
        checker.set("outlierDetection", entry.outlier_detection.as_ref(), connection::outlier);
        checker.set("connectionPool", entry.connection_pool.as_ref(), connection::pool);
        checker.set("loadBalancer", entry.load_balancer.as_ref(), |checker, settings| {
            load_balancer::check(checker, settings, entry.outlier_detection.is_some());
        });
        checker.set("tls", entry.tls.as_ref(), |checker, settings| tls::client(checker, settings, namespace));
    });
    checker.set("tunnel", tunnel.as_ref(), |checker, tunnel| {
        if !matches!(tunnel.protocol.as_str(), "" | "CONNECT" | "POST") {
            checker.error(format!("`protocol` is `{}`, not CONNECT or POST", tunnel.protocol));
        }
        if !names::is_ip(&tunnel.target_host) {
            checker.field("targetHost", |checker| rule(checker, names::domain(&tunnel.target_host)));
        }
        checker.field("targetPort", |checker| port(checker, tunnel.target_port));
    });
}
