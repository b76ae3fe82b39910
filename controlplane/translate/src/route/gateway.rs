//! Routes of gateways: virtual hosts of the VirtualServices bound to the servers of a port.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use ringsail_model::{Mesh, Proxy, ServerHost, Service, View};
use ringsail_xds::envoy::config::route::v3::virtual_host::TlsRequirementType;
use ringsail_xds::envoy::config::route::v3::{Route, RouteConfiguration, VirtualHost};

use super::virtual_service::{self, RouteScope, consistent_hash};
use super::{configuration, matching};
use crate::cluster::PortPolicy;
use crate::gateway::BoundServer;
use crate::names;
use crate::route::sidecar::find_service;

/// Builds the routes that the HTTP servers of one port share.
pub(crate) fn build(
    name: &str,
    servers: &[&BoundServer],
    mesh: &Mesh,
    proxy: &Proxy,
    view: &View,
) -> RouteConfiguration {
    let mut hosts: BTreeMap<String, VirtualHost> = BTreeMap::new();
    for server in servers {
        let redirects = server.spec.tls.as_ref().is_some_and(|tls| tls.https_redirect);
        let declared: Vec<ServerHost> =
            server.spec.hosts.iter().map(|host| ServerHost::parse(host, &server.namespace)).collect();
        for vs in ringsail_model::virtual_services_for(mesh, &proxy.namespace, &server.gateway) {
            let mut bound: Vec<String> = Vec::new();
            for virtual_host in &vs.spec.hosts {
                for server_host in &declared {
                    let host = server_host.bind(&vs.namespace, virtual_host);
                    bound.extend(host.filter(|host| !bound.contains(host)));
                }
            }
            if bound.is_empty() {
                continue;
            }
            let service = |hostname: &str| find_service(mesh, view, proxy, hostname);
            let hash = |service: &Service, subset: &str, port: u32| {
                let rule = mesh.destination_rule(&proxy.namespace, &proxy.labels, service);
                let policy = PortPolicy::effective(rule.map(|rule| &**rule), subset, port, mesh.settings());
                consistent_hash(policy.load_balancer)
            };
            let scope = RouteScope {
                proxy,
                settings: mesh.settings(),
                gateway: &server.gateway,
                port: server.port(),
                tls: server.spec.tls.is_some(),
                service: &service,
                hash: &hash,
            };
            let routes = virtual_service::build(&vs, &scope);
            if routes.is_empty() {
                continue;
            }
            for host in bound {
                let entry = match hosts.entry(host) {
                    Entry::Occupied(entry) => entry.into_mut(),
                    Entry::Vacant(entry) => {
                        let host = virtual_host(entry.key(), server.port());
                        entry.insert(host)
                    }
                };
                entry.routes.extend(routes.iter().cloned());
                if redirects {
                    entry.require_tls = TlsRequirementType::All as i32;
                }
            }
        }
        if redirects {
            for host in declared {
                let port = server.port();
                let entry =
                    hosts.entry(host.hostname.clone()).or_insert_with(|| virtual_host(&host.hostname, port));
                entry.require_tls = TlsRequirementType::All as i32;
            }
        }
    }
    if hosts.is_empty() {
        // Without a virtual host every request answers 404, and the listener still becomes ready.
        let port = servers.first().map_or(0, |server| server.port());
        let blackhole = VirtualHost {
            name: names::host_port("blackhole", port),
            domains: vec!["*".to_owned()],
            ..VirtualHost::default()
        };
        return configuration(name, vec![blackhole]);
    }
    let mut hosts: Vec<VirtualHost> = hosts.into_values().collect();
    for host in &mut hosts {
        // Routes of several VirtualServices are in one list: those that match everything must not hide the others.
        let (last, first): (Vec<Route>, Vec<Route>) =
            std::mem::take(&mut host.routes).into_iter().partition(matching::is_catch_all);
        host.routes = first;
        host.routes.extend(last);
    }
    hosts.sort_by(|a, b| a.name.cmp(&b.name));
    configuration(name, hosts)
}

fn virtual_host(host: &str, port: u32) -> VirtualHost {
    VirtualHost {
        name: names::host_port(host, port),
        domains: vec![host.to_owned()],
        include_request_attempt_count: true,
        ..VirtualHost::default()
    }
}
