//! Rate limits: which descriptors a request has, and what a local limit is.
//!
//! A *descriptor* is a list of keys and values that a request is counted under. Routes say how to make descriptors
//! ([`Rule`]); a local limit has a bucket for some of them, a rate limit service is asked about all of them.

mod by_value;
pub mod service;

use std::net::IpAddr;
use std::time::Duration;

use crate::fraction::Fraction;
use crate::header_ops::HeaderOps;
use crate::ids::ClusterSlot;
use crate::metadata::{Metadata, Value};
use crate::request::{Request, percent_decoded, query_parameter, split_path};
use crate::route::{HeaderMatch, QueryMatch};
use crate::strings::Str;
use crate::token_bucket::TokenBucket;

pub use by_value::ByValue;

/// How one descriptor is made. Source: `envoy.config.route.v3.RateLimit`.
#[derive(Debug)]
pub struct Rule {
    /// Only filters of this stage see it.
    pub stage: u32,
    /// Its entries, in order; one that cannot be made makes the whole descriptor void.
    pub actions: Box<[Action]>,
    /// A limit that the rate limit service is to apply instead of its own.
    pub limit: Option<LimitOverride>,
    /// How much a request counts; `None` leaves it to whoever counts.
    pub hits: Option<u64>,
}

/// Source: `RateLimit.Override.RateLimitOverride`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LimitOverride {
    /// Requests per unit.
    pub requests: u32,
    /// The number of an `envoy.type.v3.RateLimitUnit`.
    pub unit: i32,
}

/// How one entry is made. Source: `RateLimit.Action`.
#[derive(Debug)]
pub enum Action {
    /// The cluster this proxy is in (`--service-cluster`).
    SourceCluster,
    /// The cluster the request goes to.
    DestinationCluster,
    /// A request header's first value.
    Header {
        /// Its name.
        name: Str,
        /// Key of the entry.
        key: Str,
        /// Without the header: leave out the entry instead of the descriptor.
        skip_if_absent: bool,
    },
    /// A query parameter's first value.
    Query {
        /// Its name.
        name: Str,
        /// Key of the entry.
        key: Str,
        /// Without the parameter: leave out the entry instead of the descriptor.
        skip_if_absent: bool,
    },
    /// The client's address.
    RemoteAddress,
    /// The client's network.
    MaskedRemoteAddress {
        /// Prefix length for IPv4.
        v4_len: u8,
        /// Prefix length for IPv6.
        v6_len: u8,
    },
    /// Always the same.
    Generic {
        /// Key of the entry.
        key: Str,
        /// Its value.
        value: Str,
    },
    /// A fixed value, when headers match or when they do not.
    HeadersMatch {
        /// Key of the entry.
        key: Str,
        /// Its value.
        value: Str,
        /// What the match must come to.
        expect: bool,
        /// All must match.
        headers: Box<[HeaderMatch]>,
    },
    /// A fixed value, when query parameters match or when they do not.
    QueryMatches {
        /// Key of the entry.
        key: Str,
        /// Its value.
        value: Str,
        /// What the match must come to.
        expect: bool,
        /// All must match.
        parameters: Box<[QueryMatch]>,
    },
    /// A string of the route's metadata.
    RouteMetadata {
        /// Key of the entry.
        key: Str,
        /// Namespace of the metadata.
        namespace: Str,
        /// Path in the namespace.
        path: Box<[Str]>,
        /// Without a value.
        default: Option<Str>,
        /// Without both: leave out the entry instead of the descriptor.
        skip_if_absent: bool,
    },
}

/// What a request is counted under.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Descriptor {
    /// Keys and values, in order; never empty.
    pub entries: Vec<(String, String)>,
    /// See [`Rule::limit`].
    pub limit: Option<LimitOverride>,
    /// See [`Rule::hits`].
    pub hits: Option<u64>,
}

/// What descriptors are made of besides the request.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// The cluster this proxy is in.
    pub source_cluster: &'a str,
    /// The cluster the request goes to.
    pub destination_cluster: &'a str,
    /// The client, unless it came over a Unix socket.
    pub client: Option<IpAddr>,
    /// The route's metadata.
    pub route_metadata: Option<&'a Metadata>,
}

