//! Which header operations apply, in which order, with which values. Source: `HeaderValueOption`, "Custom
//! request/response headers".

use ringsail_xds::envoy::config::core::v3::HeaderValueOption;
use ringsail_xds::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use ringsail_xds::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use ringsail_xds::envoy::config::route::v3::{Route, RouteConfiguration, VirtualHost};

use crate::Request;

/// One operation on the request's headers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Edit {
    /// Remove all fields of this name.
    Remove(String),
    /// Add another field.
    Append(String, String),
    /// Add a field unless there is one.
    AddIfAbsent(String, String),
    /// Replace all fields of this name, or add one.
    Overwrite(String, String),
    /// Replace all fields of this name, if there are any.
    OverwriteIfExists(String, String),
}

/// "Headers are appended to requests/responses in the following order: weighted cluster level headers, route level
/// headers, virtual host level headers and finally global level headers", the reverse with
/// `most_specific_header_mutations_wins`.
pub(crate) fn edits(
    config: &RouteConfiguration,
    host: &VirtualHost,
    route: &Route,
    weighted: Option<&ClusterWeight>,
    request: &Request,
) -> Vec<Edit> {
    let mut levels: Vec<(&[HeaderValueOption], &[String])> = Vec::new();
    if let Some(weighted) = weighted {
        levels.push((&weighted.request_headers_to_add, &weighted.request_headers_to_remove));
    }
    levels.push((&route.request_headers_to_add, &route.request_headers_to_remove));
    levels.push((&host.request_headers_to_add, &host.request_headers_to_remove));
    levels.push((&config.request_headers_to_add, &config.request_headers_to_remove));
    if config.most_specific_header_mutations_wins {
        levels.reverse();
    }
    let mut all = Vec::new();
    for (add, remove) in levels {
        all.extend(remove.iter().map(|name| Edit::Remove(name.to_ascii_lowercase())));
        all.extend(add.iter().filter_map(|option| addition(option, request)));
    }
    all
}

/// "keep_empty_value: … custom headers with empty values are dropped" unless set.
fn addition(option: &HeaderValueOption, request: &Request) -> Option<Edit> {
    let header = option.header.as_ref()?;
    let name = header.key.to_ascii_lowercase();
    let value = value(&header.value, request);
    if value.is_empty() && !option.keep_empty_value {
        return None;
    }
    Some(match option.append {
        Some(true) => Edit::Append(name, value),
        Some(false) => Edit::Overwrite(name, value),
        None => match HeaderAppendAction::try_from(option.append_action).ok()? {
            HeaderAppendAction::AppendIfExistsOrAdd => Edit::Append(name, value),
            HeaderAppendAction::AddIfAbsent => Edit::AddIfAbsent(name, value),
            HeaderAppendAction::OverwriteIfExistsOrAdd => Edit::Overwrite(name, value),
            HeaderAppendAction::OverwriteIfExists => Edit::OverwriteIfExists(name, value),
        },
    })
}

/// Literals, `%%`, and the operators on the request itself; other operators have no value here.
fn value(format: &str, request: &Request) -> String {
    let mut out = String::new();
    for (index, part) in format.replace("%%", "\0").split('%').enumerate() {
        if index % 2 == 0 {
            out.push_str(&part.replace('\0', "%"));
        } else if let Some(name) = part.strip_prefix("REQ(").and_then(|rest| rest.strip_suffix(')')) {
            let (first, second) = name.split_once('?').unwrap_or((name, ""));
            let found = first_of(request, first).or_else(|| first_of(request, second));
            out.push_str(&found.unwrap_or_default());
        } else if part == "PATH(NQ)" {
            out.push_str(request.path_only());
        }
    }
    out
}

fn first_of(request: &Request, name: &str) -> Option<String> {
    if name.starts_with(':') {
        return request.header(name);
    }
    request.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
}
