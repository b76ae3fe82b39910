//! What traffic shows: per kind of visitor and per edge of the mesh, how often, how well, how fast, and by whom answered.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::Value;

use super::client::Page;

/// Who asks for the page. Each kind of visitor is told apart by something a route can match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Visitor {
    /// Nothing special.
    Anybody,
    /// `end-user: jason`.
    Jason,
    /// A cookie `preview=yes` among others.
    Cookie,
    /// `?stars=black`.
    Query,
}

impl Visitor {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Anybody, Self::Jason, Self::Cookie, Self::Query];

    /// As shown in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Anybody => "anybody",
            Self::Jason => "end-user: jason",
            Self::Cookie => "cookie preview=yes",
            Self::Query => "?stars=black",
        }
    }

    /// Request target.
    pub fn target(self) -> &'static str {
        match self {
            Self::Query => "/productpage?stars=black",
            Self::Anybody | Self::Jason | Self::Cookie => "/productpage",
        }
    }

    /// Header fields.
    pub fn fields(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Jason => &[("end-user", "jason")],
            Self::Cookie => &[("cookie", "session=4711; preview=yes; lang=en")],
            Self::Anybody | Self::Query => &[],
        }
    }
}

/// A caller and the service it called; the page itself is called by `gateway`.
pub type Edge = (String, String);

/// Longest duration told apart, in microseconds: ten minutes, beyond any timeout of the story.
const MICROS_MAX: u64 = 600_000_000;

/// What is known of one edge.
pub struct EdgeSeen {
    /// Calls that ended.
    pub total: u64,
    /// Of those, with a status below 500.
    pub succeeded: u64,
    /// By status; 0 when there was none.
    pub statuses: BTreeMap<u16, u64>,
    /// By version of the answering service, where it told.
    pub versions: BTreeMap<String, u64>,
    /// Durations in microseconds.
    pub micros: Histogram<u64>,
}

impl Default for EdgeSeen {
    fn default() -> Self {
        // Two digits are what a table shows.
        let micros = Histogram::new_with_bounds(1, MICROS_MAX, 2).expect("bounds and digits are supported");
        Self { total: 0, succeeded: 0, statuses: BTreeMap::new(), versions: BTreeMap::new(), micros }
    }
}

impl EdgeSeen {
    fn add(&mut self, status: u16, elapsed: Duration, version: Option<&str>) {
        self.total += 1;
        self.succeeded += u64::from((1..500).contains(&status));
        *self.statuses.entry(status).or_default() += 1;
        if let Some(version) = version {
            *self.versions.entry(version.to_owned()).or_default() += 1;
        }
        self.micros.saturating_record(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX));
    }

    /// Duration at a quantile.
    pub fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.micros.value_at_quantile(quantile))
    }
}

/// Everything seen since a moment.
pub struct Window {
    /// When it was opened.
    pub since: Instant,
    /// Pages asked for.
    pub pages: u64,
    /// Edges of all visitors together.
    pub edges: BTreeMap<Edge, EdgeSeen>,
    /// Answers of reviews by visitor and version.
    pub reviews: BTreeMap<(Visitor, String), u64>,
}

impl Window {
    /// An empty window from this moment on.
    pub fn open() -> Self {
        Self { since: Instant::now(), pages: 0, edges: BTreeMap::new(), reviews: BTreeMap::new() }
    }

    /// Answers of ratings by version.
    pub fn ratings_versions(&self) -> BTreeMap<String, u64> {
        let edge = self.edges.get(&("reviews".to_owned(), "ratings".to_owned()));
        edge.map(|seen| seen.versions.clone()).unwrap_or_default()
    }

    /// Adds one page, or the failure to get one.
    pub fn add(&mut self, visitor: Visitor, page: Option<&Page>) {
        self.pages += 1;
        let edge = self.edges.entry(("gateway".to_owned(), "productpage".to_owned())).or_default();
        let Some(page) = page else { return edge.add(0, Duration::ZERO, None) };
        let version = page.answer.as_ref().and_then(|answer| answer["version"].as_str());
        edge.add(page.status, page.elapsed, version);
        if let Some(answer) = &page.answer {
            self.add_calls(visitor, answer);
        }
    }

    /// Walks the tree of calls that an answer describes.
    fn add_calls(&mut self, visitor: Visitor, answer: &Value) {
        let caller = answer["service"].as_str().unwrap_or("?");
        for call in answer["calls"].as_array().into_iter().flatten() {
            let callee = called_service(call["url"].as_str().unwrap_or_default());
            let status = call["status"].as_u64().and_then(|status| u16::try_from(status).ok()).unwrap_or(0);
            let elapsed = Duration::from_micros(call["elapsed_us"].as_u64().unwrap_or(0));
            let version = call["answer"]["version"].as_str();
            let edge = self.edges.entry((caller.to_owned(), callee.to_owned())).or_default();
            edge.add(status, elapsed, version);
            if let ("reviews", Some(version)) = (callee, version) {
                *self.reviews.entry((visitor, version.to_owned())).or_default() += 1;
            }
            self.add_calls(visitor, &call["answer"]);
        }
    }

    /// How many answers of reviews a visitor saw, and how many of one version.
    pub fn reviews_of(&self, visitor: Visitor, version: &str) -> (u64, u64) {
        let all = self.reviews.iter().filter(|((who, _), _)| *who == visitor).map(|(_, count)| count).sum();
        (all, self.reviews.get(&(visitor, version.to_owned())).copied().unwrap_or(0))
    }
}

fn called_service(url: &str) -> &str {
    let authority = url.strip_prefix("http://").unwrap_or(url);
    authority.split([':', '/']).next().unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_is_taken_apart_into_its_edges() {
        let ratings = json!({"url": "http://ratings:9080/ratings/0", "status": 504, "elapsed_us": 3_000_100});
        let reviews = json!({"service": "reviews", "version": "v2", "calls": [ratings]});
        let answer = json!({"service": "productpage", "version": "v1", "calls": [
            {"url": "http://reviews:9080/reviews/0", "status": 200, "elapsed_us": 900, "answer": reviews},
        ]});
        let mut window = Window::open();
        window.add(
            Visitor::Jason,
            Some(&Page { status: 200, elapsed: Duration::from_millis(2), answer: Some(answer) }),
        );
        window.add(Visitor::Jason, None);
        let edge = |from: &str, to: &str| &window.edges[&(from.to_owned(), to.to_owned())];
        assert_eq!((edge("gateway", "productpage").total, edge("gateway", "productpage").succeeded), (2, 1));
        assert_eq!(edge("reviews", "ratings").statuses[&504], 1);
        let timeout = edge("reviews", "ratings").quantile(0.5).as_secs_f64();
        assert!((2.97..3.05).contains(&timeout), "{timeout}");
        assert_eq!(window.reviews_of(Visitor::Jason, "v2"), (1, 1));
        assert_eq!(window.reviews_of(Visitor::Anybody, "v2"), (0, 0));
    }
}
