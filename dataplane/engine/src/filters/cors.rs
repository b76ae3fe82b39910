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

/// A verdict, and what counts for statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What to do.
    pub verdict: Verdict,
    /// Whether the origin is allowed; `None` when it was not asked.
    pub origin_allowed: Option<bool>,
}

/// Judges a request. `random` gives a number per share.
pub fn judge(policy: &CorsPolicy, request: &RequestHead, mut random: impl FnMut() -> u64) -> Judgement {
    let unasked = Judgement { verdict: Verdict::NotConcerned, origin_allowed: None };
    let Some(origin) = request.fields().get("origin").filter(|origin| !origin.is_empty()) else {
        return unasked;
    };
    let enabled = policy.enabled.chooses(random());
    if !enabled && !policy.shadow.chooses(random()) {
        return unasked;
    }
    let allowed = policy.allows(origin);
    let preflight = request.method() == Some(Method::Options)
        && request.fields().get("access-control-request-method").is_some_and(|method| !method.is_empty());
    let verdict = match (allowed, preflight) {
        _ if !enabled => Verdict::NotConcerned,
        (true, true) => Verdict::Preflight,
        (true, false) => Verdict::Allowed,
        (false, true) if !policy.forward_not_matching_preflights => Verdict::Preflight,
        (false, _) => Verdict::NotConcerned,
    };
    Judgement { verdict, origin_allowed: Some(allowed) }
}

/// The answer to a preflight. An origin that is not allowed gets none of the headers.
pub fn write_preflight(
    policy: &CorsPolicy,
    request: &RequestHead,
    answer: &mut Fields,
) -> Result<(), EditError> {
    let origin = request.fields().get("origin").unwrap_or_default();
    // Compat: a preflight of another origin that is answered here gets everything but the leave.
    let allowed = policy.allows(origin);
    if allowed {
        answer.append("access-control-allow-origin", origin)?;
    }
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
    if allowed && private && policy.allow_private_network_access {
        answer.append("access-control-allow-private-network", b"true")?;
    }
    if allowed && !policy.expose_headers.is_empty() {
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
