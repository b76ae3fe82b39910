//! Matchers of strings, header fields, query parameters and metadata.

use ringsail_xds::envoy::config::route::v3 as pb;
use ringsail_xds::envoy::r#type::matcher::v3 as matcher;

use super::context::Context;
use crate::limits::NESTING_MAX;
use crate::regex_re2::Regex;
use crate::route::{HeaderMatch, HeaderTest, MetadataMatch, QueryMatch, QueryTest, RegexRewrite, ValueTest};
use crate::string_match::StringMatch;

/// Source: `envoy.type.matcher.v3.StringMatcher`.
pub(super) fn string_match(cx: &mut Context<'_>, value: &matcher::StringMatcher) -> Option<StringMatch> {
    use matcher::string_matcher::MatchPattern;
    let fold = value.ignore_case;
    Some(match value.match_pattern.as_ref() {
        Some(MatchPattern::Exact(text)) => {
            let text = cx.intern(text);
            if fold { StringMatch::ExactIgnoreCase(text) } else { StringMatch::Exact(text) }
        }
        Some(MatchPattern::Prefix(text)) => prefix(cx, text, fold)?,
        Some(MatchPattern::Suffix(text)) => suffix(cx, text, fold)?,
        Some(MatchPattern::Contains(text)) => contains(cx, text, fold)?,
        // Compat: `ignore_case` has no effect on regular expressions.
        Some(MatchPattern::SafeRegex(regex)) => {
            StringMatch::Regex(cx.at("safe_regex", |cx| whole_regex(cx, regex))?)
        }
        Some(MatchPattern::Custom(_)) => return cx.refuse("custom", "matcher extensions are not supported"),
        None => return cx.refuse("", "matches nothing in particular"),
    })
}

fn prefix(cx: &mut Context<'_>, text: &str, fold: bool) -> Option<StringMatch> {
    let text = not_empty(cx, "prefix", text)?;
    Some(if fold { StringMatch::PrefixIgnoreCase(text) } else { StringMatch::Prefix(text) })
}

fn suffix(cx: &mut Context<'_>, text: &str, fold: bool) -> Option<StringMatch> {
    let text = not_empty(cx, "suffix", text)?;
    Some(if fold { StringMatch::SuffixIgnoreCase(text) } else { StringMatch::Suffix(text) })
}

fn contains(cx: &mut Context<'_>, text: &str, fold: bool) -> Option<StringMatch> {
    let text = not_empty(cx, "contains", text)?;
    Some(if fold { StringMatch::ContainsIgnoreCase(text) } else { StringMatch::Contains(text) })
}

fn not_empty(cx: &mut Context<'_>, field: &str, text: &str) -> Option<crate::strings::Str> {
    if text.is_empty() {
        return cx.refuse(field, "is empty");
    }
    Some(cx.intern(text))
}

/// A regular expression for whole values.
pub(super) fn whole_regex(cx: &mut Context<'_>, value: &matcher::RegexMatcher) -> Option<Regex> {
    regex(cx, value, Regex::whole)
}

fn regex(
    cx: &mut Context<'_>,
    value: &matcher::RegexMatcher,
    compile: impl FnOnce(crate::strings::Str) -> Result<Regex, crate::regex_re2::RegexError>,
) -> Option<Regex> {
    let source = not_empty(cx, "regex", &value.regex)?;
    match compile(source) {
        Ok(regex) => Some(regex),
        Err(error) => cx.refuse("regex", error),
    }
}

/// Source: `envoy.type.matcher.v3.RegexMatchAndSubstitute`.
pub(super) fn regex_rewrite(
    cx: &mut Context<'_>,
    value: &matcher::RegexMatchAndSubstitute,
) -> Option<Box<RegexRewrite>> {
    let Some(pattern) = &value.pattern else { return cx.refuse("pattern", "is not set") };
    let pattern = cx.at("pattern", |cx| regex(cx, pattern, Regex::search))?;
    match RegexRewrite::new(pattern, &value.substitution, cx.strings) {
        Ok(rewrite) => Some(Box::new(rewrite)),
        Err(text) => cx.refuse("substitution", text),
    }
}

