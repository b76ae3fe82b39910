//! Outlier detection.

use std::time::Duration;

use ringsail_xds::envoy::config::cluster::v3 as pb;

use super::context::Context;
use super::value::duration;
use crate::cluster::OutlierDetection;

/// Defaults: the field documentation of `OutlierDetection`.
pub(super) fn outlier_detection(
    cx: &mut Context<'_>,
    value: &pb::OutlierDetection,
) -> Option<OutlierDetection> {
    let seconds = Duration::from_secs;
    let mut positive = |field: &str, value: &Option<prost_types::Duration>| {
        let found = duration(cx, field, value);
        if found.is_some_and(|found| found.is_zero()) {
            cx.report.refuse_at(field, "is zero");
        }
        found
    };
    let interval = positive("interval", &value.interval).unwrap_or(seconds(10));
    let base_ejection_time = positive("base_ejection_time", &value.base_ejection_time).unwrap_or(seconds(30));
    let max_ejection_time = positive("max_ejection_time", &value.max_ejection_time)
        .unwrap_or(base_ejection_time.max(seconds(300)));
    if max_ejection_time < base_ejection_time {
        return cx.refuse("max_ejection_time", "is below base_ejection_time");
    }
    let max_ejection_time_jitter =
        duration(cx, "max_ejection_time_jitter", &value.max_ejection_time_jitter).unwrap_or_default();
    let mut percent = |field: &str, value: Option<u32>, default: u32| {
        let percent = value.unwrap_or(default);
        if percent > 100 {
            cx.report.refuse_at(field, format_args!("{percent} is no percentage"));
        }
        percent
    };
    let detection = OutlierDetection {
        consecutive_5xx: value.consecutive_5xx.unwrap_or(5),
        enforcing_consecutive_5xx: percent("enforcing_consecutive_5xx", value.enforcing_consecutive_5xx, 100),
        consecutive_gateway_failure: value.consecutive_gateway_failure.unwrap_or(5),
        enforcing_consecutive_gateway_failure: percent(
            "enforcing_consecutive_gateway_failure",
            value.enforcing_consecutive_gateway_failure,
            0,
        ),
        consecutive_local_origin_failure: value.consecutive_local_origin_failure.unwrap_or(5),
        enforcing_consecutive_local_origin_failure: percent(
            "enforcing_consecutive_local_origin_failure",
            value.enforcing_consecutive_local_origin_failure,
            100,
        ),
        split_external_local_origin_errors: value.split_external_local_origin_errors,
        interval,
        base_ejection_time,
        max_ejection_time,
        max_ejection_percent: percent("max_ejection_percent", value.max_ejection_percent, 10),
        enforcing_success_rate: percent("enforcing_success_rate", value.enforcing_success_rate, 100),
        success_rate_minimum_hosts: value.success_rate_minimum_hosts.unwrap_or(5),
        success_rate_request_volume: value.success_rate_request_volume.unwrap_or(100),
        success_rate_stdev_factor: value.success_rate_stdev_factor.unwrap_or(1900),
        enforcing_local_origin_success_rate: percent(
            "enforcing_local_origin_success_rate",
            value.enforcing_local_origin_success_rate,
            100,
        ),
        failure_percentage_threshold: percent(
            "failure_percentage_threshold",
            value.failure_percentage_threshold,
            85,
        ),
        enforcing_failure_percentage: percent(
            "enforcing_failure_percentage",
            value.enforcing_failure_percentage,
            0,
        ),
        enforcing_failure_percentage_local_origin: percent(
            "enforcing_failure_percentage_local_origin",
            value.enforcing_failure_percentage_local_origin,
            0,
        ),
        failure_percentage_minimum_hosts: value.failure_percentage_minimum_hosts.unwrap_or(5),
        failure_percentage_request_volume: value.failure_percentage_request_volume.unwrap_or(50),
        max_ejection_time_jitter,
        always_eject_one_host: value.always_eject_one_host.unwrap_or(false),
        uneject_after_check: value.successful_active_health_check_uneject_host.unwrap_or(true),
    };
    (!cx.report.is_refused()).then_some(detection)
}
