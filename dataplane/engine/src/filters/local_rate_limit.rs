//! Limits this proxy keeps itself. Source: `envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit`.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use ringsail_http::{EditError, Fields, RequestHead};
use ringsail_runtime::time::now;
use ringsail_tables::rate_limit::{Descriptor, Limiter, LocalRateLimit, Rule, Surroundings};
use ringsail_tables::route::RouteMatch;
use ringsail_tables::token_bucket::TokenBucket;
use ringsail_telemetry::LocalRateLimitCounter as Counter;

use crate::decimal::Decimal;
use crate::shard::Shard;
use crate::view::RequestView;

/// Where the times of all buckets are measured from.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Now, as buckets count time.
pub fn moment() -> Duration {
    now().saturating_duration_since(*BEGINNING)
}

/// Limits of one downstream connection, where the filter counts by connection.
#[derive(Debug, Default)]
pub struct OfConnection(RefCell<Vec<(Arc<LocalRateLimit>, Rc<Limiter>)>>);

impl OfConnection {
    fn limiter(&self, limit: &Arc<LocalRateLimit>) -> Rc<Limiter> {
        let mut known = self.0.borrow_mut();
        if let Some((_, limiter)) = known.iter().find(|(other, _)| Arc::ptr_eq(other, limit)) {
            return limiter.clone();
        }
        // Settings that are gone from the configuration are held by nobody else.
        known.retain(|(other, _)| Arc::strong_count(other) > 1);
        let limiter = Rc::new(limit.limiter.fresh());
        known.push((limit.clone(), limiter.clone()));
        limiter
    }
}

/// What a limit says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is not counted.
    NotConcerned,
    /// It goes on.
    Passes,
    /// It is past the limit, and goes on.
    Spared,
    /// It is refused.
    Refused,
}

/// What answers tell of the limit. Source: draft-polli-ratelimit-headers-03.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Size of the bucket.
    pub limit: u32,
    /// Tokens left.
    pub remaining: u32,
    /// Seconds until there is a token.
    pub reset_seconds: u64,
}

/// What is counted.
pub struct Counted<'a> {
    /// The shard.
    pub shard: &'a Shard,
    /// Limits of the connection.
    pub connection: &'a OfConnection,
    /// The request.
    pub request: &'a RequestHead,
    /// Its route.
    pub found: Option<&'a RouteMatch<'a>>,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// The cluster it goes to.
    pub cluster: &'a str,
}

/// Counts a request.
pub fn judge(limit: &Arc<LocalRateLimit>, counted: &Counted<'_>) -> (Verdict, Option<Told>) {
    let shard = counted.shard;
    if !limit.enabled.chooses(fastrand::u64(..)) {
        return (Verdict::NotConcerned, None);
    }
    let stats = shard.stats.local_rate_limit(&limit.stat_prefix);
    stats.add(Counter::Enabled, 1);
    let descriptors = descriptors(limit, counted);
    let own;
    let limiter = if limit.per_connection {
        own = counted.connection.limiter(limit);
        &*own
    } else {
        &limit.limiter
    };
    let at = moment();
    let judgement = limiter.judge(&descriptors, shard.number, at);
    let told = judgement.bucket.map(|bucket| tell(bucket, at));
    if judgement.allowed {
        stats.add(Counter::Ok, 1);
        return (Verdict::Passes, told);
    }
    stats.add(Counter::RateLimited, 1);
    if !limit.enforced.chooses(fastrand::u64(..)) {
        return (Verdict::Spared, told);
    }
    stats.add(Counter::Enforced, 1);
    (Verdict::Refused, told)
}

fn descriptors(limit: &LocalRateLimit, counted: &Counted<'_>) -> Vec<Descriptor> {
    if limit.limiter.descriptors.is_empty() {
        return Vec::new();
    }
    let around = Surroundings {
        source_cluster: &counted.shard.identity.node.cluster,
        destination_cluster: counted.cluster,
        client: counted.client,
        route_metadata: counted.found.and_then(|found| found.route.metadata.as_deref()),
    };
    let view = RequestView(counted.request);
    let made = |rule: &Rule| rule.descriptor(&view, around);
    if !limit.rules.is_empty() {
        return limit.rules.iter().filter_map(made).collect();
    }
    let rules = counted.found.map(|found| found.rate_limit_rules(limit.stage, limit.virtual_host_rules));
    rules.into_iter().flatten().filter_map(made).collect()
}

fn tell(bucket: &TokenBucket, at: Duration) -> Told {
    let next = bucket.next_token(at);
    Told {
        limit: bucket.tokens_max(),
        remaining: bucket.remaining(at),
        // Rounded up: who comes back after it finds a token.
        reset_seconds: next.as_secs() + u64::from(next.subsec_nanos() > 0),
    }
}

impl Told {
    /// Adds `x-ratelimit-limit`, `-remaining` and `-reset`.
    pub fn write(self, fields: &mut Fields) -> Result<(), EditError> {
        fields.set("x-ratelimit-limit", Decimal::new(self.limit.into()).text())?;
        fields.set("x-ratelimit-remaining", Decimal::new(self.remaining.into()).text())?;
        fields.set("x-ratelimit-reset", Decimal::new(self.reset_seconds).text())
    }
}