impl Rule {
    /// The descriptor of a request; `None` when it has none by this rule.
    pub fn descriptor(
        &self,
        request: &(impl Request + ?Sized),
        around: Surroundings<'_>,
    ) -> Option<Descriptor> {
        let mut entries = Vec::with_capacity(self.actions.len());
        for action in &self.actions {
            match action.entry(request, around) {
                Entry::Add(key, value) => entries.push((key.to_owned(), value)),
                Entry::Skip => {}
                Entry::Void => return None,
            }
        }
        (!entries.is_empty()).then_some(Descriptor { entries, limit: self.limit, hits: self.hits })
    }
}

enum Entry<'a> {
    Add(&'a str, String),
    Skip,
    Void,
}

impl Action {
    fn entry(&self, request: &(impl Request + ?Sized), around: Surroundings<'_>) -> Entry<'_> {
        let optional = |key, value: Option<String>, skip: bool| match (value, skip) {
            (Some(value), _) => Entry::Add(key, value),
            (None, true) => Entry::Skip,
            (None, false) => Entry::Void,
        };
        let fixed = |key, value: &Str, holds: bool| {
            if holds { Entry::Add(key, value.as_str().to_owned()) } else { Entry::Void }
        };
        match self {
            Action::SourceCluster => Entry::Add("source_cluster", around.source_cluster.to_owned()),
            Action::DestinationCluster => {
                Entry::Add("destination_cluster", around.destination_cluster.to_owned())
            }
            Action::Header { name, key, skip_if_absent } => {
                let value = match name.as_str() {
                    ":path" => Some(request.path().to_owned()),
                    ":method" => Some(request.method().to_owned()),
                    ":authority" | "host" => Some(request.authority().to_owned()),
                    ":scheme" => Some(request.scheme().to_owned()),
                    _ => request.header(name, 0).map(|value| String::from_utf8_lossy(value).into_owned()),
                };
                optional(key, value, *skip_if_absent)
            }
            Action::Query { name, key, skip_if_absent } => {
                let value = query_parameter(split_path(request.path()).query, name);
                optional(key, value.map(percent_decoded), *skip_if_absent)
            }
            Action::RemoteAddress => {
                optional("remote_address", around.client.map(|ip| ip.to_canonical().to_string()), false)
            }
            Action::MaskedRemoteAddress { v4_len, v6_len } => optional(
                "masked_remote_address",
                around.client.map(|ip| masked(ip.to_canonical(), *v4_len, *v6_len)),
                false,
            ),
            Action::Generic { key, value } => fixed(key, value, true),
            Action::HeadersMatch { key, value, expect, headers } => {
                fixed(key, value, headers.iter().all(|header| header.matches(request)) == *expect)
            }
            Action::QueryMatches { key, value, expect, parameters } => {
                let query = split_path(request.path()).query;
                fixed(key, value, parameters.iter().all(|one| one.matches_decoded(query)) == *expect)
            }
            Action::RouteMetadata { key, namespace, path, default, skip_if_absent } => {
                let found = around.route_metadata.and_then(|metadata| metadata.at(namespace, path));
                let text = match found {
                    Some(Value::String(text)) if !text.is_empty() => Some(text.as_str().to_owned()),
                    _ => default.as_ref().map(|text| text.as_str().to_owned()),
                };
                optional(key, text, *skip_if_absent)
            }
        }
    }
}

/// Source: `MaskedRemoteAddress`: the network with its prefix length.
fn masked(ip: IpAddr, v4_len: u8, v6_len: u8) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(v4_len.min(32))).unwrap_or(0);
            format!("{}/{v4_len}", std::net::Ipv4Addr::from(u32::from(ip) & mask))
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(v6_len.min(128))).unwrap_or(0);
            format!("{}/{v6_len}", std::net::Ipv6Addr::from(u128::from(ip) & mask))
        }
    }
}

/// Which rules of a virtual host apply to a route that may have its own.
/// Source: `VhRateLimitsOptions`, `RouteAction.include_vh_rate_limits`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VirtualHostRules {
    /// They apply where the route has none.
    Override,
    /// They apply as well.
    Include,
    /// They do not apply.
    Ignore,
}

