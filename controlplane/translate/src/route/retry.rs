//! Retry policies.

use ringsail_api::networking::HttpRetry;
use ringsail_model::MeshSettings;
use ringsail_xds::envoy::config::route::v3::RetryPolicy;
use ringsail_xds::envoy::config::route::v3::retry_policy::{
    RetryBackOff, RetryHostPredicate, RetryPriority, retry_host_predicate, retry_priority,
};
use ringsail_xds::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use ringsail_xds::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;
use ringsail_xds::pack;

/// Conditions retried without a policy. Source: istiod `retry.go`.
const RETRY_ON_DEFAULT: &str = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
/// Retries without a policy.
const RETRIES_DEFAULT: u32 = 2;
/// How often another host is picked when the balancer gives one that was tried before.
const HOST_SELECTION_ATTEMPTS: i64 = 5;
/// Priorities are avoided after this many tries (`retryRemoteLocalities`).
const PRIORITY_UPDATE_FREQUENCY: i32 = 2;

/// The policy of an outbound route; `None` switches retries off. With consistent hashing a retry goes to the same host.
pub(crate) fn outbound(
    declared: Option<&HttpRetry>,
    settings: &MeshSettings,
    hashed: bool,
) -> Option<RetryPolicy> {
    let declared = declared.or(settings.config.default_http_retry_policy.as_ref());
    let mut policy = RetryPolicy {
        num_retries: Some(RETRIES_DEFAULT),
        retry_on: RETRY_ON_DEFAULT.to_owned(),
        host_selection_retry_max_attempts: HOST_SELECTION_ATTEMPTS,
        ..RetryPolicy::default()
    };
    if !hashed {
        policy.retry_host_predicate.push(previous_hosts());
    }
    let Some(declared) = declared else { return Some(policy) };
    if declared.attempts <= 0 {
        return None;
    }
    policy.num_retries = Some(declared.attempts.unsigned_abs());
    if !declared.retry_on.is_empty() {
        (policy.retry_on, policy.retriable_status_codes) = conditions(&declared.retry_on);
    }
    policy.per_try_timeout = declared.per_try_timeout;
    policy.retry_back_off = declared
        .backoff
        .map(|interval| RetryBackOff { base_interval: Some(interval), ..RetryBackOff::default() });
    match declared.retry_ignore_previous_hosts {
        Some(true) if hashed => policy.retry_host_predicate.push(previous_hosts()),
        Some(false) => policy.retry_host_predicate.clear(),
        _ => {}
    }
    if declared.retry_remote_localities == Some(true) {
        policy.retry_priority = Some(RetryPriority {
            name: "envoy.retry_priorities.previous_priorities".to_owned(),
            config_type: Some(retry_priority::ConfigType::TypedConfig(pack(&PreviousPrioritiesConfig {
                update_frequency: PRIORITY_UPDATE_FREQUENCY,
            }))),
        });
    }
    Some(policy)
}

/// The policy of an inbound route: only requests the workload cannot have seen, unless the mesh says otherwise; `None`
/// switches retries off.
pub(crate) fn inbound(settings: &MeshSettings) -> Option<RetryPolicy> {
    let mut policy = RetryPolicy {
        num_retries: Some(RETRIES_DEFAULT),
        retry_on: "reset-before-request".to_owned(),
        ..RetryPolicy::default()
    };
    let Some(declared) = &settings.config.default_inbound_http_retry_policy else { return Some(policy) };
    if declared.attempts <= 0 {
        return None;
    }
    policy.num_retries = Some(declared.attempts.unsigned_abs());
    if !declared.retry_on.is_empty() {
        (policy.retry_on, policy.retriable_status_codes) = conditions(&declared.retry_on);
    }
    policy.per_try_timeout = declared.per_try_timeout;
    policy.retry_back_off = declared
        .backoff
        .map(|interval| RetryBackOff { base_interval: Some(interval), ..RetryBackOff::default() });
    Some(policy)
}

fn previous_hosts() -> RetryHostPredicate {
    RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
        config_type: Some(retry_host_predicate::ConfigType::TypedConfig(pack(&PreviousHostsPredicate {}))),
    }
}

/// Splits condition words from status codes; codes need the word `retriable-status-codes`.
fn conditions(text: &str) -> (String, Vec<u32>) {
    const STATUS_CODES: &str = "retriable-status-codes";
    let mut words: Vec<&str> = Vec::new();
    let mut codes = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part.parse() {
            Ok(code) => codes.push(code),
            Err(_) => words.push(part),
        }
    }
    if !codes.is_empty() && !words.contains(&STATUS_CODES) {
        words.push(STATUS_CODES);
    }
    (words.join(","), codes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_codes_among_the_conditions_become_retriable_codes() {
        assert_eq!(conditions("5xx, 503,504"), ("5xx,retriable-status-codes".to_owned(), vec![503, 504]));
        assert_eq!(conditions("5xx"), ("5xx".to_owned(), vec![]));
    }

    #[test]
    fn zero_attempts_switch_retries_off() {
        let settings = MeshSettings::default();
        assert!(outbound(Some(&HttpRetry::default()), &settings, false).is_none());
        assert_eq!(outbound(None, &settings, false).and_then(|p| p.num_retries), Some(2));
    }

    #[test]
    fn consistent_hashing_retries_the_same_host() {
        let settings = MeshSettings::default();
        assert!(outbound(None, &settings, true).expect("retries").retry_host_predicate.is_empty());
    }
}
