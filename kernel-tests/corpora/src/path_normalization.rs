//! Request paths and what the backend must see.
//!
//! `istio.json` has a mode of Istio's `pathNormalization` per case; `envoy.json` has single steps.

use std::path::Path;

use anyhow::{Context, Result, bail};
use ringsail_http::path::{
    EscapedSlashes, Fragment, Normalization, Outcome, canonicalize, merge, unescape, without_query,
};
use serde_json::Value;

use crate::report::Report;

/// Runs `DIR/istio.json` and `DIR/envoy.json`.
pub fn run(dir: &Path) -> Result<Report> {
    let mut report = Report::new("path-normalization");
    for case in cases(&dir.join("istio.json"))? {
        let mode = text(&case, "normalization")?;
        let expected = match case["status"].as_u64() {
            Some(200) | None => format!("{:?}", text(&case, "out")?),
            Some(status) => status.to_string(),
        };
        let ours = normalized(normalization(mode)?, text(&case, "in")?);
        compare(&mut report, text(&case, "id")?, ours, expected);
    }
    for case in cases(&dir.join("envoy.json"))? {
        let (op, path) = (text(&case, "op")?, text(&case, "in")?);
        let expected = match (case["out"].as_str(), case["found"].as_bool()) {
            (Some(out), Some(found)) => format!("{out:?} found {found}"),
            (Some(out), None) => format!("{out:?}"),
            (None, _) => "refused".to_owned(),
        };
        compare(&mut report, &format!("{op} {path}"), step(op, path)?, expected);
    }
    Ok(report)
}

fn cases(path: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is no list of cases", path.display()))
}

fn text<'c>(case: &'c Value, key: &str) -> Result<&'c str> {
    case[key].as_str().with_context(|| format!("case without `{key}`: {case}"))
}

/// What istiod configures for a mode of `pathNormalization`.
fn normalization(mode: &str) -> Result<Normalization> {
    let fragment = Fragment::Strip;
    let base = Normalization { normalize: true, fragment, ..Normalization::default() };
    Ok(match mode {
        "NONE" => Normalization { fragment, ..Normalization::default() },
        "BASE" | "DEFAULT" => base,
        "MERGE_SLASHES" => Normalization { merge_slashes: true, ..base },
        "DECODE_AND_MERGE_SLASHES" => {
            Normalization { merge_slashes: true, escaped_slashes: EscapedSlashes::Forward, ..base }
        }
        other => bail!("unknown normalization {other}"),
    })
}

fn normalized(normalization: Normalization, path: &str) -> String {
    let mut out = Vec::new();
    match normalization.apply(path.as_bytes(), &mut out) {
        Outcome::Unchanged => format!("{path:?}"),
        Outcome::Changed => format!("{:?}", String::from_utf8_lossy(&out)),
        Outcome::Redirect => format!("redirect to {:?}", String::from_utf8_lossy(&out)),
        Outcome::Rejected => "400".to_owned(),
    }
}

/// One step of normalisation by itself.
fn step(op: &str, path: &str) -> Result<String> {
    let mut out = Vec::new();
    let shown = |out: &[u8]| format!("{:?}", String::from_utf8_lossy(out));
    Ok(match op {
        "canonicalize" if canonicalize(path.as_bytes(), &mut out) => shown(&out),
        "canonicalize" => "refused".to_owned(),
        "merge_slashes" => {
            out.extend_from_slice(path.as_bytes());
            merge(&mut out);
            shown(&out)
        }
        "remove_query_and_fragment" => shown(without_query(path.as_bytes())),
        "unescape_slashes" => {
            let found = unescape(path.as_bytes(), &mut out);
            format!("{} found {found}", shown(&out))
        }
        other => bail!("unknown operation {other}"),
    })
}

/// Every disagreement about a path is unsafe when we pass what must be refused.
fn compare(report: &mut Report, id: &str, ours: String, expected: String) {
    if ours == expected {
        report.agreed();
    } else if matches!(expected.as_str(), "400" | "refused") {
        report.unsafe_accept(id, ours, expected);
    } else {
        report.disagreed(id, ours, expected);
    }
}
