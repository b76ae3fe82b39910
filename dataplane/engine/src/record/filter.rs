//! Which records are written. Source: `envoy.config.accesslog.v3.AccessLogFilter`.

use std::time::Duration;

use ringsail_http::{RequestHead, ResponseHead};
use ringsail_tables::Request;
use ringsail_tables::access_log::Filter;
use ringsail_tables::cel::Attributes;
use ringsail_telemetry::access_log::RecordKind;
use ringsail_telemetry::trace::{Reason, request_number};

use crate::trail::Trail;
use crate::view::RequestView;

/// What is asked whether it is written.
#[derive(Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) kind: RecordKind,
    pub(super) trail: &'a Trail,
    pub(super) length: Duration,
    /// Of an HTTP request.
    pub(super) request: Option<&'a RequestHead>,
    /// Once there is an answer.
    pub(super) response: Option<&'a ResponseHead>,
    /// gRPC status in the answer's trailers.
    pub(super) in_trailers: Option<u32>,
    /// For expressions.
    pub(super) attributes: Option<&'a dyn Attributes>,
}

impl Candidate<'_> {
    pub(super) fn passes(&self, filter: &Filter) -> bool {
        let trail = self.trail;
        match filter {
            Filter::StatusCode(comparison) => comparison.holds(trail.status.into()),
            Filter::DurationMillis(comparison) => comparison.holds(self.length.as_millis() as u64),
            // No health-check filter runs here, so no request is one.
            Filter::NotHealthCheck => true,
            Filter::Traceable => trail.trace_reason != Reason::NotTraceable,
            Filter::Share { fraction, independent } => {
                let id = self.request.and_then(|head| head.fields().get("x-request-id"));
                let number = id.filter(|_| !independent).and_then(request_number);
                fraction.chooses(number.unwrap_or_else(|| fastrand::u64(..)))
            }
            // Compat: a connection has no request, and Envoy tests an empty one.
            Filter::Header(header) => match self.request {
                Some(head) => header.matches(&RequestView(head)),
                None => header.matches_value(None),
            },
            Filter::ResponseFlags(wanted) if wanted.is_empty() => !trail.flags.is_empty(),
            Filter::ResponseFlags(wanted) => {
                trail.flags.iter().any(|flag| wanted.iter().any(|short| *short == flag.short()))
            }
            Filter::GrpcStatus { statuses, exclude } => statuses.contains(&self.grpc_status()) != *exclude,
            Filter::Metadata { matcher: None, .. } => true,
            Filter::Metadata { matcher: Some(matcher), if_missing } => {
                let view = self.request.map(RequestView);
                match view.filter(|view| view.metadata(&matcher.namespace).is_some()) {
                    Some(view) => matcher.matches(&view),
                    None => *if_missing,
                }
            }
            Filter::LogType { types, exclude } => types.contains(&self.kind.number()) != *exclude,
            Filter::Cel(expression) => self.attributes.is_some_and(|values| expression.holds(values)),
            Filter::And(filters) => filters.iter().all(|filter| self.passes(filter)),
            Filter::Or(filters) => filters.iter().any(|filter| self.passes(filter)),
        }
    }

    /// The answer's own, else the one that its HTTP status stands for. Source: `Grpc::Common::getGrpcStatus`.
    fn grpc_status(&self) -> u32 {
        grpc_status(self.in_trailers, self.response).unwrap_or_else(|| grpc_status_of(self.trail.status))
    }
}

/// The gRPC status that an HTTP status stands for. Source: gRPC, "HTTP to gRPC Status Code Mapping".
pub(super) fn grpc_status_of(status: u16) -> u32 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// The gRPC status that an answer tells, in its trailers or in its head.
pub(crate) fn grpc_status(in_trailers: Option<u32>, response: Option<&ResponseHead>) -> Option<u32> {
    let in_head = || {
        let value = response?.fields().get("grpc-status")?;
        std::str::from_utf8(value).ok()?.parse().ok()
    };
    in_trailers.or_else(in_head)
}
