//! What the standard functions lack here: lengths of time, and `matches` with our regular expressions.
//!
//! The crate's own lengths of time need a calendar library with all time zones; attributes only compare lengths.

use std::any::Any;
use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use cel::common::traits::{Adder, Comparer};
use cel::common::types::{CelString, DURATION_TYPE, Type};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::extractors::This;
use cel::{Context, Env, ExecutionError};

use crate::regex_re2::Regex;

/// A length of time as a value of the language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

impl StaticVal for Span {}

impl Val for Span {
    fn get_type(&self) -> &Type {
        &DURATION_TYPE
    }

    fn cel_type() -> &'static Type {
        &DURATION_TYPE
    }

    fn as_adder<'b, 'v>(&'b self) -> Option<&'b (dyn Adder + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_comparer(&self) -> Option<&dyn Comparer> {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        other.downcast_ref::<Span>() == Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(*self)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl Adder for Span {
    fn add<'b, 'v>(&'b self, other: &(dyn Val + 'v)) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let sum = other.downcast_ref::<Span>().and_then(|other| self.0.checked_add(other.0));
        let sum = sum.ok_or_else(|| ExecutionError::function_error("+", "no such sum of lengths of time"))?;
        Ok(CowVal::owned(Span(sum)))
    }
}

impl Comparer for Span {
    fn compare(&self, other: &dyn Val) -> Result<Ordering, ExecutionError> {
        let other = other.downcast_ref::<Span>();
        let other = other.ok_or_else(|| ExecutionError::function_error("compare", "not a length of time"))?;
        Ok(self.0.cmp(&other.0))
    }
}

/// `duration('1h2m3.5s')`.
fn duration(text: &CelString<'_>) -> Result<Span, ExecutionError> {
    let length = parse(text.inner());
    length
        .map(Span)
        .ok_or_else(|| ExecutionError::function_error("duration", "not a length of time such as 1.5s"))
}

/// Adds `duration` to the standard functions.
pub(super) fn declare(environment: &mut Env) {
    // The name is free: the standard one comes with the crate's calendar only.
    #[allow(elided_lifetimes_in_paths)] // The macro takes types without their lifetimes.
    let added = cel::add_overload!(environment, fn duration: (CelString) -> Result<Span, ExecutionError>);
    debug_assert!(added.is_ok(), "{added:?}");
}

/// Adds `matches` with the expression's patterns, which were compiled with it.
pub(super) fn add_matches(context: &mut Context<'_, '_>, patterns: Arc<[Regex]>) {
    let matches = move |This(subject): This<Arc<String>>, pattern: Arc<String>| {
        let compiled = patterns.iter().find(|regex| regex.source() == pattern.as_str());
        match compiled {
            Some(regex) => Ok(regex.matches(subject.as_bytes())),
            None => {
                Err(ExecutionError::function_error("matches", "the pattern is not part of the expression"))
            }
        }
    };
    let added = context.add_function("matches", matches);
    debug_assert!(added.is_ok(), "{added:?}");
}

/// `1h2m3.5s`, `200ms`. Source: the CEL language definition, `duration`.
fn parse(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit_len = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = after;
    }
    Some(total)
}
