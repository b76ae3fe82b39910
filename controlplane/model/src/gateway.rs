//! Gateways: which servers a router workload opens.

use std::collections::BTreeSet;

use ringsail_api::networking;

use crate::host;
use crate::labels::{self, Labels};
use crate::service::Age;

/// Names the Services through which a gateway is reached instead of a selector; set by generated objects.
pub const GATEWAY_SERVICE_ANNOTATION: &str = "internal.istio.io/gateway-service";

/// A Gateway object.
#[derive(Clone, Debug, PartialEq)]
pub struct Gateway {
    /// Object name.
    pub name: String,
    /// Object namespace.
    pub namespace: String,
    /// Creation order.
    pub age: Age,
    /// Host names of the Services that carry it, when bound by annotation instead of by selector.
    pub bound_services: BTreeSet<String>,
    /// The object.
    pub spec: networking::Gateway,
}

impl Gateway {
    /// `<namespace>/<name>`, the form VirtualServices refer to.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Whether a workload with these labels carries the gateway. An empty selector selects every router.
    pub fn selects(&self, workload: &Labels) -> bool {
        labels::selects(&self.spec.selector, workload)
    }
}

/// One entry of a server's `hosts`: which namespaces may bind which names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerHost {
    /// Namespace of the VirtualService; `None` allows every namespace.
    pub namespace: Option<String>,
    /// Name or wildcard.
    pub hostname: String,
}

impl ServerHost {
    /// Reads `dns`, `ns/dns`, `*/dns` or `./dns`; `.` is the gateway's namespace.
    pub fn parse(text: &str, gateway_namespace: &str) -> ServerHost {
        let (namespace, hostname) = match text.split_once('/') {
            None | Some(("*", _)) => (None, text.split_once('/').map_or(text, |(_, name)| name)),
            Some((".", name)) => (Some(gateway_namespace.to_owned()), name),
            Some((namespace, name)) => (Some(namespace.to_owned()), name),
        };
        ServerHost { namespace, hostname: hostname.to_ascii_lowercase() }
    }

    /// The host a VirtualService of `namespace` serves here, when `virtual_host` and this entry overlap.
    pub fn bind(&self, namespace: &str, virtual_host: &str) -> Option<String> {
        if self.namespace.as_deref().is_some_and(|own| own != namespace)
            || !host::overlaps(&self.hostname, virtual_host)
        {
            return None;
        }
        Some(host::more_specific(virtual_host, &self.hostname).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_host_limits_the_namespace_of_the_virtual_service() {
        let own = ServerHost::parse("./*.example.com", "edge");
        assert_eq!(own.bind("edge", "a.example.com").as_deref(), Some("a.example.com"));
        assert_eq!(own.bind("shop", "a.example.com"), None);
        let any = ServerHost::parse("*/a.example.com", "edge");
        assert_eq!(any.bind("shop", "*.example.com").as_deref(), Some("a.example.com"));
        assert_eq!(ServerHost::parse("*", "edge").bind("x", "b.org").as_deref(), Some("b.org"));
        assert_eq!(ServerHost::parse("A.example.com", "edge").bind("x", "b.org"), None);
    }
}
