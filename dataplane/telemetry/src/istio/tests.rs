use std::borrow::Cow;
use std::time::{Duration, Instant};

use super::*;
use crate::limits::{SERIES_EXPIRY_DEFAULT, SERIES_MAX, SERIES_PER_SHARD_MAX};
use crate::registry::{BucketSettings, Registry, ShardRegistry};
use crate::render::{Selection, prometheus, text};
use crate::{Bounds, Kind};

fn labels(host: &str) -> Labels {
    [("reporter", "source"), ("destination_service", host)]
        .into_iter()
        .map(|(name, value)| (Cow::Borrowed(name), value.into()))
        .collect()
}

fn requests(shard: &ShardRegistry, host: &str) -> Series {
    shard.istio().series(Family::Http, MetricSet::of(Family::Http), labels(host), SERIES_EXPIRY_DEFAULT)
}

fn page(registry: &Registry) -> String {
    let mut out = String::new();
    prometheus(registry, Selection::default(), &mut out);
    out.lines().filter(|line| line.contains("istio_")).collect::<Vec<_>>().join("\n")
}

#[test]
fn names_are_istios() {
    let names = IstioMetric::ALL.map(IstioMetric::name);
    assert_eq!(names[0], "istio_requests_total");
    assert_eq!(IstioMetric::from_config_name("tcp_sent_bytes_total"), Some(IstioMetric::TcpSent));
    assert_eq!(Tag::from_name("response_flags"), Some(Tag::ResponseFlags));
    let count = |family| Tag::ALL.into_iter().filter(|tag| tag.is_of(family)).count();
    assert_eq!((count(Family::Http), count(Family::Messages), count(Family::Tcp)), (25, 20, 23));
}

#[test]
fn shards_that_count_the_same_are_added_up() {
    let registry = Registry::new();
    let (a, b) = (registry.seat().open(), registry.seat().open());
    requests(&a, "web").add(IstioMetric::Requests, 2);
    requests(&b, "web").add(IstioMetric::Requests, 3);
    requests(&b, "web").record(IstioMetric::RequestDuration, 7);
    let page = page(&registry);
    assert!(
        page.contains("istio_requests_total{reporter=\"source\",destination_service=\"web\"} 5"),
        "{page}"
    );
    assert!(page.contains("istio_request_duration_milliseconds_bucket{reporter=\"source\",destination_service=\"web\",le=\"5\"} 0"), "{page}");
    assert!(page.contains("istio_request_duration_milliseconds_bucket{reporter=\"source\",destination_service=\"web\",le=\"10\"} 1"), "{page}");
    assert!(
        page.contains(
            "istio_request_duration_milliseconds_sum{reporter=\"source\",destination_service=\"web\"} 7"
        ),
        "{page}"
    );
    assert_eq!(page.matches("# TYPE istio_requests_total counter").count(), 1);
    assert!(!page.contains("istio_tcp"), "{page}");
}

#[test]
fn a_metric_that_is_switched_off_is_not_shown() {
    let registry = Registry::new();
    let shard = registry.seat().open();
    let only: MetricSet = [IstioMetric::Requests].into_iter().collect();
    let series = shard.istio().series(Family::Http, only, labels("web"), SERIES_EXPIRY_DEFAULT);
    series.add(IstioMetric::Requests, 1);
    series.record(IstioMetric::RequestBytes, 1);
    assert_eq!(page(&registry).lines().filter(|line| !line.starts_with('#')).count(), 1);
}

#[test]
fn beyond_the_bound_totals_stay_exact_in_the_overflow_series() {
    let registry = Registry::new();
    let shard = registry.seat().open();
    for i in 0..SERIES_PER_SHARD_MAX + 100 {
        requests(&shard, &format!("host-{i}")).add(IstioMetric::Requests, 1);
    }
    assert_eq!(shard.istio().len(), SERIES_PER_SHARD_MAX + 1);
    let page = page(&registry);
    let counted: u64 = page
        .lines()
        .filter_map(|line| line.rsplit_once("} "))
        .filter_map(|(_, n)| n.parse::<u64>().ok())
        .sum();
    assert_eq!(counted as usize, SERIES_PER_SHARD_MAX + 100);
    assert!(page.contains("{reporter=\"source\",destination_service=\"other\"} 100"));
}

