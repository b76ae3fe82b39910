//! Random routes and random requests through both proxies.
//!
//! A number draws everything: a [`setting::Setting`] (one listener with virtual hosts, routes, edits, retries, faults)
//! and some [`traffic::Conversation`]s (connections with requests, odd ones among them). Both proxies get both, and
//! every answer, every attempt that reached a backend, every log line and the counters at the end must agree; one host
//! splits its requests by weight and must keep to them within chance. A difference is repeated alone and made smaller
//! before it is shown (`shrink`), with the seed that draws it again.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use ringsail_harness::client::Connection;
use ringsail_harness::peer::Peer;

use crate::suite::{CLUSTER_STATS, stats};
use draw::Draw;
use setting::{SPLIT, SPLIT_HOST, Setting};
use traffic::{Ask, Conversation, Seen};

pub mod draw;
pub mod setting;
mod shrink;
pub mod traffic;

/// Requests that share a setting: starting two proxies costs as much as a few hundred requests.
const REQUESTS_PER_SETTING: usize = 240;
/// Requests that are split by weight in each setting.
const SPLIT_REQUESTS: usize = 200;
/// Connections at once to each proxy.
const CONCURRENT: usize = 4;
/// How long log lines and counters may take to settle; both proxies write their logs every 50 ms.
const SETTLE: Duration = Duration::from_secs(10);
/// Differences of one setting that are shown; one mistake makes hundreds.
const SHOWN_MAX: usize = 3;
/// Settings whose first difference is made smaller; it takes a minute each.
const SHRUNK_MAX: usize = 3;

/// What to draw.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// About how many requests; they come in settings of 240.
    pub requests: usize,
    /// The first setting's seed; the following settings take the following numbers.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    /// Settings drawn.
    pub settings: usize,
    /// Requests that both proxies answered.
    pub requests: usize,
    /// Every difference, ready to print.
    pub differences: Vec<String>,
    /// Differences that did not show again when repeated alone: the machine's timing, or a matter of neighbours.
    pub unrepeatable: Vec<String>,
}

impl Report {
    fn differs(&mut self, text: String, tell: &impl Fn(&str)) {
        tell(&format!("\nDIFFERENT: {text}"));
        self.differences.push(text);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} settings, {} requests through both proxies: {} differences, {} more that did not show again alone",
            self.settings,
            self.requests,
            self.differences.len(),
            self.unrepeatable.len()
        )
    }
}

/// Draws and compares as `plan` says; each difference is told as soon as it is found.
///
/// # Errors
/// When Envoy refuses a setting, which is a mistake of the generator, or a proxy cannot be started at all.
pub fn run(envoy: &Path, ringsail: &Path, plan: Plan, tell: impl Fn(&str)) -> Result<Report> {
    let mut report = Report::default();
    let mut shrunk = 0;
    let pair = Pair { envoy, ringsail };
    for round in 0..plan.requests.div_ceil(REQUESTS_PER_SETTING) as u64 {
        let seed = plan.seed.wrapping_add(round);
        let (setting, conversations) = drawn(seed);
        let again = format!("again: --random {REQUESTS_PER_SETTING} --seed {seed}");
        let outcome = pair.compare(&setting, &conversations, true).with_context(|| again.clone())?;
        report.settings += 1;
        report.requests += conversations.iter().map(|conversation| conversation.asks.len()).sum::<usize>();
        match outcome {
            Outcome::Refused(text) => {
                let small = shrink::refused(&pair, &setting, &text);
                report.differs(format!("{again}\n{small}"), &tell);
            }
            Outcome::Compared { found, of_all } => {
                of_all.iter().for_each(|text| report.differs(format!("{again}\n{text}"), &tell));
                let more = found.len().saturating_sub(SHOWN_MAX);
                if more > 0 {
                    report.differs(format!("{again}\n{more} conversations beside the following"), &tell);
                }
                for (place, (index, how)) in found.into_iter().take(SHOWN_MAX).enumerate() {
                    let conversation = &conversations[index];
                    if place > 0 || shrunk >= SHRUNK_MAX {
                        report.differs(format!("{again}\n{}", shown(None, conversation, &how)), &tell);
                        continue;
                    }
                    match shrink::smallest(&pair, &setting, conversation) {
                        Some((setting, conversation, how)) => {
                            shrunk += 1;
                            let text = shown(Some(&setting), &conversation, &how);
                            report.differs(format!("{again}\n{text}"), &tell);
                        }
                        None => {
                            let text = format!("{again}\n{}", shown(None, conversation, &how));
                            tell(&format!("\nseen once: {text}"));
                            report.unrepeatable.push(text);
                        }
                    }
                }
            }
        }
    }
    Ok(report)
}

