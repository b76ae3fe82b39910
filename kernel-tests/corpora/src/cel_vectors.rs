//! Expressions of the CEL specification's own conformance tests.
//!
//! Our CEL is the part that telemetry needs: what it does not know it refuses when configuration is compiled, which is a
//! disagreement here. *Unsafe* is an expression that gets another value than the language gives it, or a value where
//! the language has none.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use ringsail_tables::Str;
use ringsail_tables::cel::{Attributes, Expression, Value};

use crate::report::Report;
use crate::textproto::{self, Message};

/// Runs every `*.textproto` of the folder.
pub fn run(dir: &Path) -> Result<Report> {
    let mut report = Report::new("cel-vectors");
    let mut files: Vec<_> = fs::read_dir(dir)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    for path in files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "textproto"))
    {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let file = textproto::parse(&text).with_context(|| path.display().to_string())?;
        let name = file.text("name").unwrap_or("?");
        for section in file.messages("section") {
            for test in section.messages("test") {
                let part = |message: &Message| message.text("name").unwrap_or("?").to_owned();
                judge(&mut report, &format!("{name}/{}/{}", part(section), part(test)), test);
            }
        }
    }
    Ok(report)
}

fn judge(report: &mut Report, id: &str, test: &Message) {
    let text = test.text("expr").unwrap_or_default();
    let id = format!("{id}: {text}");
    let expected = match test.messages("value").next() {
        Some(value) => show_expected(value),
        None if test.messages("eval_error").next().is_some() => FAILS.to_owned(),
        // A test without an outcome wants `true`.
        None => "bool true".to_owned(),
    };
    if test.text("container").is_some_and(|container| !container.is_empty()) {
        // A namespace that names are looked up in first; no configuration can give one.
        return report.disagreed(id, "no containers", expected);
    }
    let expression = match Expression::parse(text) {
        Ok(expression) => expression,
        Err(error) => return report.disagreed(id, format!("refused {error}"), expected),
    };
    let bindings = Bindings(test);
    let ours = expression.evaluate(&bindings).map_or_else(|_| FAILS.to_owned(), |value| show(&value));
    if ours == expected {
        report.agreed();
    } else if ours == FAILS {
        report.disagreed(id, ours, expected);
    } else {
        report.unsafe_accept(id, ours, expected);
    }
}

/// The outcome of an evaluation that has none.
const FAILS: &str = "fails";

/// A value of ours with its type. Unsigned integers are integers.
fn show(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => format!("bool {value}"),
        Value::Int(value) => format!("int {value}"),
        Value::Double(value) => format!("double {value}"),
        Value::String(text) => format!("string {text:?}"),
        Value::Duration(value) => format!("duration {value:?}"),
        Value::List(items) => format!("list [{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
        Value::Map(count) => format!("map of {count}"),
    }
}

/// The corpus' value in the same words; what we have no value for keeps its own.
fn show_expected(value: &Message) -> String {
    let Some((kind, _)) = value.first() else { return "nothing".to_owned() };
    let text = value.text(kind).unwrap_or_default();
    match kind {
        "null_value" => "null".to_owned(),
        "bool_value" => format!("bool {text}"),
        "int64_value" | "uint64_value" => format!("int {text}"),
        "double_value" => match text.parse::<f64>() {
            Ok(number) => format!("double {number}"),
            Err(_) => format!("double {text}"),
        },
        // A type's value is its name here.
        "string_value" | "type_value" => format!("string {text:?}"),
        "map_value" => {
            let entries = value.messages(kind).flat_map(|map| map.messages("entries"));
            format!("map of {}", entries.count())
        }
        "list_value" => {
            let items = value.messages(kind).flat_map(|list| list.messages("values")).map(show_expected);
            format!("list [{}]", items.collect::<Vec<_>>().join(", "))
        }
        other => other.to_owned(),
    }
}

/// A test's variables as attributes.
struct Bindings<'a>(&'a Message);

impl Attributes for Bindings<'_> {
    fn attribute(&self, path: &[Str]) -> Option<Value<'_>> {
        let name = path.iter().map(Str::as_str).collect::<Vec<_>>().join(".");
        let binding = self.0.messages("bindings").find(|binding| binding.text("key") == Some(&name))?;
        let value = binding.messages("value").next()?.messages("value").next()?;
        let (kind, _) = value.first()?;
        let text = value.text(kind)?;
        match kind {
            "bool_value" => text.parse().ok().map(Value::Bool),
            "int64_value" | "uint64_value" => text.parse().ok().map(Value::Int),
            "double_value" => text.parse().ok().map(Value::Double),
            "string_value" => Some(Value::text(text)),
            _ => None,
        }
    }
}
