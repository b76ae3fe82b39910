//! A finished span.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use super::context::SpanContext;

/// What a span tells, as the engine puts it together when a request ends.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its ids.
    pub context: SpanContext,
    /// Whether its id is the caller's: one span, told by both of its sides.
    pub shared: bool,
    /// Whose side.
    pub kind: Kind,
    /// The operation.
    pub name: String,
    /// When it began.
    pub start: SystemTime,
    /// How long it took.
    pub duration: Duration,
    /// Tags, in the order in which they were set.
    pub tags: Vec<(Cow<'static, str>, String)>,
    /// Moments, as time since the start.
    pub events: Vec<(Duration, &'static str)>,
    /// Whether the operation failed.
    pub failed: bool,
    /// The parent is a span of another process.
    pub remote_parent: bool,
    /// `tracestate` as it came.
    pub tracestate: String,
}

/// A side of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It was called.
    Server,
    /// It called.
    Client,
}

impl Span {
    /// Sets a tag; a later one of the same name replaces it.
    pub fn tag(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) {
        let (name, value) = (name.into(), value.into());
        match self.tags.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.tags.push((name, value)),
        }
    }
}
