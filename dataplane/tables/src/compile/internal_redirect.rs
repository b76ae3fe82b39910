//! Redirects that are followed here.

use ringsail_xds::envoy::config::core::v3::TypedExtensionConfig;
use ringsail_xds::envoy::config::route::v3 as pb;
use ringsail_xds::envoy::extensions::internal_redirect::allow_listed_routes::v3::AllowListedRoutesConfig;
use ringsail_xds::envoy::extensions::internal_redirect::previous_routes::v3::PreviousRoutesConfig;
use ringsail_xds::envoy::extensions::internal_redirect::safe_cross_scheme::v3::SafeCrossSchemeConfig;

use super::context::Context;
use super::value::{holds, unpack};
use crate::route::{InternalRedirects, RedirectPredicate};

/// Statuses that are redirects; Envoy passes others of the list over.
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];
/// Source: `InternalRedirectPolicy.redirect_response_codes`.
const STATUS_DEFAULT: u16 = 302;
/// Source: `InternalRedirectPolicy.max_internal_redirects`.
const FOLLOWED_MAX_DEFAULT: u32 = 1;

pub(super) fn internal_redirects(
    cx: &mut Context<'_>,
    value: &pb::InternalRedirectPolicy,
) -> Option<InternalRedirects> {
    let asked = value.redirect_response_codes.iter().filter_map(|code| u16::try_from(*code).ok());
    let mut statuses: Vec<u16> = asked.filter(|code| REDIRECTS.contains(code)).collect();
    if value.redirect_response_codes.is_empty() {
        statuses.push(STATUS_DEFAULT);
    }
    let headers_to_copy = cx.each("response_headers_to_copy", &value.response_headers_to_copy, |cx, name| {
        if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
            return cx.refuse("", format_args!("{name} cannot be copied"));
        }
        Some(cx.intern_lower(name))
    });
    let predicates = cx.each("predicates", &value.predicates, predicate);
    (predicates.len() == value.predicates.len()).then(|| InternalRedirects {
        followed_max: value.max_internal_redirects.unwrap_or(FOLLOWED_MAX_DEFAULT),
        statuses: statuses.into(),
        across_schemes: value.allow_cross_scheme_redirect,
        headers_to_copy,
        predicates,
    })
}

fn predicate(cx: &mut Context<'_>, value: &TypedExtensionConfig) -> Option<RedirectPredicate> {
    let Some(any) = &value.typed_config else { return cx.refuse("typed_config", "is not set") };
    if holds::<PreviousRoutesConfig>(any) {
        return Some(RedirectPredicate::PreviousRoutes);
    }
    if holds::<SafeCrossSchemeConfig>(any) {
        return Some(RedirectPredicate::SafeCrossScheme);
    }
    if holds::<AllowListedRoutesConfig>(any) {
        let config = cx.at("typed_config", |cx| unpack::<AllowListedRoutesConfig>(cx, any))?;
        let names = config.allowed_route_names.iter().map(|name| cx.intern(name)).collect();
        return Some(RedirectPredicate::AllowListed(names));
    }
    cx.refuse("typed_config", format_args!("predicate {:?} is not supported", any.type_url))
}
