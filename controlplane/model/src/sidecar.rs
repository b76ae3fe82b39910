//! Sidecar resources: what a workload imports and which ports it opens.

use ringsail_api::networking;

use crate::host;
use crate::labels::{self, Labels};
use crate::service::{Age, ServiceKey};

/// A Sidecar object.
#[derive(Clone, Debug, PartialEq)]
pub struct Sidecar {
    /// Object name.
    pub name: String,
    /// Object namespace.
    pub namespace: String,
    /// Creation order.
    pub age: Age,
    /// The object.
    pub spec: networking::Sidecar,
}

impl Sidecar {
    /// The selector, `None` when the object is the default of its namespace.
    pub fn selector(&self) -> Option<&Labels> {
        self.spec
            .workload_selector
            .as_ref()
            .map(|selector| &selector.labels)
            .filter(|labels| !labels.is_empty())
    }
}

/// Picks the Sidecar for a workload: selector match in its namespace, then the namespace's default, then the default
/// of the root namespace. `sidecars` is in creation order.
pub fn pick<'a, S>(
    sidecars: impl IntoIterator<Item = &'a S> + Clone,
    namespace: &str,
    workload: &Labels,
    root: &str,
) -> Option<&'a S>
where
    S: std::borrow::Borrow<Sidecar> + 'a,
{
    let find = |namespace: &str, with_selector: bool| {
        sidecars.clone().into_iter().find(|sidecar| {
            let sidecar: &Sidecar = (*sidecar).borrow();
            sidecar.namespace == namespace
                && match sidecar.selector() {
                    Some(selector) => with_selector && labels::selects(selector, workload),
                    None => !with_selector,
                }
        })
    };
    find(namespace, true).or_else(|| find(namespace, false)).or_else(|| find(root, false))
}

/// One `namespace/host` entry of an egress listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    namespace: Option<String>,
    excluded: bool,
    hostname: String,
}

impl Import {
    /// Reads `ns/host`; `*` is any namespace, `.` the workload's own, and a leading `~` excludes.
    pub fn parse(text: &str, own_namespace: &str) -> Import {
        let (namespace, hostname) = text.split_once('/').unwrap_or(("*", text));
        // `~/…` alone imports nothing; `~ns/…` takes back what another entry imports.
        let (excluded, namespace) = match namespace.strip_prefix('~') {
            Some(rest) => (true, if rest.is_empty() { "*" } else { rest }),
            None => (false, namespace),
        };
        let namespace = match namespace {
            "*" => None,
            "." => Some(own_namespace.to_owned()),
            other => Some(other.to_owned()),
        };
        Import { namespace, excluded, hostname: hostname.to_ascii_lowercase() }
    }

    fn in_namespace(&self, namespace: &str) -> bool {
        self.namespace.as_deref().is_none_or(|own| own == namespace)
    }
}

/// The `hosts` of one egress listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imports {
    entries: Vec<Import>,
}

impl Imports {
    /// Reads the list.
    pub fn parse<S: AsRef<str>>(hosts: &[S], own_namespace: &str) -> Imports {
        Imports { entries: hosts.iter().map(|host| Import::parse(host.as_ref(), own_namespace)).collect() }
    }

    /// Whether a service is imported: its name lies inside an entry of its namespace.
    pub fn includes_service(&self, service: &ServiceKey) -> bool {
        self.includes(&service.namespace, |pattern| host::is_subset_of(&service.hostname, pattern))
    }

    /// Whether a VirtualService of `namespace` is imported: one of its hosts overlaps an entry.
    pub fn includes_hosts<S: AsRef<str>>(&self, namespace: &str, hosts: &[S]) -> bool {
        hosts.iter().any(|name| self.includes(namespace, |pattern| host::overlaps(name.as_ref(), pattern)))
    }

    fn includes(&self, namespace: &str, matches: impl Fn(&str) -> bool) -> bool {
        let hit = |excluded: bool| {
            self.entries
                .iter()
                .any(|e| e.excluded == excluded && e.in_namespace(namespace) && matches(&e.hostname))
        };
        hit(false) && !hit(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(namespace: &str, hostname: &str) -> ServiceKey {
        ServiceKey { namespace: namespace.into(), hostname: hostname.into() }
    }

    #[test]
    fn import_names_a_namespace_and_a_host() {
        let imports = Imports::parse(&["./*", "prod/api.prod.svc", "*/*.example.com"], "shop");
        assert!(imports.includes_service(&service("shop", "a.shop.svc")));
        assert!(imports.includes_service(&service("prod", "api.prod.svc")));
        assert!(!imports.includes_service(&service("prod", "db.prod.svc")));
        assert!(imports.includes_service(&service("x", "a.example.com")));
    }

    #[test]
    fn tilde_imports_nothing_or_takes_back() {
        assert!(!Imports::parse(&["~/*"], "shop").includes_service(&service("shop", "a.shop.svc")));
        let imports = Imports::parse(&["*/*", "~prod/*"], "shop");
        assert!(imports.includes_service(&service("shop", "a")));
        assert!(!imports.includes_service(&service("prod", "a")));
    }

    #[test]
    fn virtual_service_is_imported_when_one_host_overlaps() {
        let imports = Imports::parse(&["*/known.default.svc"], "default");
        assert!(imports.includes_hosts("default", &["other", "*.default.svc"]));
        assert!(!imports.includes_hosts("default", &["other"]));
    }
}
