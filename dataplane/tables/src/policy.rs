//! Per-route policies the engine carries out: retry, fault injection, CORS.

use std::sync::Arc;
use std::time::Duration;

use ringsail_runtime::lease::Pool;

use crate::fraction::Fraction;
use crate::route::HeaderMatch;
use crate::string_match::StringMatch;
use crate::strings::Str;

/// When and how a request is tried again. Source: `envoy.config.route.v3.RetryPolicy`.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// The conditions of `retry_on`.
    pub on: RetryOn,
    /// Most retries after the first try. Envoy's default is 1.
    pub retries_max: u32,
    /// Bound of one try, until its response is complete; `None` leaves it to the route's timeout.
    pub per_try_timeout: Option<Duration>,
    /// Bound of one try without progress.
    pub per_try_idle_timeout: Option<Duration>,
    /// Response codes that `retriable-status-codes` means.
    pub status_codes: Box<[u16]>,
    /// Response headers that `retriable-headers` means; any one suffices.
    pub headers: Box<[HeaderMatch]>,
    /// The request must match one of these to be retried at all; empty means every request.
    pub request_headers: Box<[HeaderMatch]>,
    /// First back-off, in Envoy's jittered exponential schedule. Default 25 ms.
    pub back_off_base: Duration,
    /// Longest back-off. Default ten times the base.
    pub back_off_max: Duration,
    /// What an answer says about when to come back; replaces the back-off where it says so.
    pub rate_limited: Option<RateLimitedBackOff>,
    /// `envoy.retry_host_predicates.previous_hosts`: do not pick a host that was tried already.
    pub avoid_previous_hosts: bool,
    /// `envoy.retry_host_predicates.omit_canary_hosts`: do not pick a host whose metadata says `envoy.lb: canary`.
    pub avoid_canary_hosts: bool,
    /// How often a pick is repeated to satisfy the predicates; afterwards any host will do. Default 1.
    pub host_selection_attempts_max: u32,
    /// `envoy.retry_priorities.previous_priorities`: after how many attempts the priorities they went to are left out
    /// of further picks.
    pub avoid_previous_priorities: Option<u32>,
}

impl Default for RetryPolicy {
    /// What requests get that ask for retries on a route without a policy: nothing by itself.
    fn default() -> RetryPolicy {
        RetryPolicy {
            on: RetryOn::NONE,
            retries_max: 1,
            per_try_timeout: None,
            per_try_idle_timeout: None,
            status_codes: Box::default(),
            headers: Box::default(),
            request_headers: Box::default(),
            back_off_base: BACK_OFF_BASE,
            back_off_max: BACK_OFF_BASE * BACK_OFF_MAX_FACTOR,
            rate_limited: None,
            avoid_previous_hosts: false,
            avoid_canary_hosts: false,
            host_selection_attempts_max: 1,
            avoid_previous_priorities: None,
        }
    }
}

/// Source: `RetryPolicy.retry_back_off` ("defaults to 25ms" by the router's documentation).
pub(crate) const BACK_OFF_BASE: Duration = Duration::from_millis(25);

/// Source: `RetryBackOff.max_interval`.
pub(crate) const BACK_OFF_MAX_FACTOR: u32 = 10;

/// Source: `RetryPolicy.RateLimitedRetryBackOff`.
#[derive(Clone, Debug)]
pub struct RateLimitedBackOff {
    /// Headers that may say it; the first that does counts.
    pub headers: Box<[ResetHeader]>,
    /// Longer waits are not believed. Default 300 s.
    pub interval_max: Duration,
}

/// A response header that says when to come back.
#[derive(Clone, Debug)]
pub struct ResetHeader {
    /// Its name in lower case.
    pub name: Str,
    /// What its number means.
    pub format: ResetFormat,
}

/// Source: `RetryPolicy.ResetHeaderFormat`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResetFormat {
    /// Seconds from now.
    Seconds,
    /// Seconds since 1970.
    UnixTimestamp,
}

