//! Configuration text, JSON or YAML, to one tree of values; and back from a value to its line.
//!
//! JSON is read by `serde_json`, which is fast and knows lines only for its own errors. YAML (which includes JSON) is
//! read into a tree with positions. So a position costs nothing until there is an error to report: then the text is
//! read once more, as YAML.

use std::collections::HashMap;
use std::fmt;

use ringsail_xds::json::Step;
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};
use serde_json::{Map, Number, Value};

use crate::limits::{YAML_DEPTH_MAX, YAML_NODES_MAX};

/// Where and why a document is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentError {
    /// Name of the file or flag it came from.
    pub origin: String,
    /// Line and column, from 1, where known.
    pub at: Option<(usize, usize)>,
    /// Path of the field, `static_resources.clusters[0].name`; empty if the text itself is broken.
    pub field: String,
    /// What is wrong.
    pub text: String,
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)?;
        if let Some((line, column)) = self.at {
            write!(f, ":{line}:{column}")?;
        }
        f.write_str(": ")?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.text)
    }
}

impl std::error::Error for DocumentError {}

/// Reads one document. `origin` names it in errors.
///
/// # Errors
/// When the text is neither JSON nor YAML, holds no or several documents, or names a key twice.
pub fn read(origin: &str, text: &str) -> Result<Value, DocumentError> {
    if text.trim_start().starts_with('{')
        && let Ok(value) = serde_json::from_str(text)
    {
        return Ok(value);
    }
    let tree = tree(text).map_err(|(marker, message)| DocumentError {
        origin: origin.to_string(),
        at: marker.map(position),
        field: String::new(),
        text: message,
    })?;
    Ok(tree.into_value())
}

/// Makes an error of a message that `text` does not hold as it should, with the line of the offending value.
pub fn error_at(origin: &str, text: &str, path: &[Step], message: String) -> DocumentError {
    let at = tree(text).ok().map(|tree| position(tree.nearest(path)));
    DocumentError {
        origin: origin.to_string(),
        at,
        field: ringsail_xds::json::path_text(path),
        text: message,
    }
}

fn position(marker: Marker) -> (usize, usize) {
    (marker.line(), marker.col() + 1)
}

type Failure = (Option<Marker>, String);

/// A value with the place where it begins.
#[derive(Clone)]
struct Tree {
    at: Marker,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Scalar(Value),
    List(Vec<Tree>),
    Map(Vec<(String, Marker, Tree)>),
}

impl Tree {
    fn into_value(self) -> Value {
        match self.kind {
            Kind::Scalar(value) => value,
            Kind::List(items) => items.into_iter().map(Tree::into_value).collect::<Vec<_>>().into(),
            Kind::Map(members) => Value::Object(
                members.into_iter().map(|(key, _, tree)| (key, tree.into_value())).collect::<Map<_, _>>(),
            ),
        }
    }

    /// Where the value at `path` begins, or the key that leads to it, or as far as the path goes.
    fn nearest(&self, path: &[Step]) -> Marker {
        let mut tree = self;
        let mut at = self.at;
        for step in path {
            let next = match (&tree.kind, step) {
                (Kind::Map(members), Step::Key(key)) => {
                    members.iter().find(|(name, _, _)| name == key).map(|(_, marker, tree)| (*marker, tree))
                }
                (Kind::List(items), Step::Index(index)) => items.get(*index).map(|tree| (tree.at, tree)),
                _ => None,
            };
            let Some((marker, inner)) = next else { break };
            (at, tree) = (marker, inner);
        }
        at
    }

    fn node_count(&self) -> usize {
        match &self.kind {
            Kind::Scalar(_) => 1,
            Kind::List(items) => 1 + items.iter().map(Tree::node_count).sum::<usize>(),
            Kind::Map(members) => 1 + members.iter().map(|(_, _, tree)| tree.node_count()).sum::<usize>(),
        }
    }
}

/// Reads the only document of a text.
fn tree(text: &str) -> Result<Tree, Failure> {
    bounded_tree(text, YAML_NODES_MAX)
}

fn bounded_tree(text: &str, nodes_max: usize) -> Result<Tree, Failure> {
    let mut reader =
        Reader { events: Parser::new_from_str(text), anchors: HashMap::new(), node_count: 0, nodes_max };
    let mut found = None;
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamEnd => break,
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
            event if found.is_none() => found = Some(reader.value(event, span, 0)?),
            _ => {
                return Err((Some(span.start), "a second document begins here: one is expected".to_string()));
            }
        }
    }
    found.ok_or((None, "is empty".to_string()))
}