/// Source: `envoy.config.route.v3.HeaderMatcher`.
pub(super) fn header_match(cx: &mut Context<'_>, value: &pb::HeaderMatcher) -> Option<HeaderMatch> {
    use pb::header_matcher::HeaderMatchSpecifier;
    if value.name.is_empty() {
        return cx.refuse("name", "is empty");
    }
    let test = match value.header_match_specifier.as_ref() {
        // Compat: without a test the header has to be present.
        None => HeaderTest::Present(true),
        Some(HeaderMatchSpecifier::PresentMatch(wanted)) => HeaderTest::Present(*wanted),
        Some(HeaderMatchSpecifier::ExactMatch(text)) => {
            HeaderTest::Value(StringMatch::Exact(cx.intern(text)))
        }
        Some(HeaderMatchSpecifier::PrefixMatch(text)) => HeaderTest::Value(prefix(cx, text, false)?),
        Some(HeaderMatchSpecifier::SuffixMatch(text)) => HeaderTest::Value(suffix(cx, text, false)?),
        Some(HeaderMatchSpecifier::ContainsMatch(text)) => HeaderTest::Value(contains(cx, text, false)?),
        Some(HeaderMatchSpecifier::SafeRegexMatch(regex)) => {
            HeaderTest::Value(StringMatch::Regex(cx.at("safe_regex_match", |cx| whole_regex(cx, regex))?))
        }
        Some(HeaderMatchSpecifier::RangeMatch(range)) => {
            HeaderTest::Range { start: range.start, end: range.end }
        }
        Some(HeaderMatchSpecifier::StringMatch(matcher)) => {
            HeaderTest::Value(cx.at("string_match", |cx| string_match(cx, matcher))?)
        }
    };
    Some(HeaderMatch {
        name: cx.intern_lower(&value.name),
        test,
        invert: value.invert_match,
        treat_missing_as_empty: value.treat_missing_header_as_empty,
    })
}

/// Source: `envoy.config.route.v3.QueryParameterMatcher`.
pub(super) fn query_match(cx: &mut Context<'_>, value: &pb::QueryParameterMatcher) -> Option<QueryMatch> {
    use pb::query_parameter_matcher::QueryParameterMatchSpecifier;
    if value.name.is_empty() {
        return cx.refuse("name", "is empty");
    }
    let test = match &value.query_parameter_match_specifier {
        None => QueryTest::Present(true),
        Some(QueryParameterMatchSpecifier::PresentMatch(wanted)) => QueryTest::Present(*wanted),
        Some(QueryParameterMatchSpecifier::StringMatch(matcher)) => {
            QueryTest::Value(cx.at("string_match", |cx| string_match(cx, matcher))?)
        }
    };
    Some(QueryMatch { name: cx.intern(&value.name), test })
}

/// Source: `envoy.type.matcher.v3.MetadataMatcher`.
pub(super) fn metadata_match(
    cx: &mut Context<'_>,
    value: &matcher::MetadataMatcher,
) -> Option<MetadataMatch> {
    use matcher::metadata_matcher::path_segment::Segment;
    if value.filter.is_empty() {
        return cx.refuse("filter", "is empty");
    }
    let path = cx.each("path", &value.path, |cx, segment| match &segment.segment {
        Some(Segment::Key(key)) => Some(cx.intern(key)),
        None => cx.refuse("key", "is not set"),
    });
    if path.is_empty() {
        return cx.refuse("path", "is empty");
    }
    let Some(test) = &value.value else { return cx.refuse("value", "is not set") };
    let test = cx.at("value", |cx| value_test(cx, test, NESTING_MAX))?;
    Some(MetadataMatch { namespace: cx.intern(&value.filter), path, test, invert: value.invert })
}

fn value_test(cx: &mut Context<'_>, value: &matcher::ValueMatcher, depth: u32) -> Option<ValueTest> {
    use matcher::double_matcher::MatchPattern as Number;
    use matcher::list_matcher::MatchPattern as List;
    use matcher::value_matcher::MatchPattern;
    if depth == 0 {
        return cx.refuse("", format_args!("nested deeper than {NESTING_MAX} matchers"));
    }
    Some(match &value.match_pattern {
        Some(MatchPattern::NullMatch(_)) => ValueTest::Null,
        Some(MatchPattern::DoubleMatch(number)) => match &number.match_pattern {
            Some(Number::Exact(number)) => ValueTest::Number(*number),
            Some(Number::Range(range)) => ValueTest::Range { start: range.start, end: range.end },
            None => return cx.refuse("double_match", "matches nothing in particular"),
        },
        Some(MatchPattern::StringMatch(text)) => {
            ValueTest::String(cx.at("string_match", |cx| string_match(cx, text))?)
        }
        Some(MatchPattern::BoolMatch(flag)) => ValueTest::Bool(*flag),
        Some(MatchPattern::PresentMatch(wanted)) => ValueTest::Present(*wanted),
        Some(MatchPattern::ListMatch(list)) => match &list.match_pattern {
            Some(List::OneOf(inner)) => {
                ValueTest::OneOf(Box::new(cx.at("list_match.one_of", |cx| value_test(cx, inner, depth - 1))?))
            }
            None => return cx.refuse("list_match", "matches nothing in particular"),
        },
        Some(MatchPattern::OrMatch(any)) => ValueTest::Any(cx.at("or_match", |cx| {
            cx.each("value_matchers", &any.value_matchers, |cx, inner| value_test(cx, inner, depth - 1))
        })),
        None => return cx.refuse("", "matches nothing in particular"),
    })
}
