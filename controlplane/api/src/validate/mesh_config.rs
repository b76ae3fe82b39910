//! MeshConfig: the settings that are read, and those that nothing enforces yet.

use crate::istio::mesh::v1alpha1::MeshConfig;
use crate::istio::mesh::v1alpha1::mesh_config::AccessLogEncoding;
use crate::istio::mesh::v1alpha1::mesh_config::outbound_traffic_policy::Mode;
use crate::validate::checker::Checker;
use crate::validate::common::{Export, duration, export_to, rule};
use crate::validate::{Finding, UNENFORCED, connection, http_route, names};

/// Everything that is wrong with a mesh configuration.
pub(crate) fn check(config: &MeshConfig) -> Vec<Finding> {
    let mut checker = Checker::new([]);
    checker.set("connectTimeout", config.connect_timeout.as_ref(), duration);
    checker.set("dnsRefreshRate", config.dns_refresh_rate.as_ref(), duration);
    // 0 s means to wait for ever.
    let detection = config.protocol_detection_timeout.as_ref();
    checker.set(
        "protocolDetectionTimeout",
        detection.filter(|time| time.seconds != 0 || time.nanos != 0),
        duration,
    );
    for (name, port) in [
        ("proxyListenPort", config.proxy_listen_port),
        ("proxyInboundListenPort", config.proxy_inbound_listen_port),
        ("proxyHttpPort", config.proxy_http_port),
    ] {
        if !(0..=65535).contains(&port) {
            checker.field(name, |checker| {
                checker.error(format!("port {port} is not between 1 and 65535"));
            });
        }
    }
    let is_json = config.access_log_encoding() == AccessLogEncoding::Json;
    if is_json && !config.access_log_format.is_empty() && config.access_log_json().is_none() {
        checker.field("accessLogFormat", |checker| {
            checker.error("not a JSON object").fix("write an object, or `accessLogEncoding: TEXT`");
        });
    }
    if !config.trust_domain.is_empty() {
        checker.field("trustDomain", |checker| rule(checker, names::domain(&config.trust_domain)));
    }
    for (name, list) in [
        ("defaultServiceExportTo", &config.default_service_export_to),
        ("defaultVirtualServiceExportTo", &config.default_virtual_service_export_to),
        ("defaultDestinationRuleExportTo", &config.default_destination_rule_export_to),
    ] {
        checker.field(name, |checker| export_to(checker, list, "", Export::ServiceEntry));
    }
    checker.set("defaultHttpRetryPolicy", config.default_http_retry_policy.as_ref(), http_route::retries);
    checker.set(
        "defaultInboundHttpRetryPolicy",
        config.default_inbound_http_retry_policy.as_ref(),
        http_route::retries,
    );
    checker.set("defaultTrafficPolicy", config.default_traffic_policy.as_ref(), |checker, policy| {
        checker.set("connectionPool", policy.connection_pool.as_ref(), connection::pool);
        checker.set("outlierDetection", policy.outlier_detection.as_ref(), connection::outlier);
    });
    checker.set("outboundTrafficPolicy", config.outbound_traffic_policy.as_ref(), |checker, policy| {
        if policy.mode() == Mode::AllowAnyDynamicDns {
            checker.field("mode", |checker| {
                let message =
                    "ALLOW_ANY_DYNAMIC_DNS is not supported yet, so the mesh configuration is refused";
                checker.error(message).code(UNENFORCED).fix("use ALLOW_ANY or REGISTRY_ONLY");
            });
        }
    });
    checker.into_findings()
}
