//! Limits that a service keeps. Source: `envoy.extensions.filters.http.ratelimit.v3.RateLimit`.

use ringsail_http::{EditError, Fields};
use ringsail_tables::rate_limit::service::Verdict;
use ringsail_tables::rate_limit::{Clients, Descriptor, GlobalRateLimit, Surroundings, VirtualHostRules};
use ringsail_tables::request::Request;
use ringsail_tables::route::RouteMatch;

/// What the service is asked about: the domain and the request's descriptors. `None`: it is not asked.
pub fn question<'a>(
    limit: &'a GlobalRateLimit,
    found: &RouteMatch<'a>,
    request: &impl Request,
    internal: bool,
    around: Surroundings<'_>,
    random: u64,
) -> Option<(&'a str, Vec<Descriptor>)> {
    let concerned = match limit.clients {
        Clients::Both => true,
        Clients::Internal => internal,
        Clients::External => !internal,
    };
    if !concerned || !limit.enabled.chooses(random) {
        return None;
    }
    let of_route = found.rate_limit();
    let domain = of_route.and_then(|of_route| of_route.domain.as_deref()).unwrap_or(&limit.domain);
    let descriptors: Vec<Descriptor> = match of_route.filter(|of_route| !of_route.rules.is_empty()) {
        Some(own) => {
            let rules = own.rules.iter().filter(|rule| rule.stage == limit.stage);
            rules.filter_map(|rule| rule.descriptor(request, around)).collect()
        }
        None => {
            let of_host = of_route.map_or(VirtualHostRules::Override, |of_route| of_route.virtual_host_rules);
            let rules = found.rate_limit_rules(limit.stage, of_host);
            rules.filter_map(|rule| rule.descriptor(request, around)).collect()
        }
    };
    (!descriptors.is_empty()).then_some((domain, descriptors))
}

/// What answers to a request say of it.
#[derive(Debug, Default)]
pub struct Told {
    headers: Vec<(String, String)>,
}

impl Told {
    /// The service's headers, and those of the limit where they are wanted.
    pub fn of(verdict: &mut Verdict, ratelimit_headers: bool) -> Told {
        let mut headers = Vec::new();
        if let Some((limit, remaining, reset)) = verdict.told.take().filter(|_| ratelimit_headers) {
            headers.push(("x-ratelimit-limit".to_owned(), limit));
            headers.push(("x-ratelimit-remaining".to_owned(), remaining.to_string()));
            headers.push(("x-ratelimit-reset".to_owned(), reset.to_string()));
        }
        headers.append(&mut verdict.response_headers);
        Told { headers }
    }

    /// Adds the headers.
    pub fn write(&self, fields: &mut Fields) -> Result<(), EditError> {
        self.headers.iter().try_for_each(|(name, value)| fields.append(name, value.as_bytes()))
    }
}
