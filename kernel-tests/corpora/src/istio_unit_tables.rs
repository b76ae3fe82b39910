//! Small semantics of Istio as tables: the ones about names, labels and places, asked of the model.
//!
//! A table that no function of the project stands for is not counted: the figure is about the tables named in [`ask`].

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use ringsail_model::{Locality, host, labels};
use serde_json::Value;

use crate::report::Report;

/// Runs `DIR/tables.json`.
pub fn run(dir: &Path) -> Result<Report> {
    let mut report = Report::new("istio-unit-tables");
    let path = dir.join("tables.json");
    let text = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let tables: Vec<Value> = serde_json::from_slice(&text).context("no list of tables")?;
    let mut left = 0;
    for table in &tables {
        let name = table["test"].as_str().unwrap_or_default();
        for (index, case) in table["cases"].as_array().into_iter().flatten().enumerate() {
            let Some((ours, expected)) = ask(name, case) else {
                left += 1;
                continue;
            };
            if ours == expected {
                report.agreed();
            } else {
                report.disagreed(format!("{name}[{index}] {case}"), ours, expected);
            }
        }
    }
    println!("{left} cases of other tables are left aside");
    Ok(report)
}

/// Our answer to a case and the table's; `None` for tables that are about something else.
fn ask(table: &str, case: &Value) -> Option<(String, String)> {
    let text = |key: &str| case[key].as_str().unwrap_or_default().to_owned();
    let flag = |key: &str| case[key].as_bool().unwrap_or_default().to_string();
    Some(match table {
        // Hosts are in lower case by then.
        "TestNameMatches" => (host::overlaps(&text("a"), &text("b")).to_string(), flag("out")),
        "TestNameSubsetOf" => (host::is_subset_of(&text("a"), &text("b")).to_string(), flag("out")),
        "TestMostSpecificHostMatch" => {
            let known: Vec<&str> = case["in"].as_array()?.iter().filter_map(Value::as_str).collect();
            let find =
                |pattern: &str| known.iter().find(|name| **name == pattern).map(|name| (*name).to_owned());
            (host::most_specific(&text("needle"), find).unwrap_or_default(), text("want"))
        }
        "TestResolveShortnameToFQDN" => {
            let meta = |key: &str| case["meta"][key].as_str().unwrap_or_default();
            // A name without a namespace belongs to no object.
            if meta("Namespace").is_empty() {
                return None;
            }
            (host::resolve_short_name(&text("name"), meta("Namespace"), meta("Domain")), text("out"))
        }
        "TestInstance" => {
            let selector = labels(&case["left"]);
            let selects = labels::selects(&selector, &labels(&case["right"]));
            (selects.to_string(), case["expected"]["subsetOf"].as_bool().unwrap_or_default().to_string())
        }
        "TestLocalityMatch" => {
            let part = |key: &str| case["locality"][key].as_str().unwrap_or_default().to_owned();
            let own = Locality { region: part("Region"), zone: part("Zone"), subzone: part("SubZone") };
            (own.matches(&text("rule")).to_string(), flag("match"))
        }
        "TestConvertLocality" => {
            let own = Locality::parse(&text("locality"));
            let part = |key: &str| case["want"][key].as_str().unwrap_or_default();
            let wanted = [part("Region"), part("Zone"), part("SubZone")].join("/");
            ([own.region, own.zone, own.subzone].join("/"), wanted)
        }
        _ => return None,
    })
}

/// Labels as the tables write them, keys in quotes of their own.
fn labels(value: &Value) -> BTreeMap<String, String> {
    let entry = |(key, value): (&String, &Value)| {
        (key.trim_matches('"').to_owned(), value.as_str().unwrap_or_default().to_owned())
    };
    value.as_object().into_iter().flatten().map(entry).collect()
}
