//! Where ringsail-proxy answers otherwise than Envoy on purpose.

/// A case that is meant to differ.
pub struct Difference {
    /// The [`crate::case::Case`]'s id.
    pub case: &'static str,
    /// Why ours is the better answer.
    pub reason: &'static str,
}

/// Every intended difference; a case listed here that agrees again fails the test, so that none outlives its reason.
pub const DIFFERENCES: &[Difference] = &[
    Difference {
        case: "chunked-answer",
        reason: "chunks are passed on as they come instead of being joined",
    },
    Difference {
        case: "reason-phrase",
        reason: "between HTTP/1 sides the reason phrase travels as it came; Envoy writes one of its own",
    },
    Difference {
        case: "post-chunked",
        reason: "`transfer-encoding` keeps its place among the fields; Envoy moves it to their end",
    },
    Difference { case: "trailers-kept", reason: "`transfer-encoding` keeps its place, as in `post-chunked`" },
    Difference { case: "mirror-chunks", reason: "`transfer-encoding` keeps its place, as in `post-chunked`" },
    Difference {
        case: "obs-fold",
        reason: "a folded field is refused (RFC 9112 section 5.2): parsers disagree about where it ends",
    },
    Difference {
        case: "websocket-refused",
        reason: "an answer that refuses the upgrade is treated as any other: its own fields stay, hop-by-hop ones go",
    },
    Difference {
        case: "web-bad-base64",
        reason: "the request's head is on its way when its body is found bad; Envoy finds out first if both come at once",
    },
    Difference { case: "web-cut-base64", reason: "as `web-bad-base64`" },
    Difference {
        case: "h2-to-h1-connection-field",
        reason: "fields that an answer's `connection` names go no further than that connection (RFC 9110 section 7.6.1)",
    },
    Difference {
        case: "follow-without-path",
        reason: "the log line of a redirect that leads nowhere keeps the route that was taken; Envoy forgets it",
    },
    Difference {
        case: "follow-not-to-nowhere",
        reason: "the log line keeps its route, as in `follow-without-path`",
    },
];

/// A scenario that ringsail does not run yet; it is neither configured nor counted unless asked for (`--pending`).
pub struct Pending {
    /// The scenario's id; with `*` at its end, every id that begins so.
    pub case: &'static str,
    /// What is missing.
    pub missing: &'static str,
}

/// Everything that is known to be missing. Whoever builds it takes the line away.
pub const PENDING: &[Pending] = &[Pending {
    case: "log-operators-refused",
    missing: "times of a time zone, round-trip times, and how long a route takes to be found",
}];

/// What random requests leave out because it differs on purpose, or because chance would decide; with the reason.
pub const LEFT_OUT: &[(&str, &str)] = &[
    (
        "a second `host`",
        "answered with 400, as RFC 9112 section 3.2 demands; Envoy takes the first and passes both on",
    ),
    (
        "a backend that closes a reused connection on an idempotent request",
        "the request is sent once more on another connection (RFC 9110 section 9.2.2), as it may have met the end of \
         an idle connection; Envoy answers 503",
    ),
    (
        "`connection: close` and the received bytes where the proxy itself answers a request with a body",
        "the body is not read while nobody wants it, so that the answer ends the connection; Envoy reads ahead, and \
         when it has all of it, keeps the connection",
    ),
    (
        "`transfer-encoding` in an answer to HEAD whose length nobody told",
        "passed on as it came; Envoy announces chunks that never come",
    ),
    ("an `internal_address_config` without ranges", "nobody is internal; to Envoy the private ranges are"),
    ("paths of nothing but slashes", "`//` is merged to `/`; Envoy leaves two"),
    ("HEAD by a gRPC client", "the proxy's own answer has `content-length: 0`; Envoy's has none"),
    (
        "the timeout told to upstreams where a route has a `max_stream_duration`",
        "`x-envoy-expected-rq-timeout-ms` as on other routes; Envoy leaves it out, or sends `grpc-timeout`",
    ),
    ("`expect: 100-continue` without a body", "passed on; Envoy answers it, though nothing is to come"),
];

/// What `case` waits for, if it does.
pub fn pending(case: &str) -> Option<&'static str> {
    PENDING.iter().find(|pending| pending.names(case)).map(|pending| pending.missing)
}

impl Pending {
    /// Whether this names `case`.
    pub fn names(&self, case: &str) -> bool {
        match self.case.strip_suffix('*') {
            Some(start) => case.starts_with(start),
            None => case == self.case,
        }
    }
}

/// The reason why `case` may differ, if it may.
pub fn reason(case: &str) -> Option<&'static str> {
    DIFFERENCES.iter().find(|difference| difference.case == case).map(|difference| difference.reason)
}

/// The page `deploy/docs/differences.md`.
pub fn page() -> String {
    let mut page = String::from(
        "# Where ringsail-proxy differs from Envoy\n\n\
         Everything `cargo xtask conformance` compares is the same in both proxies, but for the scenarios below. The \
         page is generated from the list that the comparison itself uses: a scenario listed here that agrees again \
         fails the check, and so does one that differs and is not listed.\n\n\
         | scenario | what ringsail does and why |\n|---|---|\n",
    );
    for difference in DIFFERENCES {
        page.push_str(&format!("| `{}` | {} |\n", difference.case, difference.reason));
    }
    page.push_str(
        "\n## What random requests leave out\n\n| what | what ringsail does and why |\n|---|---|\n",
    );
    for (what, reason) in LEFT_OUT {
        page.push_str(&format!("| {what} | {reason} |\n"));
    }
    page.push_str(
        "\n## Not the same yet\n\nThese scenarios exist and do not agree; they run with `--pending` only.\n\n\
         | scenario | what is missing |\n|---|---|\n",
    );
    for pending in PENDING {
        page.push_str(&format!("| `{}` | {} |\n", pending.case, pending.missing));
    }
    page.push_str(&crate::stats::page());
    page
}
