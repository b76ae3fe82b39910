//! What the proxy needs to know of the machine it runs on.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroUsize;

use ringsail_agent::bootstrap::Bootstrap;
use ringsail_engine::telemetry::Local;
use ringsail_tables::istio::Workload;
use ringsail_tables::metadata::Value;

use crate::ONE;

/// How many shards: the number asked for, else one per processor this process may use. A container's CPU limit counts
/// where the kernel shows it (`available_parallelism` reads the control group).
pub fn shard_count(asked: Option<u32>) -> NonZeroUsize {
    asked
        .and_then(|asked| NonZeroUsize::new(asked as usize))
        .or_else(|| std::thread::available_parallelism().ok())
        .unwrap_or(ONE)
}

/// The first address of this machine that is not loopback, IPv4 first. Compat: Envoy writes its local address to
/// `x-forwarded-for` where the peer is loopback.
pub fn own_address() -> IpAddr {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let addresses: Vec<IpAddr> = interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
        })
        .filter(|address| !address.is_loopback())
        .collect();
    let v4 = addresses.iter().find(|address| address.is_ipv4());
    v4.or(addresses.first()).copied().unwrap_or(Ipv4Addr::LOCALHOST.into())
}

/// `%HOSTNAME%`.
pub fn name() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Who the proxy works for, by its node's metadata.
pub fn workload(bootstrap: &Bootstrap) -> Local {
    let node = &bootstrap.node;
    let metadata = node.metadata.clone().unwrap_or_default();
    let mut workload = Workload::from_metadata(&metadata, |_| true);
    if let Some(locality) = &node.locality {
        if workload.region.is_empty() {
            workload.region.clone_from(&locality.region);
        }
        if workload.zone.is_empty() {
            workload.zone.clone_from(&locality.zone);
        }
    }
    let metadata = Value::from_proto(&metadata);
    let version = match metadata.field("ISTIO_VERSION") {
        Some(Value::String(version)) => version.to_string(),
        _ => String::new(),
    };
    Local { workload, node_id: node.id.clone(), node_cluster: node.cluster.clone(), version, metadata }
}
