//! Random route configurations and requests from a small vocabulary, so that conditions are met about as often as not.

use std::iter::repeat_with;

use ringsail_reference::Request;
use ringsail_xds::envoy::config::core::v3::{
    DataSource, HeaderValue, HeaderValueOption, RuntimeFractionalPercent, data_source,
};
use ringsail_xds::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use ringsail_xds::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use ringsail_xds::envoy::config::route::v3::redirect_action::{PathRewriteSpecifier, SchemeRewriteSpecifier};
use ringsail_xds::envoy::config::route::v3::route::Action;
use ringsail_xds::envoy::config::route::v3::route_action::{ClusterSpecifier, HostRewriteSpecifier};
use ringsail_xds::envoy::config::route::v3::route_match::{
    ConnectMatcher, GrpcRouteMatchOptions, PathSpecifier,
};
use ringsail_xds::envoy::config::route::v3::weighted_cluster::{
    ClusterWeight, RandomValueSpecifier, cluster_weight,
};
use ringsail_xds::envoy::config::route::v3::{
    DirectResponseAction, HeaderMatcher, QueryParameterMatcher, RedirectAction, Route, RouteAction,
    RouteConfiguration, RouteMatch, VirtualHost, WeightedCluster,
};
use ringsail_xds::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use ringsail_xds::envoy::r#type::matcher::v3::{RegexMatchAndSubstitute, RegexMatcher, StringMatcher};
use ringsail_xds::envoy::r#type::v3::{FractionalPercent, Int64Range};

/// Everything random comes from one seed.
pub struct Generator {
    random: fastrand::Rng,
}

const HOSTS: [&str; 8] =
    ["a.com", "b.a.com", "c.b.a.com", "A.com:80", "a.org", "xa.com", "[::1]:80", "reviews.default:9080"];
const DOMAINS: [&str; 14] = [
    "a.com",
    "b.a.com",
    "*.a.com",
    "*a.com",
    "*.com",
    "a.*",
    "b.*",
    "*",
    "a.com:80",
    "*.b.a.com",
    "[::1]",
    "reviews.default",
    "reviews.*",
    "C.b.A.com",
];
const PATHS: [&str; 12] =
    ["/", "/a", "/A", "/a/", "/a/b", "/ab", "/a/b/c", "/reviews", "/reviews/7", "/Reviews/7", "/b", "/x.y"];
const REGEXES: [&str; 8] =
    ["/a.*", "/[a-z]+", ".*", "/reviews/\\d+", "/(a|b)(/.*)?", "[^/]*", "x+", "(?i)/A"];
const NAMES: [&str; 6] = ["x-a", "x-b", ":method", ":authority", "content-type", "host"];
const VALUES: [&str; 9] = ["", "a", "A", "ab", "b", "5", "-3", "application/grpc", "application/grpc+proto"];
const CLUSTERS: [&str; 3] = ["one", "two", "three"];

