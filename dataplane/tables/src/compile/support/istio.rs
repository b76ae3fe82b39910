//! Fields of Istio's own filters.

use super::Rule::*;
use super::{Message, row};

pub(super) static ISTIO_STATS: Message = Message {
    name: "stats.PluginConfig",
    fields: &[
        row(6, "disable_host_header_fallback", Supported),
        row(7, "tcp_reporting_duration", Supported),
        row(8, "metrics", Repeated(&METRIC_CONFIG)),
        row(
            9,
            "definitions",
            Ignored("metrics of one's own are not produced; the standard ones are the same without them"),
        ),
        row(10, "reporter", Supported),
        row(11, "rotation_interval", Supported),
        row(12, "graceful_deletion_interval", Supported),
    ],
};

pub(super) static METRIC_CONFIG: Message = Message {
    name: "stats.MetricConfig",
    fields: &[
        row(1, "dimensions", Supported),
        row(2, "name", Supported),
        row(3, "tags_to_remove", Supported),
        row(4, "match", Ignored("not implemented by Envoy either")),
        row(5, "drop", Supported),
    ],
};

pub(super) static PEER_METADATA: Message = Message {
    name: "io.istio.http.peer_metadata.Config",
    fields: &[
        row(1, "downstream_discovery", Repeated(&DISCOVERY)),
        row(2, "upstream_discovery", Repeated(&DISCOVERY)),
        row(3, "downstream_propagation", Repeated(&PROPAGATION)),
        row(4, "upstream_propagation", Repeated(&PROPAGATION)),
        row(5, "shared_with_upstream", Ignored("nothing upstream of the filters reads it")),
        row(6, "additional_labels", Supported),
    ],
};

pub(super) static DISCOVERY: Message = Message {
    name: "io.istio.http.peer_metadata.Config.DiscoveryMethod",
    fields: &[
        row(1, "baggage", Ignored("peers are not learned from baggage headers; their labels are `unknown`")),
        row(2, "workload_discovery", Ignored("no workloads are subscribed to; the next method is asked")),
        row(3, "istio_headers", Message(&ISTIO_HEADERS)),
        row(4, "upstream_filter_state", Ignored("nothing sets it; the next method is asked")),
    ],
};

pub(super) static PROPAGATION: Message = Message {
    name: "io.istio.http.peer_metadata.Config.PropagationMethod",
    fields: &[
        row(1, "istio_headers", Message(&ISTIO_HEADERS)),
        row(2, "baggage", Ignored("baggage headers are not sent; peers show our labels as `unknown`")),
    ],
};

pub(super) static ISTIO_HEADERS: Message = Message {
    name: "io.istio.http.peer_metadata.Config.IstioHeaders",
    fields: &[row(1, "skip_external_clusters", Supported)],
};
