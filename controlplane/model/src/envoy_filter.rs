//! EnvoyFilters: patches to what a proxy is sent, read once and checked against Envoy's messages.
//!
//! An object is applied as a whole or not at all: when one of its values is no message that the proxy understands, the
//! object has no effect and [`analyze()`](crate::analyze()) says so with the field path. Half of a filter chain would
//! be worse than none.

use std::sync::Arc;

use regex::Regex;
use ringsail_api::networking::envoy_filter::envoy_config_object_match::ObjectTypes;
use ringsail_api::networking::envoy_filter::patch::Operation;
use ringsail_api::networking::envoy_filter::{
    ApplyTo, ClusterMatch, EnvoyConfigObjectPatch, ListenerMatch, PatchContext, ProxyMatch,
    RouteConfigurationMatch,
};
use ringsail_api::{networking, parse_duration, selector};
use ringsail_xds::envoy::config::cluster::v3::Cluster;
use ringsail_xds::envoy::config::listener::v3::{Filter, FilterChain, Listener, ListenerFilter};
use ringsail_xds::envoy::config::route::v3::{Route, RouteConfiguration, VirtualHost};
use ringsail_xds::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use ringsail_xds::json::{self, Schema, Step};
use ringsail_xds::prost::{Message, Name};
use serde_json::Value;

use crate::labels::Labels;
use crate::proxy::Proxy;
use crate::service::Age;
use crate::target;

/// Longest `proxyVersion`, in bytes. A longer one matches no proxy. Source: istiod, `envoyfilter.go`.
const PROXY_VERSION_BYTES_MAX: usize = 1024;
const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// An EnvoyFilter.
#[derive(Clone, Debug, PartialEq)]
pub struct EnvoyFilter {
    /// Object name.
    pub name: String,
    /// Object namespace.
    pub namespace: String,
    /// Creation order.
    pub age: Age,
    /// Objects of a lower one are applied first.
    pub priority: i32,
    workload_selector: Labels,
    targets: Vec<selector::PolicyTargetReference>,
    /// In order of the object; none when the object is refused.
    patches: Vec<Arc<Patch>>,
    /// Why the object is refused.
    pub refusals: Vec<Refusal>,
}

/// What of an object cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The field.
    pub field_path: String,
    /// What is wrong with it.
    pub message: String,
}

/// One patch.
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    /// What kind of thing it changes.
    pub apply_to: ApplyTo,
    /// How.
    pub operation: Operation,
    /// In which part of a proxy.
    pub context: PatchContext,
    /// Which listeners; `None` for all.
    pub listener: Option<ListenerMatch>,
    /// Which routes; `None` for all.
    pub route: Option<RouteConfigurationMatch>,
    /// Which clusters; `None` for all.
    pub cluster: Option<ClusterMatch>,
    /// What is added or merged; `None` for removals.
    pub value: Option<PatchValue>,
    proxy: Option<ProxyMatch>,
    version: Version,
}

/// Which versions of proxies a patch is for.
#[derive(Clone, Debug)]
enum Version {
    Every,
    /// The expression does not compile or is too long.
    None,
    Matching(Regex),
}

