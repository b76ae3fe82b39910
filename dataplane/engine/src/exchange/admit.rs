//! Which requests are routed at all, and in which form.

use ringsail_http::path::{EscapedSlashes as Slashes, Fragment, Normalization, Outcome};
use ringsail_http::{Method, TargetForm, Version};
use ringsail_tables::hcm::{EscapedSlashes, PathNormalization};
use ringsail_tables::route::{Action, RouteMatch, Upgrade};

use super::Exchange;
use crate::body::RequestBody;
use crate::failure::Failure;
use crate::headers::request::{Peer, settle_authority, settle_fields};

/// What admission found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Go on.
    Admitted,
    /// The path had to be unescaped, and the client is to be sent to the result, which is in the scratch text.
    Redirect,
}

/// What kind of protocol switch a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Switch {
    /// None: an ordinary request.
    None,
    /// To the protocol in its `Upgrade` header.
    Upgrade,
    /// To a tunnel: CONNECT, forwarded as such.
    Connect,
    /// To a tunnel that begins here: CONNECT, answered by us; the upstream gets the raw bytes.
    ConnectHere,
}

/// Checks and settles the request's head, in Envoy's order.
pub(super) fn admit(exchange: &mut Exchange<'_>) -> Result<Admission, Failure> {
    let manager = exchange.facts.manager;
    let head = &mut *exchange.request;
    let too_large = |_| Failure::HeadTooLargeAfterEdits;
    if head.version() == Version::Http10 {
        if !manager.accept_http_10 {
            return Err(Failure::LowVersion);
        }
        if head.authority().is_none_or(<[u8]>::is_empty)
            && let Some(host) = &manager.default_host_for_http_10
        {
            head.set_authority(host.as_bytes()).map_err(too_large)?;
        }
    }
    if head.authority().is_none() {
        return Err(Failure::MissingHost);
    }
    if head.target_form() == TargetForm::Asterisk {
        return Err(Failure::NotAPath);
    }
    if head.method() == Some(Method::Query) && !head.fields().contains("content-type") {
        return Err(Failure::QueryWithoutContentType);
    }
    let connect = head.target_form() == TargetForm::Authority;
    let mut redirect = false;
    if !connect {
        match normalization(manager.path).apply(head.path(), exchange.text) {
            Outcome::Unchanged => {}
            Outcome::Changed => head.set_path(exchange.text).map_err(too_large)?,
            // Compat: an answer of ours finds the path, and so do log lines, as far as it was settled.
            Outcome::Redirect => {
                head.set_path(exchange.text).map_err(too_large)?;
                redirect = true;
            }
            Outcome::Rejected => {
                head.set_path(exchange.text).map_err(too_large)?;
                return Err(Failure::PathNormalization);
            }
        }
    }
    settle_authority(head, manager, exchange.facts.connection.local.map(|local| local.port()))
        .map_err(too_large)?;

    // `h2c` is not a protocol to switch to here: the header goes and the request is an ordinary one.
    let upgrade = head.upgrade().is_some_and(|protocol| !protocol.eq_ignore_ascii_case(b"h2c"));
    exchange.facts.switch = match (connect, upgrade) {
        (true, _) => Switch::Connect,
        (false, true) => Switch::Upgrade,
        (false, false) => Switch::None,
    };
    let peer = Peer {
        tls: exchange.facts.connection.stream.tls().map(|facts| &**facts),
        address: exchange.facts.connection.peer,
        local: exchange.facts.connection.local,
        own_address: exchange.facts.shard.identity.address,
    };
    exchange.facts.origin =
        settle_fields(head, manager, peer, upgrade, || fastrand::u128(..)).map_err(too_large)?;
    Ok(if redirect { Admission::Redirect } else { Admission::Admitted })
}

fn normalization(path: PathNormalization) -> Normalization {
    Normalization {
        normalize: path.normalize,
        merge_slashes: path.merge_slashes,
        escaped_slashes: match path.escaped_slashes {
            EscapedSlashes::Keep => Slashes::Keep,
            EscapedSlashes::Reject => Slashes::Reject,
            EscapedSlashes::UnescapeAndRedirect => Slashes::Redirect,
            EscapedSlashes::UnescapeAndForward => Slashes::Forward,
        },
        // Compat: as Envoy under Istio's bootstrap, which switches its own default (400) off.
        fragment: Fragment::Strip,
    }
}

/// Refuses a switch that neither the route nor the connection manager allows. An allowed one has no body: what follows
/// its head belongs to the new protocol.
pub(super) fn allow_switch(
    exchange: &mut Exchange<'_>,
    body: &mut RequestBody<'_>,
    found: &RouteMatch<'_>,
) -> Result<(), Failure> {
    let kind = match exchange.facts.switch {
        Switch::None => return Ok(()),
        Switch::Upgrade => exchange.request.upgrade().unwrap_or_default(),
        Switch::Connect | Switch::ConnectHere => b"connect",
    };
    let named = |upgrade: &&Upgrade| kind.eq_ignore_ascii_case(upgrade.kind.as_bytes());
    let by_route = match &found.route.action {
        Action::Forward(forward) => forward.upgrades.iter().find(named),
        Action::Redirect(_) | Action::DirectResponse(_) => None,
    };
    match by_route.or_else(|| exchange.facts.manager.upgrades.iter().find(named)) {
        Some(rule) if rule.enabled => {
            if exchange.facts.switch == Switch::Connect && rule.terminate_connect {
                exchange.facts.switch = Switch::ConnectHere;
            }
            body.become_tunnel();
            exchange.facts.progress.request_complete.set(None);
            Ok(())
        }
        Some(_) | None => Err(Failure::UpgradeNotAllowed),
    }
}
