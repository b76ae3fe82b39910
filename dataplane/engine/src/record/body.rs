//! Bodies of local replies that show values of the exchange.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ringsail_runtime::time::now;
use ringsail_tables::access_log::Filter;
use ringsail_tables::local_reply::BodyFormat;
use ringsail_telemetry::access_log::{LogFormat, RecordKind, Text};

use super::declare::Shown;
use super::filter::Candidate;
use super::line::{fill, request_record};
use crate::exchange::Exchange;
use crate::telemetry::ExchangeAttributes;

/// Compiled formats of one shard, by the settings they come from.
#[derive(Debug, Default)]
pub struct BodyFormats(RefCell<Vec<(Weak<BodyFormat>, Rc<LogFormat>)>>);

impl BodyFormats {
    pub(super) fn get(
        &self,
        settings: &Arc<BodyFormat>,
        compile: impl FnOnce() -> Option<LogFormat>,
    ) -> Option<Rc<LogFormat>> {
        let mut known = self.0.borrow_mut();
        let same = |other: &Weak<BodyFormat>| std::ptr::eq(other.as_ptr(), Arc::as_ptr(settings));
        if let Some((_, format)) = known.iter().find(|(other, _)| same(other)) {
            return Some(format.clone());
        }
        // Settings that are gone from the configuration are held by nobody else.
        known.retain(|(other, _)| other.strong_count() > 0);
        let format = Rc::new(compile()?);
        known.push((Arc::downgrade(settings), format.clone()));
        Some(format)
    }
}

/// Whether a condition on records holds for an answer whose status is in the trail.
pub fn passes(exchange: &Exchange<'_>, filter: &Filter) -> bool {
    let length = elapsed(exchange);
    let attributes = ExchangeAttributes { x: exchange, length };
    let candidate = Candidate {
        kind: RecordKind::NotSet,
        trail: exchange.trail,
        length,
        request: Some(exchange.request),
        response: Some(exchange.response),
        in_trailers: None,
        attributes: Some(&attributes),
    };
    candidate.passes(filter)
}

/// Renders a body around `text`. `None` when its format cannot be compiled, which the tables have checked.
pub fn body(exchange: &Exchange<'_>, format: &Arc<BodyFormat>, text: &[u8]) -> Option<Vec<u8>> {
    let format = exchange.facts.shard.log.body_format(format)?;
    let mut record = request_record(exchange, elapsed(exchange));
    record.kind = RecordKind::NotSet;
    record.set(Text::LocalReplyBody, text);
    fill(&mut record, &Shown::new(format.wanted().clone()), exchange);
    let mut body = Vec::new();
    format.write(&record, &mut body);
    Some(body)
}

fn elapsed(exchange: &Exchange<'_>) -> Duration {
    now().saturating_duration_since(exchange.facts.progress.started)
}