/// A limit this proxy keeps itself. Source: `envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit`.
#[derive(Debug)]
pub struct LocalRateLimit {
    /// Prefix in statistics.
    pub stat_prefix: Str,
    /// Share of requests that are counted. Without it the filter does nothing.
    pub enabled: Fraction,
    /// Share of requests past the limit that are refused.
    pub enforced: Fraction,
    /// The buckets.
    pub limiter: Limiter,
    /// Whether each downstream connection has buckets of its own.
    pub per_connection: bool,
    /// Status of a refusal, 400 or above. Default 429.
    pub status: u16,
    /// Headers of a refusal.
    pub response_headers: HeaderOps,
    /// Headers of a request past the limit that is let through.
    pub request_headers_when_not_enforced: HeaderOps,
    /// Whether answers say `x-ratelimit-limit`, `-remaining` and `-reset`.
    pub ratelimit_headers: bool,
    /// Whether refusals with 429 say `retry-after`.
    pub retry_after: bool,
    /// gRPC clients get RESOURCE_EXHAUSTED instead of UNAVAILABLE.
    pub resource_exhausted: bool,
    /// Which rules of routes count.
    pub stage: u32,
    /// Which rules of virtual hosts count.
    pub virtual_host_rules: VirtualHostRules,
    /// Rules of the filter itself; with any of them those of routes do not count.
    pub rules: Box<[Rule]>,
}

/// The buckets of a local limit.
#[derive(Debug)]
pub struct Limiter {
    /// For every request; `None` is no limit.
    pub bucket: Option<TokenBucket>,
    /// For requests with a descriptor that has these entries; slowest first.
    pub descriptors: Box<[DescriptorBucket]>,
    /// Whether a request with such a descriptor takes from the general bucket as well.
    pub always_general: bool,
}

/// A bucket for requests with one descriptor.
#[derive(Debug)]
pub struct DescriptorBucket {
    /// The descriptor's keys and values, in order; an empty value stands for any.
    pub entries: Box<[(Str, Str)]>,
    /// Its tokens.
    pub tokens: Tokens,
}

/// The tokens of a descriptor.
#[derive(Debug)]
pub enum Tokens {
    /// One bucket.
    Shared(TokenBucket),
    /// One for each value of the entries that name none.
    ByValue(ByValue),
}

impl Tokens {
    /// How fast they come.
    pub fn per_second(&self) -> f64 {
        match self {
            Tokens::Shared(bucket) => bucket.tokens_per_second(),
            Tokens::ByValue(buckets) => buckets.tokens_per_second(),
        }
    }

    fn fresh(&self) -> Tokens {
        match self {
            Tokens::Shared(bucket) => Tokens::Shared(bucket.fresh()),
            Tokens::ByValue(buckets) => Tokens::ByValue(buckets.fresh()),
        }
    }
}

impl DescriptorBucket {
    fn is_for(&self, descriptor: &Descriptor) -> bool {
        let same = |(ours, theirs): (&(Str, Str), &(String, String))| {
            ours.0.as_str() == theirs.0 && (ours.1.is_empty() || ours.1.as_str() == theirs.1)
        };
        self.entries.len() == descriptor.entries.len()
            && self.entries.iter().zip(&descriptor.entries).all(same)
    }
}

/// What a limiter says of a request.
#[derive(Clone, Copy, Debug)]
pub struct Judgement<'a> {
    /// It is within the limit.
    pub allowed: bool,
    /// The bucket that decided, for the headers that tell of it.
    pub bucket: Option<&'a TokenBucket>,
}

impl Limiter {
    /// The same buckets, full.
    pub fn fresh(&self) -> Limiter {
        Limiter {
            bucket: self.bucket.as_ref().map(TokenBucket::fresh),
            descriptors: self
                .descriptors
                .iter()
                .map(|one| DescriptorBucket { entries: one.entries.clone(), tokens: one.tokens.fresh() })
                .collect(),
            always_general: self.always_general,
        }
    }

