//! Limits on connections.

use std::sync::Arc;

use ringsail_runtime::lease::Pool;
use ringsail_xds::envoy::config::core::v3::RuntimeFeatureFlag;
use ringsail_xds::envoy::config::listener::v3 as pb;
use ringsail_xds::envoy::extensions::filters::network::connection_limit::v3::ConnectionLimit as WireLimit;
use ringsail_xds::envoy::extensions::filters::network::local_ratelimit::v3::LocalRateLimit as WireRate;

use super::context::Context;
use super::rate_limit::token_bucket;
use super::value::{duration, holds, unpack};
use crate::gate::{ConnectionLimit, ConnectionRate, Gate};

/// Those among the filters of a chain.
pub(super) fn gates(cx: &mut Context<'_>, filters: &[pb::Filter]) -> Option<Box<[Arc<Gate>]>> {
    let mut gates = Vec::new();
    for (index, filter) in filters.iter().enumerate() {
        let Some(pb::filter::ConfigType::TypedConfig(any)) = &filter.config_type else { continue };
        let field = format!("filters[{index}].typed_config");
        let gate = if holds::<WireLimit>(any) {
            cx.at(&field, |cx| {
                let value: WireLimit = unpack(cx, any)?;
                connections(cx, &value)
            })?
        } else if holds::<WireRate>(any) {
            cx.at(&field, |cx| {
                let value: WireRate = unpack(cx, any)?;
                rate(cx, &value)
            })?
        } else {
            continue;
        };
        gates.extend(gate.map(Arc::new));
    }
    Some(gates.into())
}

/// The inner `None`: it is switched off.
fn connections(cx: &mut Context<'_>, value: &WireLimit) -> Option<Option<Gate>> {
    if value.stat_prefix.is_empty() {
        return cx.refuse("stat_prefix", "is empty");
    }
    let most = match value.max_connections {
        Some(most) if most > 0 => u32::try_from(most).unwrap_or(u32::MAX),
        Some(_) | None => return cx.refuse("max_connections", "is not set"),
    };
    let limit = ConnectionLimit {
        stat_prefix: cx.intern(&value.stat_prefix),
        room: Pool::new(most),
        delay: duration(cx, "delay", &value.delay).unwrap_or_default(),
    };
    Some(is_on(value.runtime_enabled.as_ref()).then_some(Gate::Connections(limit)))
}

fn rate(cx: &mut Context<'_>, value: &WireRate) -> Option<Option<Gate>> {
    if value.stat_prefix.is_empty() {
        return cx.refuse("stat_prefix", "is empty");
    }
    let Some(bucket) = &value.token_bucket else { return cx.refuse("token_bucket", "is not set") };
    let rate = ConnectionRate {
        stat_prefix: cx.intern(&value.stat_prefix),
        bucket: Box::new(cx.at("token_bucket", |cx| token_bucket(cx, bucket))?),
    };
    Some(is_on(value.runtime_enabled.as_ref()).then_some(Gate::Rate(rate)))
}

fn is_on(flag: Option<&RuntimeFeatureFlag>) -> bool {
    flag.and_then(|flag| flag.default_value).unwrap_or(true)
}
