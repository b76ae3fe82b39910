//! Conditions on dynamic metadata, as written by filters such as JWT authentication.

use crate::metadata::{Metadata, Value};
use crate::request::Request;
use crate::string_match::StringMatch;
use crate::strings::Str;

/// A condition on a value of the request's dynamic metadata. Source: `envoy.type.matcher.v3.MetadataMatcher`.
#[derive(Clone, Debug)]
pub struct MetadataMatch {
    /// Name space: the filter that wrote it.
    pub namespace: Str,
    /// Keys from the name space down to the value.
    pub path: Box<[Str]>,
    /// What is asked of the value.
    pub test: ValueTest,
    /// Whether the answer is negated; a missing value then matches.
    pub invert: bool,
}

/// What is asked of a value. A missing value passes no test but `Present(false)`.
/// Source: `envoy.type.matcher.v3.ValueMatcher`.
#[derive(Clone, Debug)]
pub enum ValueTest {
    /// It is null.
    Null,
    /// It is this boolean.
    Bool(bool),
    /// It is this number.
    Number(f64),
    /// It is a number in `start..end`.
    Range {
        /// Smallest number.
        start: f64,
        /// First number beyond.
        end: f64,
    },
    /// It is a string that matches.
    String(StringMatch),
    /// It is there (true). Compat: `false` never matches in Envoy.
    Present(bool),
    /// It is a list with an element that passes.
    OneOf(Box<ValueTest>),
    /// Any of these passes.
    Any(Box<[ValueTest]>),
}

impl MetadataMatch {
    /// Whether the request satisfies the condition.
    pub fn matches(&self, request: &(impl Request + ?Sized)) -> bool {
        let mut value = request.metadata(&self.namespace);
        for key in &self.path {
            value = value.and_then(|value| value.field(key));
        }
        self.holds_for(value)
    }

    /// The same for metadata that belongs to something else.
    pub fn matches_in(&self, metadata: &Metadata) -> bool {
        self.holds_for(metadata.at(&self.namespace, &self.path))
    }

    fn holds_for(&self, value: Option<&Value>) -> bool {
        value.is_some_and(|value| self.test.passes(value)) != self.invert
    }
}

impl ValueTest {
    fn passes(&self, value: &Value) -> bool {
        match (self, value) {
            (ValueTest::Any(tests), value) => tests.iter().any(|test| test.passes(value)),
            (ValueTest::Present(wanted), _) => *wanted,
            (ValueTest::Null, Value::Null) => true,
            (ValueTest::Bool(wanted), Value::Bool(flag)) => wanted == flag,
            (ValueTest::Number(wanted), Value::Number(number)) => wanted == number,
            (ValueTest::Range { start, end }, Value::Number(number)) => start <= number && number < end,
            (ValueTest::String(matcher), Value::String(text)) => matcher.matches(text.as_bytes()),
            (ValueTest::OneOf(test), Value::List(items)) => items.iter().any(|item| test.passes(item)),
            (
                ValueTest::Null
                | ValueTest::Bool(_)
                | ValueTest::Number(_)
                | ValueTest::Range { .. }
                | ValueTest::String(_)
                | ValueTest::OneOf(_),
                _,
            ) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_passes_only_values_of_its_kind() {
        let text = || Value::String(Str::new("a"));
        assert!(ValueTest::String(StringMatch::Exact(Str::new("a"))).passes(&text()));
        assert!(!ValueTest::Number(1.0).passes(&text()));
        assert!(ValueTest::Range { start: 1.0, end: 2.0 }.passes(&Value::Number(1.0)));
        assert!(!ValueTest::Range { start: 1.0, end: 2.0 }.passes(&Value::Number(2.0)));
        assert!(ValueTest::Null.passes(&Value::Null) && !ValueTest::Null.passes(&text()));
    }

    #[test]
    fn one_element_of_a_list_suffices() {
        let list = Value::List([Value::Bool(false), Value::Bool(true)].into());
        assert!(ValueTest::OneOf(Box::new(ValueTest::Bool(true))).passes(&list));
        assert!(!ValueTest::OneOf(Box::new(ValueTest::Null)).passes(&list));
    }
}
