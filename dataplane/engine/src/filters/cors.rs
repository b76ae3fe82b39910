//! Cross-origin requests. Source: `envoy.extensions.filters.http.cors.v3.CorsPolicy`; header order as observed.

use ringsail_http::{EditError, Fields, Method, RequestHead};
use ringsail_tables::policy::CorsPolicy;

/// What the policy says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No cross-origin request, or one whose origin is not allowed: it goes on as any other.
    NotConcerned,
    /// A preflight: answered here.
    Preflight,
    /// An allowed request: its answer says so.
    Allowed,
}

/// Judges a request.
pub fn judge(policy: &CorsPolicy, request: &RequestHead, random: impl FnOnce() -> u64) -> Verdict {
    let Some(origin) = request.fields().get("origin") else { return Verdict::NotConcerned };
    if !policy.enabled.chooses(random()) {
        return Verdict::NotConcerned;
    }
    let preflight = request.method() == Some(Method::Options)
        && request.fields().get("access-control-request-method").is_some_and(|method| !method.is_empty());
    match (policy.allows(origin), preflight) {
        (true, true) => Verdict::Preflight,
        (true, false) => Verdict::Allowed,
        (false, true) if !policy.forward_not_matching_preflights => Verdict::Preflight,
        (false, _) => Verdict::NotConcerned,
    }
}

/// The answer to a preflight. An origin that is not allowed gets none of the headers.
pub fn write_preflight(
    policy: &CorsPolicy,
    request: &RequestHead,
    answer: &mut Fields,
) -> Result<(), EditError> {
    let origin = request.fields().get("origin").unwrap_or_default();
    if !policy.allows(origin) {
        return Ok(());
    }
    answer.append("access-control-allow-origin", origin)?;
    if policy.allow_credentials {
        answer.append("access-control-allow-credentials", b"true")?;
    }
    for (name, value) in [
        ("access-control-allow-methods", &policy.allow_methods),
        ("access-control-allow-headers", &policy.allow_headers),
        ("access-control-max-age", &policy.max_age),
    ] {
        if !value.is_empty() {
            answer.append(name, value.as_bytes())?;
        }
    }
    let private = request.fields().get("access-control-request-private-network") == Some(b"true");
    if private && policy.allow_private_network_access {
        answer.append("access-control-allow-private-network", b"true")?;
    }
    if !policy.expose_headers.is_empty() {
        answer.append("access-control-expose-headers", policy.expose_headers.as_bytes())?;
    }
    Ok(())
}

/// Additions to the answer of an allowed request.
pub fn write_allowed(policy: &CorsPolicy, origin: &[u8], answer: &mut Fields) -> Result<(), EditError> {
    answer.set("access-control-allow-origin", origin)?;
    if policy.allow_credentials {
        answer.set("access-control-allow-credentials", b"true")?;
    }
    if !policy.expose_headers.is_empty() {
        answer.set("access-control-expose-headers", policy.expose_headers.as_bytes())?;
    }
    Ok(())
}