    /// Takes the tokens of a request with these descriptors.
    ///
    /// Compat: buckets of descriptors are asked slowest first, and what the earlier ones gave is gone when a later one
    /// refuses.
    pub fn judge(&self, descriptors: &[Descriptor], shard: u32, now: Duration) -> Judgement<'_> {
        let mut slowest = None;
        for one in &self.descriptors {
            let named = |descriptor: &&Descriptor| {
                let shared = |other: &&DescriptorBucket| matches!(other.tokens, Tokens::Shared(_));
                self.descriptors.iter().filter(shared).any(|other| other.is_for(descriptor))
            };
            let mut matching = descriptors.iter().filter(|descriptor| one.is_for(descriptor));
            let (found, bucket) = match &one.tokens {
                Tokens::Shared(bucket) => (matching.next(), Some(bucket)),
                // A descriptor with a bucket of its own has no other.
                Tokens::ByValue(buckets) => {
                    let found = matching.find(|descriptor| !named(descriptor));
                    let bucket = found.map(|found| {
                        buckets.bucket(found.entries.iter().map(|(_, value)| value.as_str()), now)
                    });
                    (found, bucket)
                }
            };
            let (Some(found), Some(bucket)) = (found, bucket) else { continue };
            slowest = slowest.or(Some(bucket));
            let hits = found.hits.map_or(1, |hits| u32::try_from(hits).unwrap_or(u32::MAX));
            if !bucket.take(hits, shard, now) {
                return Judgement { allowed: false, bucket: Some(bucket) };
            }
        }
        if (slowest.is_none() || self.always_general)
            && let Some(bucket) = &self.bucket
            && !bucket.take(1, shard, now)
        {
            return Judgement { allowed: false, bucket: Some(bucket) };
        }
        Judgement { allowed: true, bucket: slowest.or(self.bucket.as_ref()) }
    }
}

/// A limit that a service keeps. Source: `envoy.extensions.filters.http.ratelimit.v3.RateLimit`.
#[derive(Debug)]
pub struct GlobalRateLimit {
    /// Whose limits they are.
    pub domain: Str,
    /// Which rules of routes count.
    pub stage: u32,
    /// Only requests of internal, or only of external clients.
    pub clients: Clients,
    /// The service's cluster.
    pub service: Service,
    /// How long to wait for the service. Default 20 ms.
    pub timeout: Duration,
    /// Whether a request is refused when the service cannot be asked.
    pub failure_mode_deny: bool,
    /// gRPC clients get RESOURCE_EXHAUSTED instead of UNAVAILABLE.
    pub resource_exhausted: bool,
    /// Whether answers say `x-ratelimit-limit`, `-remaining` and `-reset`.
    pub ratelimit_headers: bool,
    /// Whether refusals leave out `x-envoy-ratelimited`.
    pub no_envoy_header: bool,
    /// Status of a refusal, 400 or above. Default 429.
    pub status: u16,
    /// Status when the service cannot be asked. Default 500.
    pub status_on_error: u16,
    /// Headers of a refusal.
    pub response_headers: HeaderOps,
    /// Share of requests the service is asked about.
    pub enabled: Fraction,
    /// Share of requests past the limit that are refused.
    pub enforced: Fraction,
}

/// Source: `RateLimit.request_type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clients {
    /// All.
    Both,
    /// Those inside the mesh's own network.
    Internal,
    /// The others.
    External,
}

/// A gRPC service. Source: `envoy.config.core.v3.GrpcService` with `envoy_grpc`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// Its cluster.
    pub cluster: ClusterSlot,
    /// `:authority` of calls.
    pub authority: Str,
    /// Headers of calls.
    pub metadata: Box<[(Str, Str)]>,
}

/// Settings of a route for a limit that a service keeps. Source: `RateLimitPerRoute`.
#[derive(Debug)]
pub struct GlobalRateLimitOfRoute {
    /// Which rules of virtual hosts count.
    pub virtual_host_rules: VirtualHostRules,
    /// Rules instead of the route's.
    pub rules: Box<[Rule]>,
    /// Replaces the filter's domain.
    pub domain: Option<Str>,
}