macro_rules! retry_conditions {
    ($($(#[$doc:meta])* $constant:ident = $bit:literal, $word:literal;)*) => {
        impl RetryOn {
            $($(#[$doc])* pub const $constant: RetryOn = RetryOn(1 << $bit);)*

            /// The condition a word of `retry_on` stands for.
            pub fn from_word(word: &str) -> Option<RetryOn> {
                match word { $($word => Some(RetryOn::$constant),)* _ => None }
            }
        }
    };
}

/// A set of retry conditions. Source: `x-envoy-retry-on` and `x-envoy-retry-grpc-on` in Envoy's router documentation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RetryOn(u32);

retry_conditions! {
    /// Any 5xx answer, or no answer at all (reset, timeout, connect failure).
    SERVER_ERROR = 0, "5xx";
    /// 502, 503, 504, or no answer at all.
    GATEWAY_ERROR = 1, "gateway-error";
    /// No answer: disconnect, reset or read timeout.
    RESET = 2, "reset";
    /// Reset before the request was written.
    RESET_BEFORE_REQUEST = 3, "reset-before-request";
    /// The connection could not be made.
    CONNECT_FAILURE = 4, "connect-failure";
    /// `x-envoy-ratelimited` in the answer.
    RATE_LIMITED = 5, "envoy-ratelimited";
    /// 409.
    RETRIABLE_4XX = 6, "retriable-4xx";
    /// HTTP/2 REFUSED_STREAM.
    REFUSED_STREAM = 7, "refused-stream";
    /// A code of [`RetryPolicy::status_codes`].
    STATUS_CODES = 8, "retriable-status-codes";
    /// A header of [`RetryPolicy::headers`].
    HEADERS = 9, "retriable-headers";
    /// HTTP/3 handshake failures; never met here.
    HTTP3_POST_CONNECT_FAILURE = 10, "http3-post-connect-failure";
    /// gRPC status 1.
    GRPC_CANCELLED = 16, "cancelled";
    /// gRPC status 4.
    GRPC_DEADLINE_EXCEEDED = 17, "deadline-exceeded";
    /// gRPC status 13.
    GRPC_INTERNAL = 18, "internal";
    /// gRPC status 8.
    GRPC_RESOURCE_EXHAUSTED = 19, "resource-exhausted";
    /// gRPC status 14.
    GRPC_UNAVAILABLE = 20, "unavailable";
}

impl RetryOn {
    /// Nothing.
    pub const NONE: RetryOn = RetryOn(0);

    /// Whether any of `conditions` is in the set.
    pub fn any_of(self, conditions: RetryOn) -> bool {
        self.0 & conditions.0 != 0
    }

    /// Both sets.
    pub fn with(self, conditions: RetryOn) -> RetryOn {
        RetryOn(self.0 | conditions.0)
    }
}

/// Injected delays and aborts. Source: `envoy.extensions.filters.http.fault.v3.HTTPFault`.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Holds the request back.
    pub delay: Option<FaultDelay>,
    /// Answers instead of the upstream.
    pub abort: Option<FaultAbort>,
    /// The request must match all of these.
    pub headers: Box<[HeaderMatch]>,
    /// Applies only to this upstream cluster, when not empty.
    pub upstream_cluster: Str,
    /// Applies only to these downstream nodes (`x-envoy-downstream-service-node`), when not empty.
    pub downstream_nodes: Box<[Str]>,
    /// Slows answers down.
    pub response_rate: Option<FaultRate>,
    /// Most faults active at once, and what is left of them; `None` means no limit.
    ///
    /// Compat: Envoy counts the faults of all settings under one `stat_prefix` towards each limit.
    pub active_faults: Option<Arc<Pool>>,
}

/// A bandwidth for answers. Source: `envoy.extensions.filters.common.fault.v3.FaultRateLimit`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FaultRate {
    /// KiB a second; `None` leaves it to the request's `x-envoy-fault-throughput-response`.
    pub kib_per_second: Option<u64>,
    /// Which share of requests; `x-envoy-fault-throughput-response-percentage` may lower it where the request decides.
    pub share: Fraction,
}

/// A delay before the request goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FaultDelay {
    /// How long; `None` leaves it to the request's `x-envoy-fault-delay-request`, in milliseconds.
    pub duration: Option<Duration>,
    /// Which share of requests; `x-envoy-fault-delay-request-percentage` may lower it where the request decides.
    pub share: Fraction,
}

/// An answer in place of the upstream's: body `fault filter abort`, flag `FI`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FaultAbort {
    /// The status; `None` leaves it to the request's `x-envoy-fault-abort-request` or
    /// `x-envoy-fault-abort-grpc-request`.
    pub status: Option<AbortStatus>,
    /// Which share of requests; `x-envoy-fault-abort-request-percentage` may lower it where the request decides.
    pub share: Fraction,
}

/// Status of an injected abort.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AbortStatus {
    /// An HTTP status, 200–599.
    Http(u16),
    /// A gRPC status; a request that is not gRPC is answered 200.
    Grpc(u32),
}

/// Requests are received completely before they go on. Source: `envoy.extensions.filters.http.buffer.v3.Buffer`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffering {
    /// Longest body in bytes; a longer one is answered 413.
    pub bytes_max: u32,
}

/// Cross-origin rules. Source: `envoy.extensions.filters.http.cors.v3.CorsPolicy`.
#[derive(Clone, Debug)]
pub struct CorsPolicy {
    /// Origins that are allowed; any one suffices.
    pub allow_origins: Box<[StringMatch]>,
    /// Value of `access-control-allow-methods`; empty means no header.
    pub allow_methods: Str,
    /// Value of `access-control-allow-headers`; empty means no header.
    pub allow_headers: Str,
    /// Value of `access-control-expose-headers`; empty means no header.
    pub expose_headers: Str,
    /// Value of `access-control-max-age`, seconds as text; empty means no header.
    pub max_age: Str,
    /// Whether `access-control-allow-credentials: true` is sent.
    pub allow_credentials: bool,
    /// Whether `access-control-allow-private-network: true` answers a request for it.
    pub allow_private_network_access: bool,
    /// Whether a preflight whose origin does not match goes to the upstream (default) or is answered here.
    pub forward_not_matching_preflights: bool,
    /// Share of requests the policy applies to.
    pub enabled: Fraction,
    /// Share of the others whose origin is judged for statistics only.
    pub shadow: Fraction,
}

impl CorsPolicy {
    /// Whether requests from `origin` are allowed.
    pub fn allows(&self, origin: &[u8]) -> bool {
        // Compat: what matches `*` matches any origin.
        self.allow_origins.iter().any(|want| want.matches(b"*") || want.matches(origin))
    }
}
