//! Injected faults. Source: `envoy.extensions.filters.http.fault.v3.HTTPFault`.

use std::time::Duration;

use ringsail_http::RequestHead;
use ringsail_tables::policy::{AbortStatus, Fault};

use crate::view::RequestView;

/// What to do to a request; first the delay, then the abort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Hold it back for so long.
    pub delay: Option<Duration>,
    /// Answer it here.
    pub abort: Option<AbortStatus>,
}

/// Draws the faults for one request to a cluster. `random` gives a number per share, as Envoy draws anew for each.
pub fn judge(
    fault: &Fault,
    request: &RequestHead,
    cluster: Option<&str>,
    mut random: impl FnMut() -> u64,
) -> Verdict {
    let other_cluster =
        !fault.upstream_cluster.is_empty() && cluster.is_none_or(|name| fault.upstream_cluster != *name);
    if other_cluster || !fault.headers.iter().all(|header| header.matches(&RequestView(request))) {
        return Verdict::default();
    }
    if !fault.downstream_nodes.is_empty() {
        let node = request.fields().get("x-envoy-downstream-service-node");
        if !fault.downstream_nodes.iter().any(|wanted| node == Some(wanted.as_bytes())) {
            return Verdict::default();
        }
    }
    let delay = fault.delay.filter(|delay| delay.share.chooses(random())).map(|delay| delay.duration);
    let abort = fault.abort.filter(|abort| abort.share.chooses(random())).map(|abort| abort.status);
    Verdict { delay, abort }
}
