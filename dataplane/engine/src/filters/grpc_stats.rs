//! Statistics of gRPC calls. Source: Envoy's `envoy.filters.http.grpc_stats`.

use std::cell::Cell;

use ringsail_tables::hcm::GrpcStats as Settings;
use ringsail_telemetry::{Grpc, GrpcStats, ShardRegistry};

/// Where one call counts.
#[derive(Clone, Debug)]
pub struct Counted {
    /// Of its cluster, or its method there.
    pub stats: GrpcStats,
    /// The upstream's time is recorded.
    pub upstream_time: bool,
    /// The answer is gRPC, so that its body has messages.
    pub is_answered: Cell<bool>,
}

impl Counted {
    /// For a call of `path` to the cluster with this statistics name. `None` when it names no method.
    pub fn of(settings: &Settings, registry: &ShardRegistry, cluster: &str, path: &[u8]) -> Option<Counted> {
        let (service, method) = service_and_method(std::str::from_utf8(path).ok()?)?;
        if cluster.is_empty() {
            return None;
        }
        let mut name = String::with_capacity(cluster.len() + path.len());
        if settings.names(service, method) {
            let plain;
            let service = if settings.replace_dots {
                plain = service.replace('.', "_");
                &plain
            } else {
                service
            };
            Grpc::push_scope_name(cluster, Some((service, method)), &mut name);
        } else {
            Grpc::push_scope_name(cluster, None, &mut name);
        }
        let is_answered = Cell::new(false);
        Some(Counted { stats: registry.grpc(&name), upstream_time: settings.upstream_time, is_answered })
    }
}

/// `/service/method`, and nothing else.
fn service_and_method(path: &str) -> Option<(&str, &str)> {
    let path = path.split('?').next()?;
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    (!service.is_empty() && !method.is_empty() && !method.contains('/')).then_some((service, method))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_service_and_a_method_or_nothing() {
        assert_eq!(service_and_method("/a.B/C"), Some(("a.B", "C")));
        assert_eq!(service_and_method("/a.B/C?d=/e"), Some(("a.B", "C")));
        for bad in ["", "/", "/a", "/a/", "//b", "a/b", "/a/b/c"] {
            assert_eq!(service_and_method(bad), None, "{bad}");
        }
    }
}
