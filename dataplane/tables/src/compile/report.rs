//! Findings about one resource, each with the path of its field.

use std::fmt::{Display, Write};

use crate::diagnostic::{Diagnostic, ResourceType, Severity};
use crate::limits::DIAGNOSTICS_PER_RESOURCE_MAX;

/// Collects findings while a resource is read. The current field path is a stack that [`Report::at`] pushes and pops.
pub(crate) struct Report {
    kind: ResourceType,
    name: String,
    path: String,
    found: Vec<Diagnostic>,
    refused: bool,
}

impl Report {
    pub(crate) fn new(kind: ResourceType, name: &str) -> Report {
        Report { kind, name: name.to_owned(), path: String::new(), found: Vec::new(), refused: false }
    }

    /// Runs `inside` with `field` appended to the path.
    pub(crate) fn at<T>(&mut self, field: &str, inside: impl FnOnce(&mut Report) -> T) -> T {
        self.within(format_args!("{field}"), inside)
    }

    /// The same for an element of a list.
    pub(crate) fn at_index<T>(
        &mut self,
        field: &str,
        index: usize,
        inside: impl FnOnce(&mut Report) -> T,
    ) -> T {
        self.within(format_args!("{field}[{index}]"), inside)
    }

    /// The same for a value of a map.
    pub(crate) fn at_key<T>(&mut self, field: &str, key: &str, inside: impl FnOnce(&mut Report) -> T) -> T {
        self.within(format_args!("{field}[{key:?}]"), inside)
    }

    fn within<T>(&mut self, segment: std::fmt::Arguments<'_>, inside: impl FnOnce(&mut Report) -> T) -> T {
        let mark = self.enter(segment);
        let result = inside(self);
        self.leave(mark);
        result
    }

    /// Appends to the path; give the result to [`Report::leave`].
    pub(crate) fn enter(&mut self, segment: std::fmt::Arguments<'_>) -> usize {
        let mark = self.path.len();
        let dot = if mark == 0 { "" } else { "." };
        // Writing to a String cannot fail.
        let _ = write!(self.path, "{dot}{segment}");
        mark
    }

    /// Cuts the path back to where [`Report::enter`] found it.
    pub(crate) fn leave(&mut self, mark: usize) {
        self.path.truncate(mark);
    }

    /// The resource cannot be used because of the field at the current path.
    pub(crate) fn refuse(&mut self, text: impl Display) {
        self.refused = true;
        self.add(Severity::Refused, text);
    }

    /// The same for a field below the current path.
    pub(crate) fn refuse_at(&mut self, field: &str, text: impl Display) {
        self.at(field, |report| report.refuse(text));
    }

    /// The resource is used, but the field below the current path does not do what it says.
    pub(crate) fn warn_at(&mut self, field: &str, text: impl Display) {
        self.at(field, |report| report.add(Severity::Warning, text));
    }

    fn add(&mut self, severity: Severity, text: impl Display) {
        if self.found.len() >= DIAGNOSTICS_PER_RESOURCE_MAX {
            return;
        }
        let new = Diagnostic {
            severity,
            resource_type: self.kind,
            resource_name: self.name.clone(),
            field: self.path.clone(),
            text: text.to_string(),
        };
        if !self.found.contains(&new) {
            self.found.push(new);
        }
    }

    /// Whether anything was refused.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused
    }

    pub(crate) fn into_diagnostics(self) -> Vec<Diagnostic> {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_the_nesting() {
        let mut report = Report::new(ResourceType::RouteConfiguration, "80");
        report.at_index("virtual_hosts", 2, |report| {
            report.at("route", |report| report.refuse_at("cluster", "is empty"));
            report.at_key("typed_per_filter_config", "a.b", |report| report.refuse("no"));
        });
        let paths: Vec<_> = report.into_diagnostics().into_iter().map(|found| found.field).collect();
        assert_eq!(
            paths,
            ["virtual_hosts[2].route.cluster", "virtual_hosts[2].typed_per_filter_config[\"a.b\"]"]
        );
    }

    #[test]
    fn findings_beyond_the_bound_are_dropped_but_still_refuse() {
        let mut report = Report::new(ResourceType::Cluster, "a");
        for i in 0..100 {
            report.warn_at("x", i);
        }
        report.refuse("last");
        assert!(report.is_refused());
        assert_eq!(report.into_diagnostics().len(), DIAGNOSTICS_PER_RESOURCE_MAX);
    }
}
