//! The `pilot_*` metrics that dashboards and alerts for istiod read, in Prometheus' text form.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ringsail_api::{Diagnostic, Kind, Object, Severity};
use ringsail_model::Mesh;
use ringsail_xds::type_url;

/// Upper bounds in seconds. Source: istiod's `pilot_proxy_convergence_time` and `pilot_debounce_time`.
const TIME_BOUNDS_SECONDS: [f64; 11] = [0.01, 0.1, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0];

/// A counter per label value.
#[derive(Debug, Default)]
pub(crate) struct Counters(Mutex<BTreeMap<String, u64>>);

/// A histogram of durations.
#[derive(Debug, Default)]
struct Times {
    buckets: [AtomicU64; TIME_BOUNDS_SECONDS.len()],
    count: AtomicU64,
    sum_micros: AtomicU64,
}

/// All metrics of the control plane.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Changes received, by origin.
    pub(crate) updates: Counters,
    /// Responses sent, by type.
    pub(crate) pushes: Counters,
    /// Responses refused by proxies, by type.
    pub(crate) rejects: Counters,
    /// Answers to responses that are not the last one, by type.
    pub(crate) expired_nonces: Counters,
    /// Streams refused or broken, by reason.
    pub(crate) stream_errors: Counters,
    snapshots: AtomicU64,
    services: AtomicU64,
    virtual_services: AtomicU64,
    rejected_objects: AtomicU64,
    convergence: Times,
    debounce: Times,
    send: Times,
}

impl Counters {
    pub(crate) fn add(&self, label: &str, count: u64) {
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match values.get_mut(label) {
            Some(value) => *value += count,
            None => {
                values.insert(label.to_owned(), count);
            }
        }
    }

    fn write(&self, out: &mut String, name: &str, help: &str, label: &str) {
        head(out, name, help, "counter");
        for (value, count) in &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            line(out, name, &format!("{{{label}=\"{value}\"}}"), *count);
        }
    }
}

impl Times {
    fn record(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        for (bucket, bound) in self.buckets.iter().zip(TIME_BOUNDS_SECONDS) {
            if seconds <= bound {
                bucket.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn write(&self, out: &mut String, name: &str, help: &str) {
        head(out, name, help, "histogram");
        for (bucket, bound) in self.buckets.iter().zip(TIME_BOUNDS_SECONDS) {
            line(
                out,
                &format!("{name}_bucket"),
                &format!("{{le=\"{bound}\"}}"),
                bucket.load(Ordering::Relaxed),
            );
        }
        let count = self.count.load(Ordering::Relaxed);
        line(out, &format!("{name}_bucket"), "{le=\"+Inf\"}", count);
        let sum = Duration::from_micros(self.sum_micros.load(Ordering::Relaxed)).as_secs_f64();
        line(out, &format!("{name}_sum"), "", sum);
        line(out, &format!("{name}_count"), "", count);
    }
}

impl Metrics {
    /// A snapshot was published.
    pub(crate) fn published(&self, mesh: &Mesh, objects: &[Arc<Object>], diagnostics: &[Diagnostic]) {
        self.snapshots.fetch_add(1, Ordering::Relaxed);
        self.services.store(mesh.services().by_key().len() as u64, Ordering::Relaxed);
        let virtual_services = objects.iter().filter(|object| object.kind == Kind::VirtualService).count();
        self.virtual_services.store(virtual_services as u64, Ordering::Relaxed);
        let rejected = diagnostics.iter().filter(|line| line.severity == Severity::Error);
        let mut keys: Vec<_> = rejected.filter_map(|line| line.object.as_ref()).collect();
        keys.sort();
        keys.dedup();
        self.rejected_objects.store(keys.len() as u64, Ordering::Relaxed);
    }

    /// A burst of changes waited that long.
    pub(crate) fn debounced(&self, time: Duration) {
        self.debounce.record(time);
    }

    /// A proxy accepted everything of a snapshot that long after the change.
    pub(crate) fn converged(&self, time: Duration) {
        self.convergence.record(time);
    }

    /// A response took that long to be taken by the connection.
    pub(crate) fn sent(&self, type_url: &str, time: Duration) {
        self.pushes.add(short_name(type_url), 1);
        self.send.record(time);
    }

    /// Everything in Prometheus' text form.
    pub(crate) fn render(&self, connected_by_version: &BTreeMap<String, u64>) -> String {
        let mut out = String::new();
        head(&mut out, "pilot_info", "Version of the control plane.", "gauge");
        line(&mut out, "pilot_info", &format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1);
        head(&mut out, "pilot_xds", "Proxies connected by their version.", "gauge");
        for (version, count) in connected_by_version {
            let version: String =
                version.chars().filter(|found| !matches!(found, '"' | '\\' | '\n')).collect();
            line(&mut out, "pilot_xds", &format!("{{version=\"{version}\"}}"), *count);
        }
        for (name, help, value) in [
            ("pilot_services", "Services known to the control plane.", &self.services),
            ("pilot_virt_services", "VirtualServices known to the control plane.", &self.virtual_services),
            ("pilot_total_rejected_configs", "Objects refused at present.", &self.rejected_objects),
        ] {
            head(&mut out, name, help, "gauge");
            line(&mut out, name, "", value.load(Ordering::Relaxed));
        }
        head(&mut out, "ringsaild_snapshots_total", "Snapshots published.", "counter");
        line(&mut out, "ringsaild_snapshots_total", "", self.snapshots.load(Ordering::Relaxed));
        self.updates.write(&mut out, "pilot_inbound_updates", "Changes received.", "type");
        self.pushes.write(&mut out, "pilot_xds_pushes", "Responses sent.", "type");
        self.rejects.write(&mut out, "pilot_total_xds_rejects", "Responses refused by proxies.", "type");
        self.expired_nonces.write(&mut out, "pilot_xds_expired_nonce", "Answers to older responses.", "type");
        self.stream_errors.write(
            &mut out,
            "pilot_total_xds_internal_errors",
            "Streams refused or broken.",
            "reason",
        );
        let help = "Seconds from a change to its acceptance by a proxy.";
        self.convergence.write(&mut out, "pilot_proxy_convergence_time", help);
        self.debounce.write(&mut out, "pilot_debounce_time", "Seconds changes waited for quiet.");
        self.send.write(&mut out, "pilot_xds_send_time", "Seconds a response waited for its connection.");
        out
    }
}

/// The short name of a resource type, as istiod's labels have it.
pub(crate) fn short_name(type_url: &str) -> &str {
    match type_url {
        type_url::CLUSTER => "cds",
        type_url::ENDPOINT => "eds",
        type_url::LISTENER => "lds",
        type_url::ROUTE => "rds",
        type_url::SECRET => "sds",
        type_url::EXTENSION_CONFIG => "ecds",
        _ => "other",
    }
}

fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(out: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let _ = writeln!(out, "{name}{labels} {value}");
}
