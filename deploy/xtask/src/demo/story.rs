//! The story: eight edits of YAML, and what traffic must show after each.

use std::time::Duration;

use super::binomial;
use super::observe::{Visitor, Window};

/// One step: files to save, and claims about the traffic that follows.
pub struct Step {
    /// Folder below `deploy/samples/bookinfo-story`.
    pub folder: &'static str,
    /// What the edit says, for the reader.
    pub title: &'static str,
    /// Files of the original sample that are saved back first.
    pub restores: &'static [&'static str],
    /// A version of ratings that must have answered before the step is watched: a new proxy has to start first.
    pub awaits_ratings: Option<&'static str>,
    /// Requests per second while it is watched; slow answers need fewer.
    pub rate: u32,
    /// Pages to watch before judging.
    pub pages: u64,
    /// What must be seen.
    pub claims: &'static [Claim],
}

/// Something traffic must show.
#[derive(Debug, Clone, Copy)]
pub enum Claim {
    /// This share of a visitor's reviews comes from a version.
    Share { visitor: Visitor, version: &'static str, wanted: f64 },
    /// Every page and every call succeeds.
    AllSucceed,
    /// Every page succeeds, and every call of reviews to ratings is cut off with 504 at this deadline.
    RatingsTimeOut { after: Duration },
    /// Every call of ratings is answered by the program that runs outside the mesh's care.
    RatingsFromOutside,
    /// The control plane refuses a file of the step: it names file, line, field and what to write.
    Refused { file: &'static str, line: u32, field: &'static str, fix: &'static str },
}

const fn share(visitor: Visitor, version: &'static str, wanted: f64) -> Claim {
    Claim::Share { visitor, version, wanted }
}

/// A timeout may fire this much late: timers are coarse, and a debug build on a busy machine is slow.
const TIMEOUT_SLACK: Duration = Duration::from_millis(900);

/// `--service-version` of the ratings that runs already.
pub const OUTSIDE: &str = "outside";

/// Its address in the step's file, which becomes the one it really has, as a user would write his own.
pub const OUTSIDE_ADDRESS: &str = "127.80.0.1";

/// All steps in order.
pub const STORY: [Step; 8] = [
    Step {
        folder: "1-all-to-v1",
        title: "all reviews come from v1",
        restores: &[],
        awaits_ratings: None,
        rate: 120,
        pages: 360,
        claims: &[
            share(Visitor::Anybody, "v1", 1.0),
            share(Visitor::Jason, "v1", 1.0),
            share(Visitor::Cookie, "v1", 1.0),
            share(Visitor::Query, "v1", 1.0),
            Claim::AllSucceed,
        ],
    },
    Step {
        folder: "2-canary-90-10",
        title: "a canary: 90% v1, 10% v2",
        restores: &[],
        awaits_ratings: None,
        rate: 120,
        pages: 720,
        claims: &[share(Visitor::Anybody, "v1", 0.9), share(Visitor::Anybody, "v2", 0.1), Claim::AllSucceed],
    },
    Step {
        folder: "3-half-and-half",
        title: "half v1, half v3",
        restores: &[],
        awaits_ratings: None,
        rate: 120,
        pages: 720,
        claims: &[share(Visitor::Anybody, "v1", 0.5), share(Visitor::Anybody, "v3", 0.5), Claim::AllSucceed],
    },
    Step {
        folder: "4-user-by-header",
        title: "jason sees v2, everybody else v1",
        restores: &[],
        awaits_ratings: None,
        rate: 120,
        pages: 360,
        claims: &[
            share(Visitor::Jason, "v2", 1.0),
            share(Visitor::Anybody, "v1", 1.0),
            share(Visitor::Cookie, "v1", 1.0),
            Claim::AllSucceed,
        ],
    },
    Step {
        folder: "5-cookie-and-query",
        title: "a cookie leads to v3, a query parameter to v2",
        restores: &[],
        awaits_ratings: None,
        rate: 120,
        pages: 360,
        claims: &[
            share(Visitor::Cookie, "v3", 1.0),
            share(Visitor::Query, "v2", 1.0),
            share(Visitor::Anybody, "v1", 1.0),
            share(Visitor::Jason, "v1", 1.0),
            Claim::AllSucceed,
        ],
    },
    Step {
        folder: "6-timeout",
        title: "ratings became slow (20 s); reviews waits 3 s for it",
        restores: &[],
        awaits_ratings: None,
        rate: 20,
        pages: 60,
        claims: &[
            Claim::RatingsTimeOut { after: Duration::from_secs(3) },
            share(Visitor::Anybody, "v2", 1.0),
        ],
    },
    Step {
        folder: "7-broken-file",
        title: "a file with a typing error is refused; traffic stays as it was",
        restores: &["apps/ratings.yaml", "networking/ratings.yaml"],
        awaits_ratings: None,
        rate: 120,
        pages: 360,
        claims: &[
            Claim::Refused { file: "networking/reviews.yaml", line: 12, field: "subsett", fix: "subset" },
            share(Visitor::Anybody, "v2", 1.0),
            Claim::AllSucceed,
        ],
    },
    Step {
        folder: "8-ratings-outside",
        title: "ratings runs already, on a machine outside the cluster: a WorkloadEntry, with a sidecar of its own",
        restores: &[],
        awaits_ratings: Some(OUTSIDE),
        rate: 120,
        pages: 360,
        claims: &[Claim::RatingsFromOutside, share(Visitor::Anybody, "v2", 1.0), Claim::AllSucceed],
    },
];

/// A claim beside what was seen.
#[derive(Debug)]
pub struct Verdict {
    /// What was asked for.
    pub wanted: String,
    /// What was seen.
    pub seen: String,
    /// Whether they agree.
    pub agrees: bool,
}

impl Claim {
    /// Judges a window of traffic and the control plane's log since the edit.
    pub fn judge(self, window: &Window, control_plane_log: &str) -> Verdict {
        match self {
            Self::Share { visitor, version, wanted } => judge_share(window, visitor, version, wanted),
            Self::AllSucceed => judge_success(window),
            Self::RatingsTimeOut { after } => judge_timeout(window, after),
            Self::RatingsFromOutside => judge_outside(window),
            Self::Refused { file, line, field, fix } => {
                judge_refusal(control_plane_log, file, line, field, fix)
            }
        }
    }
}

fn judge_share(window: &Window, visitor: Visitor, version: &str, wanted: f64) -> Verdict {
    let (all, some) = window.reviews_of(visitor, version);
    let bounds = binomial::bounds(all, wanted);
    let percent = |count: u64| if all == 0 { 0.0 } else { 100.0 * count as f64 / all as f64 };
    Verdict {
        wanted: format!(
            "{}: {:.0}% {version} ({:.1}–{:.1}%)",
            visitor.name(),
            wanted * 100.0,
            percent(*bounds.start()),
            percent(*bounds.end())
        ),
        seen: format!("{:.1}% of {all}", percent(some)),
        agrees: all > 0 && bounds.contains(&some),
    }
}

fn judge_success(window: &Window) -> Verdict {
    let failed: Vec<String> = window
        .edges
        .iter()
        .filter(|(_, seen)| seen.succeeded < seen.total)
        .map(|((from, to), seen)| format!("{from} → {to} {:?}", seen.statuses))
        .collect();
    let seen = if failed.is_empty() { format!("{} pages", window.pages) } else { failed.join(", ") };
    Verdict { wanted: "every call succeeds".to_owned(), seen, agrees: failed.is_empty() && window.pages > 0 }
}

fn judge_timeout(window: &Window, after: Duration) -> Verdict {
    let wanted = format!("ratings: 504 after {after:?}; every page succeeds");
    let edge = |from: &str, to: &str| window.edges.get(&(from.to_owned(), to.to_owned()));
    let (Some(ratings), Some(page)) = (edge("reviews", "ratings"), edge("gateway", "productpage")) else {
        return Verdict { wanted, seen: "no call of ratings".to_owned(), agrees: false };
    };
    let (fastest, slowest) = (ratings.quantile(0.0), ratings.quantile(1.0));
    // The histogram keeps two digits: allow its rounding below the deadline.
    let on_time = fastest >= after.mul_f64(0.99) && slowest <= after + TIMEOUT_SLACK;
    let all_cut = ratings.statuses.keys().eq([&504]);
    Verdict {
        wanted,
        seen: format!(
            "statuses {:?} in {:.2}–{:.2} s",
            ratings.statuses,
            fastest.as_secs_f64(),
            slowest.as_secs_f64()
        ),
        agrees: on_time && all_cut && page.succeeded == page.total,
    }
}

fn judge_outside(window: &Window) -> Verdict {
    let versions = window.ratings_versions();
    Verdict {
        wanted: format!("ratings: 100% {OUTSIDE}"),
        seen: format!("{versions:?}"),
        agrees: versions.keys().eq([OUTSIDE]),
    }
}

fn judge_refusal(log: &str, file: &str, line: u32, field: &str, fix: &str) -> Verdict {
    let place = format!("{file}:{line}");
    let lines: Vec<&str> = log.lines().collect();
    let found = lines.iter().position(|text| text.contains(&place) && text.contains(field));
    // The fix stands on the finding's line or on the next one.
    let says_fix =
        |index: usize| lines[index..].iter().take(2).any(|text| text.replace(field, "").contains(fix));
    Verdict {
        wanted: format!("{place} refused, naming `{field}` and `{fix}`"),
        // From the file's name on: what stands before it is the log's own.
        seen: found
            .map_or("no such line", |index| &lines[index][lines[index].find(file).unwrap_or(0)..])
            .to_owned(),
        agrees: found.is_some_and(says_fix),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_files_and_its_refusal_names_the_broken_line() {
        let stories = crate::root().join("deploy/samples/bookinfo-story");
        for step in &STORY {
            assert!(stories.join(step.folder).is_dir(), "{}", step.folder);
            for claim in step.claims {
                if let Claim::Refused { file, line, field, .. } = claim {
                    let text =
                        std::fs::read_to_string(stories.join(step.folder).join(file)).expect("readable");
                    let broken = text.lines().nth(*line as usize - 1).expect("that many lines");
                    assert!(broken.contains(field), "{broken}");
                }
            }
        }
    }

    #[test]
    fn an_empty_window_proves_nothing() {
        let window = Window::open();
        for claim in STORY.iter().flat_map(|step| step.claims) {
            assert!(!claim.judge(&window, "").agrees, "{claim:?}");
        }
    }

    #[test]
    fn a_refusal_needs_place_field_and_fix() {
        let log =
            "networking/reviews.yaml:12:9: error: unknown field `subsett`\n    fix: did you mean `subset`?\n";
        assert!(judge_refusal(log, "networking/reviews.yaml", 12, "subsett", "subset").agrees);
        assert!(
            !judge_refusal(
                "networking/reviews.yaml:12: `subsett`",
                "networking/reviews.yaml",
                12,
                "subsett",
                "subset"
            )
            .agrees
        );
        assert!(!judge_refusal(log, "networking/reviews.yaml", 11, "subsett", "subset").agrees);
    }
}
