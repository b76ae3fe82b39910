//! Telemetry and ProxyConfig.

use crate::istio::networking::v1beta1::ProxyConfig;
use crate::telemetry::metric_selector::MetricMatch;
use crate::telemetry::metrics_overrides::tag_override::Operation;
use crate::telemetry::tracing::custom_tag::Type;
use crate::telemetry::{ProviderRef, Telemetry, Tracing};
use crate::validate::checker::Checker;
use crate::validate::common::selector;
use crate::validate::policy;

pub(crate) fn check(checker: &mut Checker, spec: &Telemetry) {
    policy::targets(checker, spec.selector.as_ref(), spec.target_ref.as_ref(), &spec.target_refs);
    checker.each("metrics", &spec.metrics, |checker, metrics| {
        providers(checker, &metrics.providers);
        checker.each("overrides", &metrics.overrides, |checker, found| {
            checker.entries("tagOverrides", &found.tag_overrides, |checker, name, tag| {
                if name.is_empty() {
                    checker.warning("tagOverrides.name may not be empty");
                }
                match (tag.operation(), tag.value.is_empty()) {
                    (Operation::Upsert, true) => {
                        checker.error("value must be set when operation is UPSERT");
                    }
                    (Operation::Remove, false) => {
                        checker.error("value must not be set when operation is REMOVE");
                    }
                    (Operation::Upsert, false) | (Operation::Remove, true) => {}
                }
            });
            let metric = found.r#match.as_ref().and_then(|found| found.metric_match.as_ref());
            if matches!(metric, Some(MetricMatch::CustomMetric(name)) if name.is_empty()) {
                checker.error("`customMetric` is empty");
            }
        });
    });
    if spec.tracing.len() > 1 {
        checker.warning("multiple tracing is not currently supported");
    }
    checker.each("tracing", &spec.tracing, tracing);
    checker.each("accessLogging", &spec.access_logging, |checker, logging| {
        providers(checker, &logging.providers);
    });
}

fn providers(checker: &mut Checker, list: &[ProviderRef]) {
    checker.each("providers", list, |checker, provider| {
        if provider.name.is_empty() {
            checker.error("the provider has no name").fix("name an extension provider of the mesh");
        }
    });
}

fn tracing(checker: &mut Checker, tracing: &Tracing) {
    if tracing.providers.len() > 1 {
        checker.warning("multiple providers is not currently supported");
    }
    providers(checker, &tracing.providers);
    if tracing.random_sampling_percentage.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
        checker.error("`randomSamplingPercentage` is not between 0 and 100");
    }
    checker.entries("customTags", &tracing.custom_tags, |checker, name, tag| {
        if name.is_empty() {
            checker.error("the tag has no name");
        }
        let is_empty = match &tag.r#type {
            Some(Type::Literal(literal)) => literal.value.is_empty(),
            Some(Type::Header(header)) => header.name.is_empty(),
            Some(Type::Environment(variable)) => variable.name.is_empty(),
            Some(Type::Formatter(_)) | None => false,
        };
        if is_empty {
            checker.error("the tag takes its value from nothing");
        }
    });
}

pub(crate) fn check_proxy_config(checker: &mut Checker, spec: &ProxyConfig) {
    checker.set("selector", spec.selector.as_ref(), |checker, workloads| {
        selector(checker, "matchLabels", &workloads.match_labels);
    });
    if spec.image.is_some() {
        checker.field("image", |checker| {
            checker.warning("images are chosen by whoever starts the proxy, so this changes nothing");
        });
    }
    if let Some(concurrency) = spec.concurrency.filter(|concurrency| *concurrency < 0) {
        checker.field("concurrency", |checker| {
            checker.error(format!("{concurrency} is negative")).fix("leave it out for one per CPU");
        });
    }
}
