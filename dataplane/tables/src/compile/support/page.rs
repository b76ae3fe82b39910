//! The table of fields as a page of the documentation.

use std::fmt::Write;

use super::{AnyRule, Message, Rule, messages};

/// Markdown: one section per message, one row per field.
pub fn page() -> String {
    let mut out = String::from(PREFACE);
    for message in messages() {
        // Writing to a String cannot fail.
        let _ = write!(out, "\n## `{}`\n\n", message.name);
        if message.fields.is_empty() {
            out.push_str("No fields.\n");
            continue;
        }
        out.push_str("| field | | |\n| --- | --- | --- |\n");
        for row in message.fields {
            let (verdict, note) = verdict(&row.rule);
            let _ = writeln!(out, "| `{}` | {verdict} | {note} |", row.name);
        }
    }
    out
}

const PREFACE: &str = "# Envoy fields that ringsail-proxy honours

Generated from `dataplane/tables/src/compile/support`; a test keeps it equal. *Supported* fields do what Envoy
documents, and values that cannot be honoured are refused with the path of the field. *Ignored* fields have no effect,
for the reason given. A resource with a *refused* field, or with a field that is not listed, is answered with a NACK
that names the field; its last good version serves on.
";

fn verdict(rule: &Rule) -> (&'static str, String) {
    match rule {
        Rule::Supported => ("supported", String::new()),
        Rule::Message(message) | Rule::Repeated(message) => ("supported", format!("as `{}`", message.name)),
        Rule::Any(types) | Rule::MapOfAny(types) => {
            let each: Vec<String> = types.0.iter().map(|(name, rule)| any_type(name, rule)).collect();
            ("by type", each.join("; "))
        }
        Rule::Ignored(reason) => ("ignored", (*reason).to_owned()),
        Rule::Refused(reason) => ("refused", (*reason).to_owned()),
        Rule::RefusedUnlessZero(reason) => ("refused unless zero", (*reason).to_owned()),
    }
}

fn any_type(name: &str, rule: &AnyRule) -> String {
    match rule {
        AnyRule::Message(Message { name, .. }) => format!("`{name}`"),
        AnyRule::Ignored(reason) => format!("`{name}` ignored: {reason}"),
        AnyRule::Refused(reason) => format!("`{name}` refused: {reason}"),
    }
}
