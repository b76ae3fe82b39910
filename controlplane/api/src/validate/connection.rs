//! Connection pools and outlier detection.

use crate::networking::connection_pool_settings::http_settings::H2UpgradePolicy;
use crate::networking::{ConnectionPoolSettings, OutlierDetection};
use crate::validate::checker::Checker;
use crate::validate::common::{duration, not_negative, percent};

/// `connectionPool`.
pub(crate) fn pool(checker: &mut Checker, pool: &ConnectionPoolSettings) {
    if pool.http.is_none() && pool.tcp.is_none() {
        checker.error("the connection pool sets nothing").fix("give it `tcp` or `http`");
    }
    checker.set("http", pool.http.as_ref(), |checker, http| {
        not_negative(checker, "http1MaxPendingRequests", http.http1_max_pending_requests);
        not_negative(checker, "http2MaxRequests", http.http2_max_requests);
        not_negative(checker, "maxRequestsPerConnection", http.max_requests_per_connection);
        not_negative(checker, "maxRetries", http.max_retries);
        not_negative(checker, "maxConcurrentStreams", http.max_concurrent_streams);
        checker.set("idleTimeout", http.idle_timeout.as_ref(), duration);
        if http.h2_upgrade_policy() == H2UpgradePolicy::Upgrade && http.use_client_protocol {
            checker.error("`h2UpgradePolicy: UPGRADE` and `useClientProtocol` exclude each other");
        }
        checker.set("http2KeepAlive", http.http2_keep_alive.as_ref(), |checker, keep_alive| {
            for (name, value) in [("interval", &keep_alive.interval), ("timeout", &keep_alive.timeout)] {
                match value {
                    Some(value) => checker.field(name, |checker| duration(checker, value)),
                    None => {
                        checker.error(format!("`{name}` is required"));
                    }
                }
            }
        });
    });
    checker.set("tcp", pool.tcp.as_ref(), |checker, tcp| {
        not_negative(checker, "maxConnections", tcp.max_connections);
        checker.set("connectTimeout", tcp.connect_timeout.as_ref(), duration);
        checker.set("maxConnectionDuration", tcp.max_connection_duration.as_ref(), duration);
        // 0 s turns the timeout off.
        let idle_timeout =
            tcp.idle_timeout.as_ref().filter(|time| time.seconds != 0 || time.nanos >= 1_000_000);
        checker.set("idleTimeout", idle_timeout, duration);
        checker.set("tcpKeepalive", tcp.tcp_keepalive.as_ref(), |checker, keepalive| {
            checker.set("time", keepalive.time.as_ref(), duration);
            checker.set("interval", keepalive.interval.as_ref(), duration);
        });
    });
}

/// `outlierDetection`.
pub(crate) fn outlier(checker: &mut Checker, outlier: &OutlierDetection) {
    checker.set("baseEjectionTime", outlier.base_ejection_time.as_ref(), duration);
    checker.set("interval", outlier.interval.as_ref(), duration);
    percent(checker, "maxEjectionPercent", outlier.max_ejection_percent);
    percent(checker, "minHealthPercent", outlier.min_health_percent);
    if outlier.consecutive_errors != 0 {
        checker.field("consecutiveErrors", |checker| {
            let fix = "use `consecutiveGatewayErrors` or `consecutive5xxErrors`";
            checker.warning("`consecutiveErrors` is deprecated").fix(fix);
        });
    }
    let local_failures = outlier.consecutive_local_origin_failures.unwrap_or_default();
    if !outlier.split_external_local_origin_errors && local_failures > 0 {
        checker.field("consecutiveLocalOriginFailures", |checker| {
            let fix = "set `splitExternalLocalOriginErrors: true`";
            checker.error("has no effect without `splitExternalLocalOriginErrors`").fix(fix);
        });
    }
}