/// A seed that nobody chose.
pub fn any_seed() -> u64 {
    fastrand::u64(..1_000_000_000)
}

/// The setting and the traffic of a seed.
pub fn drawn(seed: u64) -> (Setting, Vec<Conversation>) {
    let mut draw = Draw::new(seed);
    let setting = Setting::draw(&mut draw);
    let mut conversations = Vec::new();
    let mut requests = 0;
    while requests < REQUESTS_PER_SETTING {
        let conversation = Conversation::draw(&mut draw);
        requests += conversation.asks.len();
        conversations.push(conversation);
    }
    (setting, conversations)
}

fn shown(setting: Option<&Setting>, conversation: &Conversation, how: &str) -> String {
    let mut text = String::new();
    if let Some(setting) = setting {
        text.push_str(&format!("manager {}\nroutes {}\n", setting.manager, setting.routes));
    }
    text.push_str(if conversation.http2 { "HTTP/2" } else { "HTTP/1.1" });
    for ask in &conversation.asks {
        text.push_str(&format!("\n  {}", shown_ask(ask)));
    }
    text.push_str(&format!("\n{how}"));
    text
}

fn shown_ask(ask: &Ask) -> String {
    let fields: Vec<String> = ask.fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let body = match &ask.body {
        None => String::new(),
        Some((body, chunked)) => {
            format!(" body of {} bytes{}", body.len(), if *chunked { " in chunks" } else { "" })
        }
    };
    format!("{} {} host {:?} {fields:?}{body}", ask.method, ask.target, ask.host)
}

/// The two programs.
struct Pair<'a> {
    envoy: &'a Path,
    ringsail: &'a Path,
}

enum Outcome {
    /// ringsail does not take what Envoy takes; its own words.
    Refused(String),
    /// Both ran.
    Compared {
        /// Which conversations differ, and how.
        found: Vec<(usize, String)>,
        /// What differs and belongs to no single conversation.
        of_all: Vec<String>,
    },
}

/// What one proxy did with a setting's traffic.
struct Side {
    peer: Peer,
    seen: Vec<Vec<Seen>>,
}

impl Pair<'_> {
    /// Runs `conversations` under `setting` on both; with `whole`, also what is compared of the setting as a whole.
    fn compare(&self, setting: &Setting, conversations: &[Conversation], whole: bool) -> Result<Outcome> {
        let bootstrap = setting.bootstrap();
        let envoy = Peer::start("envoy", self.envoy, &bootstrap)?;
        let ringsail = match Peer::start("ringsail", self.ringsail, &bootstrap) {
            Ok(peer) => peer,
            Err(error) => return Ok(Outcome::Refused(format!("{error:#}"))),
        };
        let mut of_all = Vec::new();
        if whole && let Some(weights) = setting.split_weights() {
            for peer in [&envoy, &ringsail] {
                of_all.extend(split(peer, &weights)?.map(|text| format!("{}: {text}", peer.name)));
            }
        }
        let (theirs, ours) = thread::scope(|scope| {
            let theirs = scope.spawn(|| talk(&envoy, conversations));
            let ours = scope.spawn(|| talk(&ringsail, conversations));
            (theirs.join(), ours.join())
        });
        let panicked = |_| anyhow!("a conversation panicked");
        let theirs = Side { peer: envoy, seen: theirs.map_err(panicked)? };
        let ours = Side { peer: ringsail, seen: ours.map_err(panicked)? };
        let (found, counters) = settled(&theirs, &ours, conversations);
        if whole && found.is_empty() {
            of_all.extend(counters.into_iter().map(|text| format!("counter {text}")));
        }
        Ok(Outcome::Compared { found, of_all })
    }
}