impl Generator {
    pub fn new(seed: u64) -> Generator {
        Generator { random: fastrand::Rng::with_seed(seed) }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.u32(0..100) < percent
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.random.usize(..of.len())]
    }

    fn text(&mut self, of: &[&str]) -> String {
        self.one(of).to_owned()
    }

    fn some<T>(&mut self, max: usize, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = self.random.usize(..=max);
        repeat_with(|| make(self)).take(count).collect()
    }

    pub fn request(&mut self) -> Request {
        let method = match self.random.u32(0..10) {
            0 => "CONNECT",
            1 => "POST",
            _ => "GET",
        };
        let mut path = self.text(&PATHS);
        if self.chance(40) {
            path += self.one(&["?", "?a=1", "?a", "?b=2&a=1", "?a=1&a=2", "?x=/a#f", "#f?a=1"]);
        }
        if method == "CONNECT" && self.chance(70) {
            path.clear();
        }
        let mut headers =
            self.some(4, |g| (g.text(&["x-a", "x-b", "content-type", "x-cluster"]), g.text(&VALUES)));
        if self.chance(60) {
            headers.push(("x-forwarded-proto".to_owned(), self.text(&["http", "https"])));
        }
        if self.chance(30) {
            headers.push(("x-envoy-internal".to_owned(), "true".to_owned()));
        }
        Request {
            method: method.to_owned(),
            scheme: self.text(&["http", "https"]),
            authority: self.text(&HOSTS),
            path,
            headers,
            random: self.random.u64(..),
        }
    }

    pub fn route_configuration(&mut self) -> RouteConfiguration {
        let mut domains: Vec<&str> = DOMAINS.to_vec();
        self.random.shuffle(&mut domains);
        let mut virtual_hosts = Vec::new();
        for index in 0..self.random.usize(1..=5) {
            let count = self.random.usize(1..=3).min(domains.len());
            if count == 0 {
                break;
            }
            let own = domains.split_off(domains.len() - count);
            virtual_hosts.push(self.virtual_host(index, own));
        }
        RouteConfiguration {
            name: "random".to_owned(),
            virtual_hosts,
            ignore_port_in_host_matching: self.chance(50),
            most_specific_header_mutations_wins: self.chance(50),
            request_headers_to_add: self.some(1, Self::header_option),
            request_headers_to_remove: self.some(1, |g| g.text(&["x-a", "X-B"])),
            ..RouteConfiguration::default()
        }
    }

    fn virtual_host(&mut self, index: usize, domains: Vec<&str>) -> VirtualHost {
        // Some hosts have enough routes for the index by path.
        let routes = if self.chance(40) { 30 } else { 5 };
        VirtualHost {
            name: format!("host-{index}"),
            domains: domains.into_iter().map(str::to_owned).collect(),
            routes: self.some(routes, Self::route),
            require_tls: if self.chance(15) { self.random.i32(0..3) } else { 0 },
            request_headers_to_add: self.some(1, Self::header_option),
            request_headers_to_remove: self.some(1, |g| g.text(&["x-a", "X-B"])),
            ..VirtualHost::default()
        }
    }

    fn route(&mut self) -> Route {
        let action = match self.random.u32(0..10) {
            0 | 1 => Action::Redirect(self.redirect()),
            2 => Action::DirectResponse(DirectResponseAction {
                status: self.random.u32(200..600),
                body: self.chance(50).then(|| DataSource {
                    specifier: Some(data_source::Specifier::InlineString("body".to_owned())),
                    ..DataSource::default()
                }),
                ..DirectResponseAction::default()
            }),
            _ => Action::Route(self.route_action()),
        };
        Route {
            r#match: Some(self.route_match()),
            action: Some(action),
            request_headers_to_add: self.some(2, Self::header_option),
            request_headers_to_remove: self.some(1, |g| g.text(&["x-a", "X-B"])),
            ..Route::default()
        }
    }

    fn route_match(&mut self) -> RouteMatch {
        let path = match self.random.u32(0..20) {
            0..8 => PathSpecifier::Prefix(self.text(&PATHS)),
            8..13 => PathSpecifier::Path(self.text(&PATHS)),
            13..16 => PathSpecifier::PathSeparatedPrefix(self.text(&["/a", "/A", "/a/b", "/reviews"])),
            16..19 => PathSpecifier::SafeRegex(self.regex()),
            _ => PathSpecifier::ConnectMatcher(ConnectMatcher {}),
        };
        RouteMatch {
            path_specifier: Some(path),
            case_sensitive: if self.chance(30) { Some(self.chance(50)) } else { None },
            headers: if self.chance(40) { self.some(2, Self::header_matcher) } else { vec![] },
            query_parameters: if self.chance(20) { self.some(2, Self::query_matcher) } else { vec![] },
            runtime_fraction: self.chance(15).then(|| RuntimeFractionalPercent {
                default_value: Some(FractionalPercent {
                    numerator: self.random.u32(0..=100),
                    denominator: self.random.i32(0..3),
                }),
                runtime_key: String::new(),
            }),
            grpc: self.chance(5).then(GrpcRouteMatchOptions::default),
            ..RouteMatch::default()
        }
    }

    fn regex(&mut self) -> RegexMatcher {
        RegexMatcher { regex: self.text(&REGEXES), ..RegexMatcher::default() }
    }

    fn string_matcher(&mut self) -> StringMatcher {
        let word = |g: &mut Self| g.text(&["a", "A", "ab", "b", "5"]);
        let pattern = match self.random.u32(0..5) {
            0 => MatchPattern::Exact(self.text(&VALUES)),
            1 => MatchPattern::Prefix(word(self)),
            2 => MatchPattern::Suffix(word(self)),
            3 => MatchPattern::Contains(word(self)),
            _ => MatchPattern::SafeRegex(RegexMatcher {
                regex: self.text(&["[ab]+", "\\d", ".*a.*", "a?"]),
                ..RegexMatcher::default()
            }),
        };
        StringMatcher { ignore_case: self.chance(30), match_pattern: Some(pattern) }
    }

    fn header_matcher(&mut self) -> HeaderMatcher {
        let word = |g: &mut Self| g.text(&["a", "A", "b", "G"]);
        let specifier = match self.random.u32(0..10) {
            0 => None,
            1 => Some(HeaderMatchSpecifier::PresentMatch(self.chance(50))),
            2 => Some(HeaderMatchSpecifier::ExactMatch(self.text(&VALUES))),
            3 => Some(HeaderMatchSpecifier::PrefixMatch(word(self))),
            4 => Some(HeaderMatchSpecifier::SuffixMatch(word(self))),
            5 => Some(HeaderMatchSpecifier::ContainsMatch(word(self))),
            6 => Some(HeaderMatchSpecifier::SafeRegexMatch(self.regex())),
            7 => Some(HeaderMatchSpecifier::RangeMatch(Int64Range {
                start: self.random.i64(-5..5),
                end: self.random.i64(0..10),
            })),
            _ => Some(HeaderMatchSpecifier::StringMatch(self.string_matcher())),
        };
        HeaderMatcher {
            name: self.text(&NAMES),
            invert_match: self.chance(30),
            treat_missing_header_as_empty: self.chance(30),
            header_match_specifier: specifier,
        }
    }

    fn query_matcher(&mut self) -> QueryParameterMatcher {
        let specifier = match self.random.u32(0..3) {
            0 => None,
            1 => Some(QueryParameterMatchSpecifier::PresentMatch(self.chance(50))),
            _ => Some(QueryParameterMatchSpecifier::StringMatch(StringMatcher {
                match_pattern: Some(MatchPattern::Exact(self.text(&["", "1", "2"]))),
                ..StringMatcher::default()
            })),
        };
        QueryParameterMatcher { name: self.text(&["a", "b"]), query_parameter_match_specifier: specifier }
    }

    fn header_option(&mut self) -> HeaderValueOption {
        HeaderValueOption {
            header: Some(HeaderValue {
                key: self.text(&["x-a", "X-New", "x-cluster"]),
                value: self.text(&["", "v", "%REQ(x-a)%", "100%%", "[%REQ(x-none?X-B)%]", "%PATH(NQ)%"]),
                ..HeaderValue::default()
            }),
            append: if self.chance(20) { Some(self.chance(50)) } else { None },
            append_action: self.random.i32(0..4),
            keep_empty_value: self.chance(30),
        }
    }

    fn rewrite(&mut self) -> RegexMatchAndSubstitute {
        RegexMatchAndSubstitute {
            pattern: Some(RegexMatcher { regex: "/(a|b|reviews)".to_owned(), ..RegexMatcher::default() }),
            substitution: self.text(&["/x", "/\\1/\\1", "\\0\\\\", ""]),
        }
    }

    fn redirect(&mut self) -> RedirectAction {
        RedirectAction {
            scheme_rewrite_specifier: match self.random.u32(0..4) {
                0 => Some(SchemeRewriteSpecifier::HttpsRedirect(self.chance(70))),
                1 => Some(SchemeRewriteSpecifier::SchemeRedirect(self.text(&["http", "https"]))),
                _ => None,
            },
            host_redirect: if self.chance(40) { "new.com".to_owned() } else { String::new() },
            port_redirect: if self.chance(30) { self.random.u32(1..65536) } else { 0 },
            path_rewrite_specifier: match self.random.u32(0..5) {
                0 => Some(PathRewriteSpecifier::PathRedirect(self.text(&["/new", "/new?q=1", ""]))),
                1 => Some(PathRewriteSpecifier::PrefixRewrite("/p".to_owned())),
                2 => Some(PathRewriteSpecifier::RegexRewrite(self.rewrite())),
                _ => None,
            },
            response_code: self.random.i32(0..5),
            strip_query: self.chance(30),
        }
    }

    fn route_action(&mut self) -> RouteAction {
        let cluster = match self.random.u32(0..6) {
            0 => ClusterSpecifier::ClusterHeader(self.text(&["x-cluster", ":authority"])),
            1 | 2 => ClusterSpecifier::WeightedClusters(self.weighted_clusters()),
            _ => ClusterSpecifier::Cluster(self.text(&CLUSTERS)),
        };
        let regex_rewrite = self.chance(20).then(|| self.rewrite());
        let prefix_rewrite = if regex_rewrite.is_none() && self.chance(25) { "/new" } else { "" };
        RouteAction {
            cluster_specifier: Some(cluster),
            prefix_rewrite: prefix_rewrite.to_owned(),
            regex_rewrite,
            host_rewrite_specifier: match self.random.u32(0..8) {
                0 => Some(HostRewriteSpecifier::HostRewriteLiteral(self.text(&["new.com", ""]))),
                1 => Some(HostRewriteSpecifier::HostRewriteHeader(self.text(&["x-a", "x-b"]))),
                2 => Some(HostRewriteSpecifier::HostRewritePathRegex(self.rewrite())),
                3 => Some(HostRewriteSpecifier::AutoHostRewrite(self.chance(50))),
                _ => None,
            },
            timeout: self
                .chance(40)
                .then(|| prost_types::Duration { seconds: self.random.i64(0..4), nanos: 500_000_000 }),
            ..RouteAction::default()
        }
    }

    fn weighted_clusters(&mut self) -> WeightedCluster {
        let mut clusters = self.some(3, |g| {
            let by_header = g.chance(15);
            ClusterWeight {
                name: if by_header { String::new() } else { g.text(&CLUSTERS) },
                cluster_header: if by_header { "x-cluster".to_owned() } else { String::new() },
                weight: Some(g.random.u32(0..100)),
                request_headers_to_add: g.some(1, Self::header_option),
                host_rewrite_specifier: g
                    .chance(20)
                    .then(|| cluster_weight::HostRewriteSpecifier::HostRewriteLiteral("w.com".to_owned())),
                ..ClusterWeight::default()
            }
        });
        clusters.push(ClusterWeight { name: "last".to_owned(), weight: Some(1), ..ClusterWeight::default() });
        WeightedCluster {
            clusters,
            random_value_specifier: self
                .chance(20)
                .then(|| RandomValueSpecifier::HeaderName(self.text(&["x-a", "x-b"]))),
            ..WeightedCluster::default()
        }
    }
}
