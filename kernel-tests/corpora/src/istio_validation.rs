//! `istio-validation`: objects that Istio's validating webhook accepts or refuses.
//!
//! `cases.json` holds specs with the wanted verdict, `crds/*.yaml` documents of which those with a
//! top-level `_err` must be refused. That an object asks for something ringsail does not enforce yet is
//! no verdict on its form, so findings of that kind are left aside here.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use ringsail_api::validate::UNENFORCED;
use ringsail_api::{Severity, decode};
use serde_json::{Value, json};

use crate::report::Report;

/// Name and namespace every case is given.
const NAME: &str = "foo";
const NAMESPACE: &str = "default";

/// Runs the corpus in `dir`.
pub fn run(dir: &Path) -> Result<Report> {
    let mut report = Report::new("istio-validation");
    let text = fs::read_to_string(dir.join("cases.json")).context("reading cases.json")?;
    let cases: Vec<Value> = serde_json::from_str(&text).context("cases.json is not a list of cases")?;
    for case in &cases {
        table_case(case, &mut report)?;
    }
    let mut files: Vec<_> = match fs::read_dir(dir.join("crds")) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(_) => Vec::new(),
    };
    files.sort();
    for file in files {
        let text = fs::read_to_string(&file)?;
        let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        for (index, document) in text.split("\n---").enumerate() {
            schema_document(&format!("{stem}#{index}"), document, &mut report);
        }
    }
    Ok(report)
}

fn table_case(case: &Value, report: &mut Report) -> Result<()> {
    let id = case["id"].as_str().context("a case has an id")?;
    let mut metadata = json!({ "name": NAME, "namespace": NAMESPACE });
    if let (Value::Object(metadata), Value::Object(extra)) = (&mut metadata, &case["metadata_extra"]) {
        metadata.extend(extra.clone());
    }
    let object = json!({
        "apiVersion": case["apiVersion"],
        "kind": case["kind"],
        "metadata": metadata,
        "spec": case["spec"],
    });
    let must_refuse = match case["expect"].as_str() {
        Some("accept") => false,
        Some("reject") => true,
        other => bail!("{id}: neither accept nor reject: {other:?}"),
    };
    let reason = case["error_contains"].as_str().unwrap_or("refused").to_owned();
    compare(id, &object.to_string(), must_refuse, &reason, report);
    Ok(())
}

fn schema_document(id: &str, document: &str, report: &mut Report) {
    let reason = document.lines().find_map(|line| line.strip_prefix("_err:"));
    let text: String =
        document.lines().filter(|line| !line.starts_with("_err:")).flat_map(|line| [line, "\n"]).collect();
    if text.trim().is_empty() {
        return;
    }
    compare(id, &text, reason.is_some(), reason.unwrap_or_default().trim(), report);
}

fn compare(id: &str, text: &str, must_refuse: bool, reason: &str, report: &mut Report) {
    let errors: Vec<String> = decode(text, id)
        .diagnostics
        .iter()
        .filter(|line| line.severity == Severity::Error && line.code != Some(UNENFORCED))
        .map(|line| format!("{}: {}", line.field_path, line.message))
        .collect();
    match (errors.is_empty(), must_refuse) {
        (true, false) | (false, true) => report.agreed(),
        (true, true) => report.unsafe_accept(id, "accepted", reason),
        (false, false) => report.disagreed(id, format!("refused: {}", errors.join("; ")), "accepted"),
    }
}
