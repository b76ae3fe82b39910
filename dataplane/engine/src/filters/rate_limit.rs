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
    of_service: Vec<(String, String)>,
    /// The request is past the limit, and its answer says so.
    limited: bool,
    of_limit: Vec<(&'static str, String)>,
}

impl Told {
    /// The service's headers, the mark where it is wanted, and what is left of the limit where that is wanted.
    pub fn of(verdict: &mut Verdict, limit: &GlobalRateLimit) -> Told {
        let mut of_limit = Vec::new();
        if let Some((most, remaining, reset)) = verdict.told.take().filter(|_| limit.ratelimit_headers) {
            of_limit.push(("x-ratelimit-limit", most));
            of_limit.push(("x-ratelimit-remaining", remaining.to_string()));
            of_limit.push(("x-ratelimit-reset", reset.to_string()));
        }
        Told {
            of_service: std::mem::take(&mut verdict.response_headers),
            limited: verdict.over_limit && !limit.no_envoy_header,
            of_limit,
        }
    }

    /// Adds the headers.
    pub fn write(&self, fields: &mut Fields) -> Result<(), EditError> {
        for (name, value) in &self.of_service {
            fields.append(name, value.as_bytes())?;
        }
        if self.limited {
            fields.append("x-envoy-ratelimited", b"true")?;
        }
        for (name, value) in &self.of_limit {
            fields.append(name, value.as_bytes())?;
        }
        Ok(())
    }
}