#[test]
fn the_registry_shows_no_more_than_its_bound() {
    let registry = Registry::new();
    let (a, b) = (registry.seat().open(), registry.seat().open());
    for i in 0..SERIES_MAX {
        requests(&a, &format!("a-{i}")).add(IstioMetric::Requests, 1);
    }
    for i in 0..50 {
        requests(&b, &format!("b-{i}")).add(IstioMetric::Requests, 1);
    }
    let page = page(&registry);
    assert_eq!(page.matches("istio_requests_total{").count(), SERIES_MAX + 1);
    assert!(page.contains("{reporter=\"source\",destination_service=\"other\"} 50"));
}

#[test]
fn unused_series_expire_and_used_ones_stay() {
    let registry = Registry::new();
    let shard = registry.seat().open();
    let start = Instant::now();
    let later = |minutes: u64| start + Duration::from_secs(60 * minutes);
    let held = requests(&shard, "held");
    for host in ["busy", "quiet"] {
        requests(&shard, host).add(IstioMetric::Requests, 1);
    }
    for minute in 1..=31 {
        requests(&shard, "busy").add(IstioMetric::Requests, 1);
        shard.istio().sweep(later(minute));
    }
    assert!(page(&registry).contains("quiet"), "29 minutes after the first sweep that found it unused");
    shard.istio().sweep(later(32));
    let page = page(&registry);
    assert!(!page.contains("quiet"), "{page}");
    assert!(page.contains("\"busy\"} 32"), "{page}");
    held.add(IstioMetric::Requests, 1);
    assert_eq!(shard.istio().len(), 2);
}

#[test]
fn a_counter_does_not_fall_while_another_shard_still_counts() {
    let registry = Registry::new();
    let (a, b) = (registry.seat().open(), registry.seat().open());
    requests(&a, "web").add(IstioMetric::Requests, 5);
    requests(&b, "web").add(IstioMetric::Requests, 1);
    assert!(page(&registry).contains("\"web\"} 6"));
    drop(a);
    assert!(page(&registry).contains("\"web\"} 6"));
    drop(b);
    assert!(!page(&registry).contains("web"));
}

#[test]
fn buckets_can_be_set_by_the_internal_name() {
    let mut buckets = BucketSettings::default();
    let bounds = Bounds::new(&[1.0, 8.0]).expect("ascending");
    buckets.push(|name| name.starts_with("istiocustom.istio_request_duration"), bounds);
    let registry = Registry::with_buckets(buckets);
    let shard = registry.seat().open();
    let series = requests(&shard, "web");
    series.record(IstioMetric::RequestDuration, 7);
    series.record(IstioMetric::RequestBytes, 7);
    let page = page(&registry);
    assert_eq!(page.matches("istio_request_duration_milliseconds_bucket").count(), 3, "{page}");
    assert_eq!(page.matches("istio_request_bytes_bucket").count(), 20);
}

#[test]
fn bounds_must_ascend() {
    assert!(Bounds::new(&[1.0, 1.0]).is_none());
    assert!(Bounds::new(&[f64::NAN, 1.0]).is_none());
    assert!(Bounds::new(&[]).is_none());
    assert_eq!(IstioMetric::RequestBytes.kind(), Kind::Histogram);
}

#[test]
fn stats_show_labels_as_parts_of_the_name() {
    let registry = Registry::new();
    let shard = registry.seat().open();
    shard.istio().announce("1.30.0");
    requests(&shard, "web").add(IstioMetric::Requests, 1);
    let mut out = String::new();
    text(&registry, Selection::default(), &mut out);
    assert!(out.contains("istiocustom.istio_requests_total.reporter.source.destination_service.web: 1\n"));
    assert!(page(&registry).contains("istio_build{component=\"proxy\",tag=\"1.30.0\"} 1"));
}
