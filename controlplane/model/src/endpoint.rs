//! Endpoints: where the workloads of a service are reached.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::labels::Labels;

/// Where an endpoint is dialled.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndpointAddress {
    /// An IP address.
    Ip(IpAddr),
    /// A name that the proxy resolves (DNS services only).
    Dns(String),
    /// A Unix socket path, or an abstract name beginning with `@`.
    Unix(String),
}

impl EndpointAddress {
    /// Reads an IP address, `unix://…`, or a DNS name.
    pub fn parse(text: &str) -> EndpointAddress {
        if let Some(path) = text.strip_prefix("unix://") {
            return EndpointAddress::Unix(path.to_owned());
        }
        match text.parse() {
            Ok(ip) => EndpointAddress::Ip(ip),
            Err(_) => EndpointAddress::Dns(text.to_ascii_lowercase()),
        }
    }

    /// The address when it is an IP.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            EndpointAddress::Ip(ip) => Some(*ip),
            EndpointAddress::Dns(_) | EndpointAddress::Unix(_) => None,
        }
    }
}

/// Whether an endpoint may be picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// May be picked.
    Healthy,
    /// Sent, counted for priorities, never picked.
    Unhealthy,
}

/// Region, zone and subzone; each may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Locality {
    /// `topology.kubernetes.io/region`.
    pub region: String,
    /// `topology.kubernetes.io/zone`.
    pub zone: String,
    /// `topology.istio.io/subzone`.
    pub subzone: String,
}

impl Locality {
    /// Reads `region/zone/subzone`; missing parts are empty, further ones are left out.
    pub fn parse(text: &str) -> Locality {
        let mut parts = text.split('/').map(str::to_owned);
        Locality {
            region: parts.next().unwrap_or_default(),
            zone: parts.next().unwrap_or_default(),
            subzone: parts.next().unwrap_or_default(),
        }
    }

    /// Reads the well-known node or pod labels.
    pub fn from_labels(labels: &Labels) -> Locality {
        if let Some(text) = labels.get("istio-locality") {
            return Locality::parse(&text.replace('.', "/"));
        }
        let label = |key: &str| labels.get(key).cloned().unwrap_or_default();
        Locality {
            region: label("topology.kubernetes.io/region"),
            zone: label("topology.kubernetes.io/zone"),
            subzone: label("topology.istio.io/subzone"),
        }
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.region.is_empty() && self.zone.is_empty() && self.subzone.is_empty()
    }

    /// Whether `pattern` (`*`, `region/*`, `region/zone/*` or exact) covers this locality.
    pub fn matches(&self, pattern: &str) -> bool {
        let own = [&self.region, &self.zone, &self.subzone];
        for (index, part) in pattern.split('/').enumerate() {
            match own.get(index) {
                _ if part == "*" => return true,
                Some(own) if own.as_str() == part => {}
                _ => return false,
            }
        }
        true
    }
}

impl std::fmt::Display for Locality {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.region)?;
        if !self.zone.is_empty() || !self.subzone.is_empty() {
            write!(f, "/{}", self.zone)?;
        }
        if !self.subzone.is_empty() {
            write!(f, "/{}", self.subzone)?;
        }
        Ok(())
    }
}

/// The workload behind an endpoint, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Workload {
    /// Name: the pod's owner where known, else the pod or WorkloadEntry.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Labels that subsets select by.
    pub labels: Labels,
    /// Kubernetes service account.
    pub service_account: String,
    /// Kubernetes node name.
    pub node: String,
    /// Cluster the workload runs in; empty for the only one.
    pub cluster: String,
    /// Network the workload is on; empty for the default one.
    pub network: String,
}

/// One endpoint of one service port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Where it is dialled.
    pub address: EndpointAddress,
    /// Port of the workload; 0 for Unix sockets.
    pub port: u32,
    /// Whether it may be picked.
    pub health: Health,
    /// Where it runs.
    pub locality: Locality,
    /// Relative weight, at least 1.
    pub weight: u32,
    /// Who it is.
    pub workload: Arc<Workload>,
}

/// All endpoints of one service by the number of the service port, in a stable order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceEndpoints {
    /// Service port number → endpoints.
    pub by_port: BTreeMap<u32, Vec<Endpoint>>,
}

impl ServiceEndpoints {
    /// Endpoints of a service port.
    pub fn of_port(&self, number: u32) -> &[Endpoint] {
        self.by_port.get(&number).map_or(&[], Vec::as_slice)
    }

    /// Every endpoint with its service port.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Endpoint)> {
        self.by_port.iter().flat_map(|(port, endpoints)| endpoints.iter().map(move |e| (*port, e)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locality_pattern_matches_from_the_left() {
        let locality = Locality::parse("r/z/s");
        for pattern in ["*", "r/*", "r/z/*", "r/z/s", "r", "r/z"] {
            assert!(locality.matches(pattern), "{pattern}");
        }
        for pattern in ["q/*", "r/y/*", "r/z/t", "r/z/s/x"] {
            assert!(!locality.matches(pattern), "{pattern}");
        }
        assert_eq!(locality.to_string(), "r/z/s");
        assert_eq!(Locality::parse("r/z").to_string(), "r/z");
    }

    #[test]
    fn endpoint_address_is_ip_socket_or_name() {
        assert!(matches!(EndpointAddress::parse("10.0.0.1"), EndpointAddress::Ip(_)));
        assert_eq!(EndpointAddress::parse("unix:///tmp/s"), EndpointAddress::Unix("/tmp/s".into()));
        assert_eq!(EndpointAddress::parse("Db.example.com"), EndpointAddress::Dns("db.example.com".into()));
    }
}