impl PartialEq for Version {
    fn eq(&self, other: &Version) -> bool {
        match (self, other) {
            (Version::Every, Version::Every) | (Version::None, Version::None) => true,
            (Version::Matching(a), Version::Matching(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}

/// A part of Envoy's configuration.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum PatchValue {
    Listener(Box<Listener>),
    ListenerFilter(Box<ListenerFilter>),
    FilterChain(Box<FilterChain>),
    NetworkFilter(Box<Filter>),
    HttpFilter(Box<HttpFilter>),
    RouteConfiguration(Box<RouteConfiguration>),
    VirtualHost(Box<VirtualHost>),
    HttpRoute(Box<Route>),
    Cluster(Box<Cluster>),
}

impl EnvoyFilter {
    /// Reads an object.
    pub(crate) fn build(
        name: &str,
        namespace: &str,
        age: Age,
        spec: &networking::EnvoyFilter,
        schema: &Schema,
    ) -> EnvoyFilter {
        let mut patches = Vec::new();
        let mut refusals = Vec::new();
        for (index, declared) in spec.config_patches.iter().enumerate() {
            match Patch::read(declared, schema) {
                Ok(patch) => patches.push(Arc::new(patch)),
                Err((field, message)) => {
                    refusals
                        .push(Refusal { field_path: format!("spec.configPatches[{index}]{field}"), message });
                }
            }
        }
        if !refusals.is_empty() {
            patches.clear();
        }
        EnvoyFilter {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            age,
            priority: spec.priority,
            workload_selector: spec.workload_selector.clone().unwrap_or_default().labels,
            targets: spec.target_refs.clone(),
            patches,
            refusals,
        }
    }

    /// Whether the object is about this proxy's workload.
    fn concerns(&self, proxy: &Proxy) -> bool {
        target::concerns(&self.workload_selector, &self.targets.iter().collect::<Vec<_>>(), proxy)
    }
}

/// The patches for a proxy in the order they are applied: by priority, those of the root namespace first, then by age.
/// Source: istiod, `push_context.go`.
pub(crate) fn patches_for<'a>(
    filters: impl Iterator<Item = &'a EnvoyFilter>,
    proxy: &Proxy,
    root: &str,
) -> Vec<Arc<Patch>> {
    let mut concerned: Vec<&EnvoyFilter> = filters
        .filter(|filter| filter.namespace == root || filter.namespace == proxy.namespace)
        .filter(|filter| filter.concerns(proxy))
        .collect();
    concerned.sort_by(|a, b| {
        (a.priority, a.namespace != root, &a.age).cmp(&(b.priority, b.namespace != root, &b.age))
    });
    let patches = concerned.into_iter().flat_map(|filter| &filter.patches);
    patches.filter(|patch| patch.is_for(proxy)).cloned().collect()
}

impl Patch {
    fn read(declared: &EnvoyConfigObjectPatch, schema: &Schema) -> Result<Patch, (String, String)> {
        let apply_to = declared.apply_to();
        let patch = declared.patch.clone().unwrap_or_default();
        let operation = patch.operation();
        let condition = declared.r#match.clone().unwrap_or_default();
        let value = match (&patch.value, operation) {
            (_, Operation::Remove) | (None, _) => None,
            (Some(value), _) => Some(PatchValue::read(apply_to, &json::struct_from_proto(value), schema)?),
        };
        let mut read = Patch {
            apply_to,
            operation: with_order(operation, apply_to),
            context: condition.context(),
            listener: None,
            route: None,
            cluster: None,
            value,
            version: Version::of(condition.proxy.as_ref()),
            proxy: condition.proxy,
        };
        match condition.object_types {
            Some(ObjectTypes::Listener(found)) => read.listener = Some(found),
            Some(ObjectTypes::RouteConfiguration(found)) => read.route = Some(found),
            Some(ObjectTypes::Cluster(found)) => read.cluster = Some(found),
            Some(ObjectTypes::Waypoint(_)) | None => {}
        }
        Ok(read)
    }

    /// Whether the proxy is of the version and has the metadata that the patch asks for.
    fn is_for(&self, proxy: &Proxy) -> bool {
        let Some(wanted) = &self.proxy else { return true };
        let version = match &self.version {
            Version::Every => true,
            Version::None => false,
            Version::Matching(expression) => {
                let own = proxy.metadata.get("ISTIO_VERSION");
                own.is_some_and(|version| expression.is_match(version))
            }
        };
        version && wanted.metadata.iter().all(|(key, value)| proxy.metadata.get(key) == Some(value))
    }
}

/// Order matters for filters and routes only; elsewhere an insertion is an addition.
fn with_order(operation: Operation, apply_to: ApplyTo) -> Operation {
    use ApplyTo::{HttpFilter, HttpRoute, ListenerFilter, NetworkFilter};
    let ordered = matches!(apply_to, HttpFilter | NetworkFilter | HttpRoute | ListenerFilter);
    match operation {
        Operation::InsertBefore | Operation::InsertAfter | Operation::InsertFirst if !ordered => {
            Operation::Add
        }
        other => other,
    }
}

impl Version {
    fn of(proxy: Option<&ProxyMatch>) -> Version {
        match proxy.map(|proxy| proxy.proxy_version.as_str()) {
            None | Some("") => Version::Every,
            Some(text) if text.len() > PROXY_VERSION_BYTES_MAX => Version::None,
            Some(text) => Regex::new(text).map_or(Version::None, Version::Matching),
        }
    }
}

impl PatchValue {
    fn read(apply_to: ApplyTo, value: &Value, schema: &Schema) -> Result<PatchValue, (String, String)> {
        unknown_type(value, schema).map_or(Ok(()), |name| {
            let message = format!("the type {name} is not supported");
            Err((".patch.value".to_owned(), message))
        })?;
        Ok(match apply_to {
            ApplyTo::Listener => PatchValue::Listener(Box::new(message(value, schema)?)),
            ApplyTo::ListenerFilter => PatchValue::ListenerFilter(Box::new(message(value, schema)?)),
            ApplyTo::FilterChain => PatchValue::FilterChain(Box::new(message(value, schema)?)),
            ApplyTo::NetworkFilter => PatchValue::NetworkFilter(Box::new(message(value, schema)?)),
            ApplyTo::HttpFilter => PatchValue::HttpFilter(Box::new(message(value, schema)?)),
            ApplyTo::RouteConfiguration => PatchValue::RouteConfiguration(Box::new(message(value, schema)?)),
            ApplyTo::VirtualHost => PatchValue::VirtualHost(Box::new(message(value, schema)?)),
            ApplyTo::HttpRoute => PatchValue::HttpRoute(Box::new(message(value, schema)?)),
            ApplyTo::Cluster => PatchValue::Cluster(Box::new(message(value, schema)?)),
            ApplyTo::ExtensionConfig | ApplyTo::Bootstrap | ApplyTo::Invalid => {
                let message = format!("{} is not patched", apply_to.as_str_name());
                return Err((".applyTo".to_owned(), message));
            }
        })
    }
}

fn message<M: Message + Name + Default>(value: &Value, schema: &Schema) -> Result<M, (String, String)> {
    let mut value = value.clone();
    loop {
        let error = match schema.from_json(&value) {
            Ok(message) => return Ok(message),
            Err(error) => error,
        };
        // Each round writes one value differently, so there are at most as many rounds as values.
        if rewrite_duration(&mut value, &error.path) {
            continue;
        }
        let path = error.path_text();
        let place = if path.is_empty() || path.starts_with('[') { path } else { format!(".{path}") };
        return Err((format!(".patch.value{place}"), error.text));
    }
}

/// Writes `500ms` and `1m30s` as seconds. `false` when the place holds no such text, or seconds already.
///
/// Compat: istiod reads patches with a decoder that takes Go's durations.
fn rewrite_duration(value: &mut Value, path: &[Step]) -> bool {
    let mut place = value;
    for step in path {
        let inner = match step {
            Step::Key(key) => place.get_mut(key),
            Step::Index(index) => place.get_mut(index),
        };
        let Some(inner) = inner else { return false };
        place = inner;
    }
    let Some(nanos) = place.as_str().and_then(|text| parse_duration(text).ok()) else { return false };
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.abs();
    let seconds = format!("{sign}{}.{:09}s", nanos / NANOS_PER_SECOND, nanos % NANOS_PER_SECOND);
    let is_new = place.as_str() != Some(&seconds);
    *place = Value::String(seconds);
    is_new
}

/// The first type of an extension in a value that is not among Envoy's messages we hold.
fn unknown_type<'a>(value: &'a Value, schema: &Schema) -> Option<&'a str> {
    match value {
        Value::Object(fields) => {
            let declared = fields.get("@type").and_then(Value::as_str);
            let inner = declared.filter(|name| json::is_typed_struct(name)).and_then(|_| {
                fields.get("type_url").or_else(|| fields.get("typeUrl")).and_then(Value::as_str)
            });
            let unknown = |name: &&str| !schema.knows(name);
            declared
                .filter(unknown)
                .or(inner.filter(unknown))
                .or_else(|| fields.values().find_map(|field| unknown_type(field, schema)))
        }
        Value::Array(values) => values.iter().find_map(|value| unknown_type(value, schema)),
        _ => None,
    }
}
