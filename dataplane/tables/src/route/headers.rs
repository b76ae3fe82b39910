//! Conditions on header fields and query parameters.

use crate::request::{Request, any_header, percent_decoded, query_parameter};
use crate::string_match::StringMatch;
use crate::strings::Str;

/// A condition on a header field. Source: `envoy.config.route.v3.HeaderMatcher`.
#[derive(Clone, Debug)]
pub struct HeaderMatch {
    /// Name in lower case; pseudo headers begin with a colon.
    pub name: Str,
    /// What is asked.
    pub test: HeaderTest,
    /// Whether the answer is negated.
    pub invert: bool,
    /// Whether a missing field is tested as if its value were empty.
    pub treat_missing_as_empty: bool,
}

/// What is asked of a header field.
#[derive(Clone, Debug)]
pub enum HeaderTest {
    /// The field is there (true) or is not (false).
    Present(bool),
    /// The value matches.
    Value(StringMatch),
    /// The value is an integer in `start..end`.
    Range {
        /// Smallest value.
        start: i64,
        /// First value beyond.
        end: i64,
    },
}

impl HeaderMatch {
    /// Whether the request satisfies the condition.
    ///
    /// Of several fields of the name one that passes suffices; inverted, none may pass.
    ///
    /// Compat: a missing field that is not treated as empty fails every value test, inverted or not; only presence
    /// tests can match it.
    pub fn matches(&self, request: &(impl Request + ?Sized)) -> bool {
        self.holds(|judge| any_header(request, &self.name, judge))
    }

    /// The same for a field whose value the caller has, as for response headers in retry policies.
    pub fn matches_value(&self, value: Option<&[u8]>) -> bool {
        self.holds(|judge| value.map(judge))
    }

    fn holds(&self, field: impl FnOnce(&dyn Fn(&[u8]) -> bool) -> Option<bool>) -> bool {
        if let HeaderTest::Present(wanted) = self.test {
            let there = field(&|_| true).is_some() || self.treat_missing_as_empty;
            return (there == wanted) != self.invert;
        }
        match field(&|value| self.test.passes(value)) {
            Some(answer) => answer != self.invert,
            None => self.treat_missing_as_empty && self.test.passes(b"") != self.invert,
        }
    }
}

impl HeaderTest {
    fn passes(&self, value: &[u8]) -> bool {
        match self {
            HeaderTest::Present(wanted) => *wanted,
            HeaderTest::Value(matcher) => matcher.matches(value),
            HeaderTest::Range { start, end } => {
                integer(value).is_some_and(|number| (*start..*end).contains(&number))
            }
        }
    }
}

/// A base-10 integer with an optional sign and surrounding blanks, as `absl::SimpleAtoi` reads it.
fn integer(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value.trim_ascii()).ok()?.parse().ok()
}

/// A condition on a query parameter. Source: `envoy.config.route.v3.QueryParameterMatcher`.
#[derive(Clone, Debug)]
pub struct QueryMatch {
    /// Name, compared as it stands in the request.
    pub name: Str,
    /// What is asked.
    pub test: QueryTest,
}

/// What is asked of a query parameter.
#[derive(Clone, Debug)]
pub enum QueryTest {
    /// It is there (true) or is not (false).
    Present(bool),
    /// Its value matches.
    Value(StringMatch),
}

impl QueryMatch {
    /// Whether the query satisfies the condition; of several parameters of one name the first counts.
    pub fn matches(&self, query: Option<&str>) -> bool {
        self.judge(query_parameter(query, &self.name))
    }

    /// The same on the parameter's decoded value.
    pub fn matches_decoded(&self, query: Option<&str>) -> bool {
        self.judge(query_parameter(query, &self.name).map(percent_decoded).as_deref())
    }

    fn judge(&self, value: Option<&str>) -> bool {
        match &self.test {
            QueryTest::Present(wanted) => value.is_some() == *wanted,
            QueryTest::Value(matcher) => value.is_some_and(|value| matcher.matches(value.as_bytes())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(test: HeaderTest, invert: bool, treat_missing_as_empty: bool, value: Option<&str>) -> bool {
        let matcher = HeaderMatch { name: Str::new("x"), test, invert, treat_missing_as_empty };
        matcher.matches_value(value.map(str::as_bytes))
    }

    fn exact(text: &str) -> HeaderTest {
        HeaderTest::Value(StringMatch::Exact(Str::new(text)))
    }

    #[test]
    fn a_missing_field_fails_value_tests_inverted_or_not() {
        assert!(!check(exact("a"), false, false, None));
        assert!(!check(exact("a"), true, false, None));
        assert!(check(exact("a"), true, false, Some("b")));
        assert!(check(exact("a"), true, true, None));
    }

    #[test]
    fn a_missing_field_can_count_as_empty() {
        assert!(check(exact(""), false, true, None));
        assert!(!check(exact(""), true, true, None));
        assert!(!check(exact(""), false, false, None));
    }

    #[test]
    fn ranges_are_half_open_and_need_an_integer() {
        let range = || HeaderTest::Range { start: -1, end: 10 };
        for (value, expected) in
            [("-1", true), ("9", true), ("10", false), ("9x", false), ("", false), ("9.0", false)]
        {
            assert_eq!(check(range(), false, false, Some(value)), expected, "{value}");
        }
    }

    #[test]
    fn presence_can_be_wanted_or_not() {
        assert!(check(HeaderTest::Present(true), false, false, Some("")));
        assert!(check(HeaderTest::Present(false), false, false, None));
        assert!(check(HeaderTest::Present(true), true, false, None));
    }
}