/// Runs all conversations, a few at a time.
fn talk(peer: &Peer, conversations: &[Conversation]) -> Vec<Vec<Seen>> {
    // Backends outlive peers and remember runs by name.
    let run = format!("{}{}-", &peer.name[..1], peer.address(0).port());
    let mut seen = vec![Vec::new(); conversations.len()];
    thread::scope(|scope| {
        let running: Vec<_> = (0..CONCURRENT)
            .map(|lane| {
                let run = &run;
                scope.spawn(move || {
                    let own = conversations.iter().enumerate().skip(lane).step_by(CONCURRENT);
                    own.map(|(index, conversation)| {
                        (index, conversation.run(peer.address(0), run, &index.to_string()))
                    })
                    .collect::<Vec<_>>()
                })
            })
            .collect();
        for handle in running {
            for (index, of_one) in handle.join().unwrap_or_default() {
                seen[index] = of_one;
            }
        }
    });
    seen
}

/// Compares once log lines and counters agree, or can be expected to be complete.
fn settled(
    theirs: &Side,
    ours: &Side,
    conversations: &[Conversation],
) -> (Vec<(usize, String)>, Vec<String>) {
    let deadline = Instant::now() + SETTLE;
    loop {
        let logs = (log_lines(&theirs.peer), log_lines(&ours.peer));
        let counters = counters(&theirs.peer, &ours.peer);
        let found: Vec<(usize, String)> = conversations
            .iter()
            .enumerate()
            .filter_map(|(index, conversation)| {
                let how = difference(index, conversation, (theirs, ours), &logs)?;
                Some((index, how))
            })
            .collect();
        // Where answers differ, counters and lines will not agree: then it is enough that all lines have come.
        let lines = |of: &Lines| of.values().map(Vec::len).sum::<usize>();
        let told = theirs.seen != ours.seen && lines(&logs.0) == lines(&logs.1);
        if (found.is_empty() && counters.is_empty()) || told || Instant::now() > deadline {
            return (found, counters);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

type Lines = BTreeMap<String, Vec<String>>;

fn difference(
    index: usize,
    conversation: &Conversation,
    (theirs, ours): (&Side, &Side),
    logs: &(Lines, Lines),
) -> Option<String> {
    for (number, ask) in conversation.asks.iter().enumerate() {
        let id = format!("{index}.{number}");
        let mut parts = Vec::new();
        let mut part = |name: &str, theirs: &str, ours: &str| {
            if theirs != ours {
                parts.push(format!("{name}\n    envoy    {theirs:?}\n    ringsail {ours:?}"));
            }
        };
        let (Some(expected), Some(found)) = (theirs.seen[index].get(number), ours.seen[index].get(number))
        else {
            return Some(format!("{} has no answer on one side", shown_ask(ask)));
        };
        part("answer", &expected.reply, &found.reply);
        part("attempts", &expected.attempts, &found.attempts);
        if parts.is_empty() {
            // What the log says follows from the answer; a difference of both is one.
            let line = |of: &Lines| of.get(&id).cloned().unwrap_or_default().join("\n");
            let (expected, found) = (line(&logs.0), line(&logs.1));
            if expected != found {
                parts.push(format!("log\n    envoy    {expected:?}\n    ringsail {found:?}"));
            }
        }
        if !parts.is_empty() {
            return Some(format!("{}\n  {}", shown_ask(ask), parts.join("\n  ")));
        }
    }
    None
}

/// The access log by the request's name.
fn log_lines(peer: &Peer) -> Lines {
    let mut lines = Lines::new();
    for line in peer.access_log() {
        if let Some((id, rest)) = line.split_once(' ') {
            lines.entry(id.to_string()).or_default().push(rest.to_string());
        }
    }
    lines
}

/// The counters that differ.
fn counters(theirs: &Peer, ours: &Peer) -> Vec<String> {
    const MANAGER: &[&str] = &[
        "downstream_rq_total",
        "downstream_rq_2xx",
        "downstream_rq_3xx",
        "downstream_rq_4xx",
        "downstream_rq_5xx",
        "no_route",
        "no_cluster",
        "rq_direct_response",
        "rq_redirect",
        "fault.aborts_injected",
        "fault.delays_injected",
    ];
    /// Depends on how many requests wait for the connection that fails.
    const BY_TIMING: &str = "upstream_cx_connect_fail";
    let pages = (theirs.admin("/stats").unwrap_or_default(), ours.admin("/stats").unwrap_or_default());
    let (theirs, ours) = (stats(&pages.0), stats(&pages.1));
    let clusters = ["one", "two", "many", "h2", "dead", "empty"].into_iter().flat_map(|cluster| {
        let names = CLUSTER_STATS.iter().filter(|name| **name != BY_TIMING);
        names.map(move |name| format!("cluster.{cluster}.{name}"))
    });
    let names = MANAGER.iter().map(|name| format!("http.random.{name}")).chain(clusters);
    names
        .filter_map(|name| {
            let value = |of: &BTreeMap<&str, &str>| of.get(name.as_str()).copied().unwrap_or("0").to_string();
            let (theirs, ours) = (value(&theirs), value(&ours));
            (theirs != ours).then(|| format!("{name}: envoy {theirs}, ringsail {ours}"))
        })
        .collect()
}

/// Sends what is split by weight; what is wrong with the shares, if anything is.
///
/// The number of requests of a share is binomial: five standard deviations and one are exceeded once in two million.
fn split(peer: &Peer, weights: &[u64]) -> Result<Option<String>> {
    let mut connection = Connection::open(peer.address(0))?;
    let mut counts = vec![0usize; SPLIT.len()];
    for _ in 0..SPLIT_REQUESTS {
        let answer = connection.send(&format!("GET / HTTP/1.1\r\nhost: {SPLIT_HOST}\r\n\r\n"))?;
        let backend =
            answer.fields.iter().find(|(name, _)| name == "x-backend").map(|(_, value)| value.as_str());
        let share =
            SPLIT.iter().position(|(_, backends)| backend.is_some_and(|backend| backends.contains(&backend)));
        counts[share.with_context(|| format!("an answer of no share: {answer:?}"))?] += 1;
    }
    let sum: u64 = weights.iter().sum();
    let kept = weights.iter().zip(&counts).all(|(weight, count)| {
        let share = *weight as f64 / sum as f64;
        let expected = share * SPLIT_REQUESTS as f64;
        (*count as f64 - expected).abs() <= 5.0 * (expected * (1.0 - share)).sqrt() + 1.0
    });
    Ok((!kept).then(|| format!("weights {weights:?} became {counts:?} of {SPLIT_REQUESTS} requests")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_draws_the_same_and_two_seeds_do_not() {
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
    }

    #[test]
    fn a_setting_has_its_split_and_enough_requests() {
        for seed in 0..50 {
            let (setting, conversations) = drawn(seed);
            assert_eq!(setting.split_weights().unwrap().len(), SPLIT.len());
            let requests: usize = conversations.iter().map(|conversation| conversation.asks.len()).sum();
            assert!(requests >= REQUESTS_PER_SETTING);
        }
    }
}
