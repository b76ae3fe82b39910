//! Services of the mesh: what they are called, where they listen and how their endpoints are found.

use std::fmt;
use std::net::IpAddr;

use crate::labels::Labels;
use crate::protocol::Protocol;
use crate::visibility::Visibility;

/// Identity of a service: one hostname may be declared in several namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// Namespace that declares the service.
    pub namespace: String,
    /// Full host name, lower case; may be a wildcard for a ServiceEntry.
    pub hostname: String,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.hostname)
    }
}

/// Creation order of objects: older first, ties by name, then namespace.
/// Source: Istio sorts every kind of configuration this way; "first wins" means the oldest wins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Age {
    /// `metadata.creationTimestamp` in seconds since 1970; 0 when the object has none.
    pub created_seconds: i64,
    /// Object name.
    pub name: String,
    /// Object namespace.
    pub namespace: String,
}

/// Which kind of object declared a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Registry {
    /// A Kubernetes Service.
    Kubernetes,
    /// An Istio ServiceEntry.
    External,
}

/// How the endpoints of a service are found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Resolution {
    /// The control plane sends the endpoints (EDS).
    ClientSideLb,
    /// The proxy resolves names and balances over all answers.
    Dns,
    /// The proxy resolves one name and connects to the first answer.
    DnsRoundRobin,
    /// The address the client dialled (headless services, `resolution: NONE`).
    Passthrough,
    /// The name in the request decides (`DYNAMIC_DNS`).
    DynamicDns,
    /// Another name for a service; has no traffic configuration of its own.
    Alias(String),
}

/// An address of a service: one virtual IP, or a block of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServiceAddress {
    /// A virtual IP.
    Ip(IpAddr),
    /// A block, with the host bits cleared.
    Cidr(IpAddr, u8),
}

impl ServiceAddress {
    /// Reads `10.0.0.1`, `10.0.0.0/8`, or the same in IPv6; a block of full length is an address.
    pub fn parse(text: &str) -> Option<ServiceAddress> {
        let Some((address, len)) = text.split_once('/') else {
            return text.parse().ok().map(ServiceAddress::Ip);
        };
        let address: IpAddr = address.parse().ok()?;
        let len: u8 = len.parse().ok()?;
        let max = if address.is_ipv4() { 32 } else { 128 };
        match len {
            _ if len > max => None,
            _ if len == max => Some(ServiceAddress::Ip(address)),
            _ => Some(ServiceAddress::Cidr(mask(address, len), len)),
        }
    }
}

impl fmt::Display for ServiceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServiceAddress::Ip(ip) => write!(f, "{ip}"),
            ServiceAddress::Cidr(ip, len) => write!(f, "{ip}/{len}"),
        }
    }
}

fn mask(address: IpAddr, len: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let bits = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & bits).into())
        }
        IpAddr::V6(v6) => {
            let bits = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & bits).into())
        }
    }
}

/// The port of the workload behind a service port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TargetPort {
    /// A number.
    Number(u32),
    /// A container port's name, which each pod may give a number of its own.
    Named(String),
}

/// One port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServicePort {
    /// Port number that clients use, 1–65535.
    pub number: u32,
    /// Port name; may be empty when the service has one port.
    pub name: String,
    /// How the traffic is treated.
    pub protocol: Protocol,
    /// The workload's port.
    pub target: TargetPort,
}

/// Preference for near endpoints without outlier detection (`spec.trafficDistribution`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TrafficDistribution {
    /// No preference.
    #[default]
    Any,
    /// Same zone first (`PreferClose`, `PreferSameZone`).
    PreferSameZone,
    /// Same node first, then same zone (`PreferSameNode`).
    PreferSameNode,
}

/// A service as the mesh sees it. Immutable; compared by value when a snapshot is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Identity.
    pub key: ServiceKey,
    /// Name of the declaring object (for ServiceEntries: the host name, as istiod reports it).
    pub name: String,
    /// Age of the declaring object.
    pub age: Age,
    /// Kind of the declaring object.
    pub registry: Registry,
    /// Virtual IPs and blocks; empty for headless services and ServiceEntries without addresses.
    pub addresses: Vec<ServiceAddress>,
    /// Addresses the control plane made up for a ServiceEntry without any; used only by proxies that answer DNS.
    pub auto_addresses: Vec<IpAddr>,
    /// Ports in declaration order.
    pub ports: Vec<ServicePort>,
    /// Where endpoints come from.
    pub resolution: Resolution,
    /// Outside the mesh (`MESH_EXTERNAL`): no mesh TLS, no mesh metadata.
    pub external: bool,
    /// Which namespaces may use it.
    pub visibility: Visibility,
    /// Selector of the workloads, empty when there is none.
    pub selector: Labels,
    /// Labels of the declaring object.
    pub labels: Labels,
    /// Names of services that resolve to this one (ExternalName), sorted.
    pub aliases: Vec<ServiceKey>,
    /// Nearness preference.
    pub traffic_distribution: TrafficDistribution,
    /// Only endpoints on the client's node (`internalTrafficPolicy: Local`).
    pub node_local: bool,
}

impl Service {
    /// Host name.
    pub fn hostname(&self) -> &str {
        &self.key.hostname
    }

    /// The port with this number.
    pub fn port(&self, number: u32) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.number == number)
    }

    /// No virtual IP, and the client dials the endpoint itself.
    pub fn is_headless(&self) -> bool {
        self.resolution == Resolution::Passthrough && self.addresses.is_empty()
    }

    /// Whether the service is only another name for one that carries the configuration.
    pub fn is_alias(&self) -> bool {
        matches!(self.resolution, Resolution::Alias(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_loses_its_host_bits_and_a_full_length_block_is_an_address() {
        let show = |text| ServiceAddress::parse(text).map(|a| a.to_string());
        assert_eq!(show("10.1.2.3/8").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(show("10.1.2.3/0").as_deref(), Some("0.0.0.0/0"));
        assert_eq!(show("10.1.2.3/32").as_deref(), Some("10.1.2.3"));
        assert_eq!(show("1234:1f1:123::1/32").as_deref(), Some("1234:1f1::/32"));
        assert_eq!(show("10.1.2.3/33"), None);
        assert_eq!(show("name"), None);
    }

    #[test]
    fn older_objects_come_first_then_name_then_namespace() {
        let age = |seconds, name: &str, namespace: &str| Age {
            created_seconds: seconds,
            name: name.into(),
            namespace: namespace.into(),
        };
        assert!(age(1, "z", "z") < age(2, "a", "a"));
        assert!(age(1, "a", "z") < age(1, "b", "a"));
        assert!(age(1, "a", "a") < age(1, "a", "b"));
    }
}