struct Reader<'t> {
    events: Parser<'t, saphyr_parser::StrInput<'t>>,
    anchors: HashMap<usize, Tree>,
    node_count: usize,
    nodes_max: usize,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), Failure> {
        match self.events.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err((Some(*error.marker()), error.info().to_string())),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn value(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Tree, Failure> {
        let at = span.start;
        self.count(1, at)?;
        if depth > YAML_DEPTH_MAX {
            return Err((Some(at), format!("is nested deeper than {YAML_DEPTH_MAX} levels")));
        }
        let (anchor, kind) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                (anchor, Kind::Scalar(scalar(&text, style, tag.as_deref())))
            }
            Event::SequenceStart(anchor, _) => (anchor, Kind::List(self.list(depth)?)),
            Event::MappingStart(anchor, _) => (anchor, Kind::Map(self.map(depth)?)),
            Event::Alias(anchor) => {
                let Some(tree) = self.anchors.get(&anchor) else {
                    return Err((Some(at), "the alias names nothing".to_string()));
                };
                // Counted before it is copied.
                self.count(tree.node_count(), at)?;
                return Ok(self.anchors[&anchor].clone());
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => return Err((Some(at), "a value is missing".to_string())),
        };
        let tree = Tree { at, kind };
        // 0 means that there is no anchor.
        if anchor != 0 {
            self.anchors.insert(anchor, tree.clone());
        }
        Ok(tree)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Tree>, Failure> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, span) => items.push(self.value(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<(String, Marker, Tree)>, Failure> {
        let mut members: Vec<(String, Marker, Tree)> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            let key = match event {
                Event::MappingEnd => return Ok(members),
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err((Some(span.start), "a key must be a plain string".to_string())),
            };
            if members.iter().any(|(name, _, _)| *name == key) {
                return Err((Some(span.start), format!("{key:?} is there twice")));
            }
            let (event, value_span) = self.next()?;
            let value = self.value(event, value_span, depth + 1)?;
            members.push((key, span.start, value));
        }
    }

    fn count(&mut self, more: usize, at: Marker) -> Result<(), Failure> {
        self.node_count = self.node_count.saturating_add(more);
        if self.node_count > self.nodes_max {
            return Err((Some(at), format!("has more than {} values", self.nodes_max)));
        }
        Ok(())
    }
}

/// The value of a scalar by YAML's core schema.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    let is_string = style != ScalarStyle::Plain || tag.is_some_and(|tag| tag.suffix == "str");
    if is_string {
        return Value::String(text.to_string());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    number(text).map_or_else(|| Value::String(text.to_string()), Value::Number)
}

fn number(text: &str) -> Option<Number> {
    // Rust reads "inf" and "nan" as numbers; YAML writes them with a dot, and protobuf's JSON as strings.
    let starts_as_number =
        text.trim_start_matches(['-', '+']).starts_with(|first: char| first.is_ascii_digit() || first == '.');
    if !starts_as_number {
        return None;
    }
    let unsigned = |digits: &str, radix| u64::from_str_radix(digits, radix).ok().map(Number::from);
    if let Some(digits) = text.strip_prefix("0x") {
        return unsigned(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return unsigned(digits, 8);
    }
    let integer = text.strip_prefix('+').unwrap_or(text);
    if let Ok(value) = integer.parse::<i64>() {
        return Some(value.into());
    }
    if let Ok(value) = integer.parse::<u64>() {
        return Some(value.into());
    }
    Number::from_f64(text.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn failure(text: &str) -> String {
        read("f.yaml", text).expect_err("is wrong").to_string()
    }

    #[test]
    fn yaml_and_json_give_the_same_values() {
        let yaml =
            "a: [1, -2, 0.5, 1e3, 0x10]\nb: {c: true, d: ~, e: 'true', f: \"1\", g: 1.5s, h: 10.0.0.1}\n";
        let json =
            r#"{"a":[1,-2,0.5,1e3,16],"b":{"c":true,"d":null,"e":"true","f":"1","g":"1.5s","h":"10.0.0.1"}}"#;
        assert_eq!(read("", yaml).expect("yaml"), read("", json).expect("json"));
    }

    #[test]
    fn anchors_are_expanded() {
        let value = read("", "a: &x {b: 1}\nc: [*x, *x]").expect("valid");
        assert_eq!(value, json!({"a": {"b": 1}, "c": [{"b": 1}, {"b": 1}]}));
    }

    #[test]
    fn aliases_cannot_blow_a_small_file_up() {
        let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_string();
        for level in 1..12 {
            let inner = vec![format!("*a{}", level - 1); 10].join(",");
            text.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
        }
        let (_, error) = bounded_tree(&text, 10_000).err().expect("bounded");
        assert_eq!(error, "has more than 10000 values");
    }

    #[test]
    fn broken_text_is_reported_with_its_line() {
        assert!(failure("a: 1\nb: [1,\n").starts_with("f.yaml:"));
        assert_eq!(failure("a: 1\na: 2\n"), "f.yaml:2:1: \"a\" is there twice");
        assert_eq!(failure(""), "f.yaml: is empty");
        assert!(failure("a: 1\n---\nb: 1\n").contains("second document"));
    }

    #[test]
    fn a_field_is_found_again_in_the_text() {
        let text = "static_resources:\n  clusters:\n  - name: a\n  - name: b\n    typo: 1\n";
        let path = [
            Step::Key("static_resources".to_string()),
            Step::Key("clusters".to_string()),
            Step::Index(1),
            Step::Key("typo".to_string()),
        ];
        assert_eq!(
            error_at("f", text, &path, "is no field".to_string()).to_string(),
            "f:5:5: static_resources.clusters[1].typo: is no field"
        );
        // In JSON as well, and a missing last step points at what holds it.
        let json = "{\n \"static_resources\": {\n  \"clusters\": []}}";
        assert_eq!(error_at("f", json, &path, "x".to_string()).at, Some((3, 3)));
    }
}
