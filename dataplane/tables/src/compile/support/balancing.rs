//! Fields of load-balancing policy extensions.

use super::Rule::*;
use super::common::PERCENT;
use super::{AnyRule, AnyTypes, Message, row};

const HASH_POLICY: &str = "hash policies belong to routes here";

pub(super) static LB_POLICY: Message = Message {
    name: "envoy.config.cluster.v3.LoadBalancingPolicy",
    fields: &[row(1, "policies", Repeated(&POLICY))],
};

pub(super) static POLICY: Message = Message {
    name: "envoy.config.cluster.v3.LoadBalancingPolicy.Policy",
    fields: &[row(4, "typed_extension_config", Message(&EXTENSION))],
};

pub(super) static EXTENSION: Message = Message {
    name: "envoy.config.core.v3.TypedExtensionConfig",
    fields: &[
        row(1, "name", Ignored("the type of typed_config decides")),
        row(2, "typed_config", Any(&POLICIES)),
    ],
};

pub(super) static POLICIES: AnyTypes = AnyTypes(&[
    ("envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin", AnyRule::Message(&ROUND_ROBIN)),
    (
        "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest",
        AnyRule::Message(&LEAST_REQUEST),
    ),
    ("envoy.extensions.load_balancing_policies.random.v3.Random", AnyRule::Message(&RANDOM)),
    ("envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash", AnyRule::Message(&RING_HASH)),
    ("envoy.extensions.load_balancing_policies.maglev.v3.Maglev", AnyRule::Message(&MAGLEV)),
    (
        "envoy.extensions.load_balancing_policies.cluster_provided.v3.ClusterProvided",
        AnyRule::Message(&CLUSTER_PROVIDED),
    ),
    ("envoy.extensions.load_balancing_policies.wrr_locality.v3.WrrLocality", AnyRule::Message(&WRR_LOCALITY)),
    (
        "envoy.extensions.load_balancing_policies.client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin",
        AnyRule::Refused("weights from load reports of the endpoints are not supported"),
    ),
    (
        "envoy.extensions.load_balancing_policies.subset.v3.Subset",
        AnyRule::Refused("subset load balancing is not supported"),
    ),
]);

pub(super) static RUNTIME_DOUBLE: Message = Message {
    name: "envoy.config.core.v3.RuntimeDouble",
    fields: &[
        row(1, "default_value", Supported),
        row(2, "runtime_key", Ignored("there are no runtime overrides; the default value holds")),
    ],
};

pub(super) static SLOW_START: Message = Message {
    name: "envoy.extensions.load_balancing_policies.common.v3.SlowStartConfig",
    fields: &[
        row(1, "slow_start_window", Supported),
        row(2, "aggression", Message(&RUNTIME_DOUBLE)),
        row(3, "min_weight_percent", Message(&PERCENT)),
    ],
};

pub(super) static LOCALITY_LB: Message = Message {
    name: "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig",
    fields: &[
        row(1, "zone_aware_lb_config", Message(&ZONE_AWARE)),
        row(2, "locality_weighted_lb_config", Message(&LOCALITY_WEIGHTED)),
    ],
};

pub(super) static LOCALITY_WEIGHTED: Message = Message {
    name: "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig.LocalityWeightedLbConfig",
    fields: &[],
};

pub(super) static ZONE_AWARE: Message = Message {
    name: "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig.ZoneAwareLbConfig",
    fields: &[
        row(1, "routing_enabled", Message(&PERCENT)),
        row(2, "min_cluster_size", Supported),
        row(3, "fail_traffic_on_panic", Supported),
        row(
            4,
            "force_locality_direct_routing",
            RefusedUnlessZero("zones share by the number of their healthy hosts"),
        ),
        row(5, "force_local_zone", Refused("zones share by the number of their healthy hosts")),
        row(6, "locality_basis", RefusedUnlessZero("zones share by the number of their healthy hosts")),
    ],
};

pub(super) static CONSISTENT_HASHING: Message = Message {
    name: "envoy.extensions.load_balancing_policies.common.v3.ConsistentHashingLbConfig",
    fields: &[
        row(1, "use_hostname_for_hashing", Supported),
        row(2, "hash_balance_factor", Supported),
        row(3, "hash_policy", Refused(HASH_POLICY)),
    ],
};

pub(super) static ROUND_ROBIN: Message = Message {
    name: "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin",
    fields: &[
        row(1, "slow_start_config", Message(&SLOW_START)),
        row(2, "locality_lb_config", Message(&LOCALITY_LB)),
    ],
};

pub(super) static LEAST_REQUEST: Message = Message {
    name: "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest",
    fields: &[
        row(1, "choice_count", Supported),
        row(2, "active_request_bias", Message(&RUNTIME_DOUBLE)),
        row(3, "slow_start_config", Message(&SLOW_START)),
        row(4, "locality_lb_config", Message(&LOCALITY_LB)),
        row(5, "enable_full_scan", Supported),
        row(6, "selection_method", Supported),
    ],
};

pub(super) static RANDOM: Message = Message {
    name: "envoy.extensions.load_balancing_policies.random.v3.Random",
    fields: &[row(1, "locality_lb_config", Message(&LOCALITY_LB))],
};

pub(super) static RING_HASH: Message = Message {
    name: "envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash",
    fields: &[
        row(1, "hash_function", Supported),
        row(2, "minimum_ring_size", Supported),
        row(3, "maximum_ring_size", Supported),
        row(4, "use_hostname_for_hashing", Supported),
        row(5, "hash_balance_factor", Supported),
        row(6, "consistent_hashing_lb_config", Message(&CONSISTENT_HASHING)),
        row(7, "locality_weighted_lb_config", Message(&LOCALITY_WEIGHTED)),
    ],
};

pub(super) static MAGLEV: Message = Message {
    name: "envoy.extensions.load_balancing_policies.maglev.v3.Maglev",
    fields: &[
        row(1, "table_size", Supported),
        row(2, "consistent_hashing_lb_config", Message(&CONSISTENT_HASHING)),
        row(3, "locality_weighted_lb_config", Message(&LOCALITY_WEIGHTED)),
    ],
};

pub(super) static CLUSTER_PROVIDED: Message = Message {
    name: "envoy.extensions.load_balancing_policies.cluster_provided.v3.ClusterProvided",
    fields: &[],
};

pub(super) static WRR_LOCALITY: Message = Message {
    name: "envoy.extensions.load_balancing_policies.wrr_locality.v3.WrrLocality",
    fields: &[row(1, "endpoint_picking_policy", Message(&LB_POLICY))],
};
