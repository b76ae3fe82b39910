//! Header operations of routes and destinations.

use ringsail_api::networking::Headers;
use ringsail_api::networking::headers::HeaderOperations;
use ringsail_xds::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use ringsail_xds::envoy::config::core::v3::{HeaderValue, HeaderValueOption};

/// Operations in Envoy's form.
#[derive(Debug, Default)]
pub(crate) struct Operations {
    pub(crate) request_add: Vec<HeaderValueOption>,
    pub(crate) request_remove: Vec<String>,
    pub(crate) response_add: Vec<HeaderValueOption>,
    pub(crate) response_remove: Vec<String>,
    /// A request operation on `Host`, which is a rewrite of the authority.
    pub(crate) authority: Option<String>,
}

impl Operations {
    /// Translates the operations of a route or destination.
    pub(crate) fn of(headers: Option<&Headers>) -> Operations {
        let mut out = Operations::default();
        let Some(headers) = headers else { return out };
        if let Some(request) = &headers.request {
            out.request_add = additions(request);
            out.request_remove.clone_from(&request.remove);
            let mut all = request.set.iter().chain(&request.add);
            out.authority = all.find(|(name, _)| is_authority(name)).map(|(_, value)| value.clone());
        }
        if let Some(response) = &headers.response {
            out.response_add = additions(response);
            out.response_remove.clone_from(&response.remove);
        }
        out
    }
}

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case("host") || name == ":authority"
}

fn additions(operations: &HeaderOperations) -> Vec<HeaderValueOption> {
    let set = operations.set.iter().map(|pair| (pair, HeaderAppendAction::OverwriteIfExistsOrAdd));
    let add = operations.add.iter().map(|pair| (pair, HeaderAppendAction::AppendIfExistsOrAdd));
    set.chain(add)
        .filter(|((name, _), _)| !is_authority(name))
        .map(|((name, value), action)| HeaderValueOption {
            header: Some(HeaderValue { key: name.clone(), value: value.clone(), ..HeaderValue::default() }),
            append_action: action as i32,
            ..HeaderValueOption::default()
        })
        .collect()
}
