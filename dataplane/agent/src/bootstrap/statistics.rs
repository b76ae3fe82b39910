//! `stats_config`: which statistics are shown, and with which buckets.

use std::fmt;
use std::sync::Arc;

use ringsail_tables::regex_re2::Regex;
use ringsail_tables::{Str, StringMatch};
use ringsail_telemetry::limits::STATS_SETTINGS_MAX;
use ringsail_telemetry::{Bounds, BucketSettings};
use ringsail_xds::envoy::config::bootstrap::v3::Bootstrap as Message;
use ringsail_xds::envoy::config::metrics::v3::stats_matcher::StatsMatcher as Rule;
use ringsail_xds::envoy::r#type::matcher::v3::{ListStringMatcher, StringMatcher, string_matcher};

use super::{Problem, source};

/// Which statistics are shown. Source: `StatsConfig.stats_matcher`.
///
/// Compat: Envoy does not make what is not wanted; here it is counted all the same, and not shown.
#[derive(Clone, Default)]
pub struct Shown(Option<Arc<Matcher>>);

enum Matcher {
    Nothing,
    AllBut(Vec<StringMatch>),
    Only(Vec<StringMatch>),
}

impl Shown {
    /// Whether everything is.
    pub fn is_all(&self) -> bool {
        self.0.is_none()
    }

    /// Whether the statistic with this full dotted name is.
    pub fn contains(&self, name: &str) -> bool {
        let any = |list: &[StringMatch]| list.iter().any(|matcher| matcher.matches(name.as_bytes()));
        match self.0.as_deref() {
            None => true,
            Some(Matcher::Nothing) => false,
            Some(Matcher::AllBut(list)) => !any(list),
            Some(Matcher::Only(list)) => any(list),
        }
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_all() { "all" } else { "some" })
    }
}

pub(super) fn shown(message: &Message) -> Result<Shown, Problem> {
    let rule = message
        .stats_config
        .as_ref()
        .and_then(|config| config.stats_matcher.as_ref()?.stats_matcher.as_ref());
    let matcher = match rule {
        None | Some(Rule::RejectAll(false)) => return Ok(Shown(None)),
        Some(Rule::RejectAll(true)) => Matcher::Nothing,
        Some(Rule::ExclusionList(list)) => Matcher::AllBut(patterns(list, "exclusion_list")?),
        Some(Rule::InclusionList(list)) => Matcher::Only(patterns(list, "inclusion_list")?),
    };
    Ok(Shown(Some(Arc::new(matcher))))
}

fn patterns(list: &ListStringMatcher, field: &str) -> Result<Vec<StringMatch>, Problem> {
    let problem = |text: String| (source::path(&["stats_config", "stats_matcher", field]), text);
    if list.patterns.len() > STATS_SETTINGS_MAX {
        return Err(problem(format!("has more than {STATS_SETTINGS_MAX} patterns")));
    }
    list.patterns.iter().map(|pattern| matcher(pattern).map_err(problem)).collect()
}

fn matcher(value: &StringMatcher) -> Result<StringMatch, String> {
    use string_matcher::MatchPattern;
    let fold = value.ignore_case;
    let pick = |exact: fn(Str) -> StringMatch, folded: fn(Str) -> StringMatch, text: &str| {
        if fold { folded(Str::new(text)) } else { exact(Str::new(text)) }
    };
    Ok(match &value.match_pattern {
        Some(MatchPattern::Exact(text)) => pick(StringMatch::Exact, StringMatch::ExactIgnoreCase, text),
        Some(MatchPattern::Prefix(text)) => pick(StringMatch::Prefix, StringMatch::PrefixIgnoreCase, text),
        Some(MatchPattern::Suffix(text)) => pick(StringMatch::Suffix, StringMatch::SuffixIgnoreCase, text),
        Some(MatchPattern::Contains(text)) => {
            pick(StringMatch::Contains, StringMatch::ContainsIgnoreCase, text)
        }
        Some(MatchPattern::SafeRegex(regex)) => {
            StringMatch::Regex(Regex::whole(Str::new(&regex.regex)).map_err(|error| error.to_string())?)
        }
        _ => return Err("a pattern has no text to match".to_owned()),
    })
}

/// Source: `StatsConfig.histogram_bucket_settings`.
pub(super) fn buckets(message: &Message) -> Result<BucketSettings, Problem> {
    let problem = |text: String| (source::path(&["stats_config", "histogram_bucket_settings"]), text);
    let mut settings = BucketSettings::default();
    let list = message.stats_config.iter().flat_map(|config| &config.histogram_bucket_settings);
    for (index, setting) in list.enumerate() {
        if index >= STATS_SETTINGS_MAX {
            return Err(problem(format!("has more than {STATS_SETTINGS_MAX} entries")));
        }
        let matcher = matcher(&setting.r#match.clone().unwrap_or_default()).map_err(problem)?;
        let Some(bounds) = Bounds::new(&setting.buckets) else {
            return Err(problem("buckets must be there, ascending, and not too many".to_owned()));
        };
        settings.push(move |name| matcher.matches(name.as_bytes()), bounds);
    }
    Ok(settings)
}

/// What is asked for and has no effect: tags are those Istio extracts.
pub(super) fn asks_for_tags(message: &Message) -> bool {
    const KNOWN: [&str; 14] = [
        "cluster_name",
        "tcp_prefix",
        "response_code",
        "response_code_class",
        "http_conn_manager_listener_prefix",
        "http_conn_manager_prefix",
        "listener_address",
        "mongo_prefix",
        "cache",
        "component",
        "tag",
        "wasm_filter",
        "authz_enforce_result",
        "authz_dry_run_action",
    ];
    let tags = message.stats_config.iter().flat_map(|config| &config.stats_tags);
    tags.into_iter()
        .any(|tag| !KNOWN.contains(&tag.tag_name.as_str()) && tag.tag_name != "authz_dry_run_result")
}
