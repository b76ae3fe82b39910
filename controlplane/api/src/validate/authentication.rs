//! PeerAuthentication and RequestAuthentication.

use crate::security::{JwtRule, PeerAuthentication, RequestAuthentication};
use crate::validate::checker::Checker;
use crate::validate::common::{duration, port, selector};
use crate::validate::policy;

pub(crate) fn check_peer(checker: &mut Checker, spec: &PeerAuthentication) {
    checker.set("selector", spec.selector.as_ref(), |checker, workloads| {
        selector(checker, "matchLabels", &workloads.match_labels);
    });
    let selects = spec.selector.as_ref().is_some_and(|workloads| !workloads.match_labels.is_empty());
    checker.entries("portLevelMtls", &spec.port_level_mtls, |checker, number, _| port(checker, *number));
    if !selects && !spec.port_level_mtls.is_empty() {
        checker.field("portLevelMtls", |checker| {
            let fix = "add a `selector` with labels, or leave the ports out";
            checker.error("ports can be set for selected workloads only").fix(fix);
        });
    }
}

pub(crate) fn check_request(checker: &mut Checker, spec: &RequestAuthentication) {
    policy::targets(checker, spec.selector.as_ref(), spec.target_ref.as_ref(), &spec.target_refs);
    checker.each("jwtRules", &spec.jwt_rules, check_rule);
}

fn check_rule(checker: &mut Checker, rule: &JwtRule) {
    if rule.issuer.is_empty() && rule.jwks_uri.is_empty() {
        checker.error("issuer or jwksUri must be non-empty string");
    }
    for (name, list) in [
        ("audiences", &rule.audiences),
        ("fromParams", &rule.from_params),
        ("fromCookies", &rule.from_cookies),
        ("spaceDelimitedClaims", &rule.space_delimited_claims),
    ] {
        checker.each(name, list, |checker, value| {
            if value.is_empty() {
                checker.error("an empty value").fix("remove it");
            }
        });
    }
    if !rule.jwks_uri.is_empty() && !is_http_url(&rule.jwks_uri) {
        checker.field("jwksUri", |checker| {
            checker.error(format!("`{}`: the url must have scheme http or https", rule.jwks_uri));
        });
    }
    if !rule.jwks.is_empty() {
        checker.field("jwks", |checker| jwks(checker, &rule.jwks));
    }
    checker.each("fromHeaders", &rule.from_headers, |checker, header| {
        if header.name.is_empty() {
            checker.error("the header has no name");
        }
    });
    checker.each("outputClaimToHeaders", &rule.output_claim_to_headers, |checker, output| {
        if output.claim.is_empty() || output.header.is_empty() {
            checker.error("both `header` and `claim` are required");
        } else if !output.header.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
            checker.field("header", |checker| {
                checker.error(format!("`{}` is not a header name", output.header));
            });
        }
    });
    checker.set("timeout", rule.timeout.as_ref(), duration);
}

fn is_http_url(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', ':']) && !rest.contains(' '))
}

/// A key set must be JSON with key types; private keys do not belong there.
fn jwks(checker: &mut Checker, text: &str) {
    let parsed: Result<serde_json::Value, _> = serde_json::from_str(text);
    let keys = match &parsed {
        Ok(serde_json::Value::Object(set)) => match set.get("keys") {
            Some(serde_json::Value::Array(keys)) => keys.clone(),
            Some(_) => Vec::new(),
            None => vec![serde_json::Value::Object(set.clone())],
        },
        Ok(_) | Err(_) => Vec::new(),
    };
    if keys.is_empty() || keys.iter().any(|key| key.get("kty").is_none()) {
        checker.error("not a JSON Web Key Set").fix("write `{\"keys\": [{\"kty\": …}]}`");
    }
    if keys.iter().any(|key| key.get("d").is_some()) {
        checker.warning("the key set holds a private key").fix("publish public keys only");
    }
}
