//! Walks an object with the path to the value at hand, and collects findings.

use std::collections::BTreeMap;

use crate::diagnostic::Severity;
use crate::path::{FieldPath, Segment};
use crate::validate::Finding;

/// Findings so far, and where the walk is.
pub(crate) struct Checker {
    path: FieldPath,
    findings: Vec<Finding>,
}

impl Checker {
    pub(crate) fn new<const N: usize>(fields: [&str; N]) -> Self {
        Self { path: FieldPath::of(fields), findings: Vec::new() }
    }

    pub(crate) fn into_findings(self) -> Vec<Finding> {
        self.findings
    }

    /// Reports an error at the value at hand.
    pub(crate) fn error(&mut self, message: impl Into<String>) -> &mut Finding {
        self.push(Severity::Error, message.into())
    }

    /// Reports a warning at the value at hand.
    pub(crate) fn warning(&mut self, message: impl Into<String>) -> &mut Finding {
        self.push(Severity::Warning, message.into())
    }

    fn push(&mut self, severity: Severity, message: String) -> &mut Finding {
        let path = self.path.clone();
        self.findings.push(Finding { severity, code: None, path, message, fix: None });
        self.findings.last_mut().expect("pushed above")
    }

    /// Looks at a field of the value at hand, by its JSON name.
    pub(crate) fn field<T>(&mut self, name: &str, look: impl FnOnce(&mut Self) -> T) -> T {
        self.within(Segment::Field(name.to_owned()), look)
    }

    /// Looks at a field if it is set.
    pub(crate) fn set<T>(&mut self, name: &str, value: Option<&T>, look: impl FnOnce(&mut Self, &T)) {
        if let Some(value) = value {
            self.field(name, |checker| look(checker, value));
        }
    }

    /// Looks at every element of a list field.
    pub(crate) fn each<'a, T>(&mut self, name: &str, items: &'a [T], mut look: impl FnMut(&mut Self, &'a T)) {
        self.field(name, |checker| {
            for (index, item) in items.iter().enumerate() {
                checker.within(Segment::Index(index), |checker| look(checker, item));
            }
        });
    }

    /// Looks at every entry of a map field.
    pub(crate) fn entries<K: ToString, V>(
        &mut self,
        name: &str,
        map: &BTreeMap<K, V>,
        mut look: impl FnMut(&mut Self, &K, &V),
    ) {
        self.field(name, |checker| {
            for (key, value) in map {
                checker.within(Segment::Key(key.to_string()), |checker| look(checker, key, value));
            }
        });
    }

    fn within<T>(&mut self, segment: Segment, look: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(segment);
        let result = look(self);
        self.path.pop();
        result
    }
}

impl Finding {
    /// Says what to write instead.
    pub(crate) fn fix(&mut self, fix: impl Into<String>) -> &mut Self {
        self.fix = Some(fix.into());
        self
    }

    /// Names the analyzer code.
    pub(crate) fn code(&mut self, code: &'static str) -> &mut Self {
        self.code = Some(code);
        self
    }
}
