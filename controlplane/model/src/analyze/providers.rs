//! Extension providers that nothing can be sent to, and EnvoyFilters that are not applied.

use ringsail_api::istio::mesh::v1alpha1::mesh_config::extension_provider::{
    HttpHeader, Provider, http_header,
};
use ringsail_api::telemetry::{ProviderRef, Telemetry};
use ringsail_api::validate::UNENFORCED;

use crate::mesh::Mesh;
use crate::telemetry::provider;

/// What a provider is named for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Metrics,
    Traces,
    Logs,
}

/// A finding: code, field path and message.
pub(super) type Finding = (Option<&'static str>, String, String);

/// Providers of a Telemetry object that do not work, by field.
pub(super) fn of_telemetry(mesh: &Mesh, spec: &Telemetry) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut look = |path: String, list: &[ProviderRef], purpose| {
        for (index, named) in list.iter().enumerate() {
            let problem = problem(mesh, &named.name, purpose);
            found.extend(problem.map(|(code, text)| (code, format!("{path}.providers[{index}].name"), text)));
        }
    };
    for (index, metrics) in spec.metrics.iter().enumerate() {
        look(format!("spec.metrics[{index}]"), &metrics.providers, Purpose::Metrics);
    }
    for (index, tracing) in spec.tracing.iter().enumerate() {
        look(format!("spec.tracing[{index}]"), &tracing.providers, Purpose::Traces);
    }
    for (index, logging) in spec.access_logging.iter().enumerate() {
        look(format!("spec.accessLogging[{index}]"), &logging.providers, Purpose::Logs);
    }
    found
}

/// Default providers of MeshConfig that do not work, by field.
pub(super) fn of_mesh_config(mesh: &Mesh) -> Vec<Finding> {
    let Some(defaults) = &mesh.settings().config.default_providers else { return Vec::new() };
    let lists = [
        ("metrics", &defaults.metrics, Purpose::Metrics),
        ("tracing", &defaults.tracing, Purpose::Traces),
        ("accessLogging", &defaults.access_logging, Purpose::Logs),
    ];
    let mut found = Vec::new();
    for (field, list, purpose) in lists {
        for (index, name) in list.iter().enumerate() {
            let problem = problem(mesh, name, purpose);
            let path = format!("data.mesh: defaultProviders.{field}[{index}]");
            found.extend(problem.map(|(code, text)| (code, path, text)));
        }
    }
    found
}

fn problem(mesh: &Mesh, name: &str, purpose: Purpose) -> Option<(Option<&'static str>, String)> {
    let consequence = match purpose {
        Purpose::Metrics => "no metrics are made for it",
        Purpose::Traces => "no spans are sent",
        Purpose::Logs => "nothing is logged by it",
    };
    let Some(found) = provider(&mesh.settings().config, name).and_then(|found| found.provider) else {
        return Some((Some("IST0101"), format!("no extension provider has the name {name}; {consequence}")));
    };
    let usable = match purpose {
        Purpose::Metrics => matches!(found, Provider::Prometheus(_)),
        Purpose::Traces => match &found {
            Provider::Zipkin(_) => true,
            Provider::Opentelemetry(own) => own.sampling.is_none(),
            _ => false,
        },
        Purpose::Logs => matches!(
            found,
            Provider::EnvoyFileAccessLog(_)
                | Provider::EnvoyHttpAls(_)
                | Provider::EnvoyTcpAls(_)
                | Provider::EnvoyOtelAls(_)
        ),
    };
    if !usable {
        let what = match &found {
            Provider::Opentelemetry(_) if purpose == Purpose::Traces => {
                "the Dynatrace sampler is not supported".to_owned()
            }
            other => format!("a provider of kind {} is not supported here", kind(other)),
        };
        return Some((Some(UNENFORCED), format!("{name}: {what}; {consequence}")));
    }
    let (service, port) = collector(&found)?;
    let Some(known) = mesh.collector(service) else {
        let text = format!(
            "{name}: no service, or more than one, has the host {service}; {consequence} \
             (name it as `namespace/host` when several namespaces have one)"
        );
        return Some((Some("IST0101"), text));
    };
    if known.port(port).is_none() {
        return Some((Some("IST0101"), format!("{name}: {service} has no port {port}; {consequence}")));
    }
    let secret = headers(&found)
        .iter()
        .find(|header| matches!(header.header_value, Some(http_header::HeaderValue::EnvName(_))))?;
    let text =
        format!("{name}: the header {} has its value from an environment, which is not read", secret.name);
    Some((Some(UNENFORCED), text))
}

fn kind(provider: &Provider) -> &'static str {
    match provider {
        Provider::EnvoyExtAuthzHttp(_) => "envoyExtAuthzHttp",
        Provider::EnvoyExtAuthzGrpc(_) => "envoyExtAuthzGrpc",
        Provider::Zipkin(_) => "zipkin",
        Provider::Lightstep(_) => "lightstep",
        Provider::Datadog(_) => "datadog",
        Provider::Stackdriver(_) => "stackdriver",
        Provider::Opencensus(_) => "opencensus",
        Provider::Skywalking(_) => "skywalking",
        Provider::Opentelemetry(_) => "opentelemetry",
        Provider::Prometheus(_) => "prometheus",
        Provider::EnvoyFileAccessLog(_) => "envoyFileAccessLog",
        Provider::EnvoyHttpAls(_) => "envoyHttpAls",
        Provider::EnvoyTcpAls(_) => "envoyTcpAls",
        Provider::EnvoyOtelAls(_) => "envoyOtelAls",
        Provider::Sds(_) => "sds",
    }
}

fn collector(provider: &Provider) -> Option<(&str, u32)> {
    match provider {
        Provider::Zipkin(own) => Some((&own.service, own.port)),
        Provider::Opentelemetry(own) => Some((&own.service, own.port)),
        Provider::EnvoyHttpAls(own) => Some((&own.service, own.port)),
        Provider::EnvoyTcpAls(own) => Some((&own.service, own.port)),
        Provider::EnvoyOtelAls(own) => Some((&own.service, own.port)),
        _ => None,
    }
}

fn headers(provider: &Provider) -> &[HttpHeader] {
    match provider {
        Provider::Zipkin(own) => &own.headers,
        Provider::Opentelemetry(own) => match (&own.http, &own.grpc) {
            (Some(http), _) => &http.headers,
            (None, Some(grpc)) => &grpc.initial_metadata,
            (None, None) => &[],
        },
        _ => &[],
    }
}
