//! What the compilation of one resource carries along.

use std::sync::Arc;

use ringsail_tls::TicketKeys;

use crate::cel::Expression;
use crate::compile::FileSecret;
use crate::compile::report::Report;
use crate::compile::slots::Slots;
use crate::endpoint::Locality;
use crate::ids::{ClusterSlot, RouteConfigId};
use crate::metadata::Metadata;
use crate::route::RouteConfig;
use crate::strings::{Interner, Str};
use crate::tracing::TraceProvider;

/// The compiler's shared parts and the findings about one resource.
pub(super) struct Context<'a> {
    pub(super) report: Report,
    pub(super) strings: &'a mut Interner,
    pub(super) uses: Uses,
    /// Judges access-log formats; see [`FormatCheck`].
    pub(super) format_check: Option<FormatCheck>,
    /// Where spans go when a connection manager does not say.
    pub(super) trace_provider: Option<Arc<TraceProvider>>,
    /// Keys of session tickets where none are configured; the same for all.
    pub(super) ticket_keys: TicketKeys,
    cluster_names: &'a mut Slots,
    route_names: &'a mut Slots,
    /// Recent metadata and localities: endpoints of one resource repeat them.
    metadata: Vec<Arc<Metadata>>,
    localities: Vec<Arc<Locality>>,
}

/// Says what is wrong with an access-log format, given whether `%REQ_WITHOUT_QUERY(…)%` is known. Formats are
/// compiled and rendered elsewhere; this is how a wrong one is refused here, with its field.
pub type FormatCheck = fn(format: &str, req_without_query: bool) -> Result<Vec<String>, String>;

/// Names a compiled resource holds. While held, a name keeps its slot.
#[derive(Clone, Debug, Default)]
pub(super) struct Uses {
    pub(super) clusters: Vec<Str>,
    pub(super) routes: Vec<Str>,
    /// Route configurations inside the resource.
    pub(super) inline_routes: Vec<Arc<RouteConfig>>,
    /// Names of RDS resources among `routes`.
    pub(super) rds: Vec<Str>,
    /// Names of secrets.
    pub(super) secrets: Vec<Str>,
    /// Secrets among them that are in files.
    pub(super) files: Vec<FileSecret>,
}

impl<'a> Context<'a> {
    pub(super) fn new(
        report: Report,
        strings: &'a mut Interner,
        cluster_names: &'a mut Slots,
        route_names: &'a mut Slots,
    ) -> Context<'a> {
        let uses = Uses::default();
        Context {
            report,
            strings,
            uses,
            format_check: None,
            trace_provider: None,
            ticket_keys: TicketKeys::new(Vec::new()),
            cluster_names,
            route_names,
            metadata: vec![],
            localities: vec![],
        }
    }

    pub(super) fn intern(&mut self, text: &str) -> Str {
        self.strings.intern(text)
    }

    /// `None` for the empty string, which is proto3's "not set".
    pub(super) fn intern_set(&mut self, text: &str) -> Option<Str> {
        (!text.is_empty()).then(|| self.strings.intern(text))
    }

    /// Header names are compared in lower case.
    pub(super) fn intern_lower(&mut self, text: &str) -> Str {
        self.strings.intern(&text.to_ascii_lowercase())
    }

    /// The name and slot of a cluster that the resource refers to.
    pub(super) fn cluster(&mut self, name: &str) -> (Str, ClusterSlot) {
        let name = self.strings.intern(name);
        let place = self.cluster_names.acquire(&name);
        self.uses.clusters.push(name.clone());
        (name, ClusterSlot(place.slot))
    }

    /// The id of a route configuration that the resource refers to. Inline ones have keys that no RDS name can equal.
    pub(super) fn route_config(&mut self, key: &Str) -> RouteConfigId {
        let place = self.route_names.acquire(key);
        self.uses.routes.push(key.clone());
        RouteConfigId { slot: place.slot, generation: place.generation }
    }

    pub(super) fn share_metadata(&mut self, new: Metadata) -> Option<Arc<Metadata>> {
        (!new.namespaces.is_empty()).then(|| share(&mut self.metadata, new))
    }

    pub(super) fn share_locality(&mut self, new: Locality) -> Arc<Locality> {
        share(&mut self.localities, new)
    }

    /// Runs `inside` with `field` appended to the path of findings.
    pub(super) fn at<T>(&mut self, field: &str, inside: impl FnOnce(&mut Self) -> T) -> T {
        let mark = self.report.enter(format_args!("{field}"));
        let result = inside(self);
        self.report.leave(mark);
        result
    }

    /// Compiles each element of a list, and keeps what compiled.
    pub(super) fn each<T, U>(
        &mut self,
        field: &str,
        list: &[T],
        mut compile: impl FnMut(&mut Self, &T) -> Option<U>,
    ) -> Box<[U]> {
        let mut out = Vec::with_capacity(list.len());
        for (index, element) in list.iter().enumerate() {
            let mark = self.report.enter(format_args!("{field}[{index}]"));
            out.extend(compile(self, element));
            self.report.leave(mark);
        }
        out.into()
    }

    /// Refuses the resource when `format` cannot be rendered.
    pub(super) fn check_format(&mut self, field: &str, format: &str, req_without_query: bool) {
        let Some(check) = self.format_check else { return };
        match check(format, req_without_query) {
            Ok(expressions) => {
                for expression in expressions {
                    if let Err(error) = Expression::parse(&expression) {
                        self.refuse::<()>(field, format_args!("expression {expression:?}: {error}"));
                    }
                }
            }
            Err(problem) => {
                self.refuse::<()>(field, problem);
            }
        }
    }

    /// Refuses the resource because of a field below the current path; `None` for `return cx.refuse(…)`.
    pub(super) fn refuse<T>(&mut self, field: &str, text: impl std::fmt::Display) -> Option<T> {
        if field.is_empty() {
            self.report.refuse(text);
        } else {
            self.report.refuse_at(field, text);
        }
        None
    }
}

/// How many recent values are compared before a new one is kept.
const RECENT: usize = 8;

fn share<T: PartialEq>(recent: &mut Vec<Arc<T>>, new: T) -> Arc<T> {
    if let Some(found) = recent.iter().rev().take(RECENT).find(|old| ***old == new) {
        return found.clone();
    }
    let new = Arc::new(new);
    recent.push(new.clone());
    new
}
