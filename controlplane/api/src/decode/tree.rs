//! YAML text to a tree that remembers where every value stands.
//!
//! Anchors are resolved by sharing the anchored node, so an alias costs a pointer; what a walk over the
//! tree may visit is bounded all the same ([`NODE_COUNT_MAX`]). Merge keys (`<<`) are applied as
//! Kubernetes' YAML reader does: keys written beside them win.

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use crate::limits::{NODE_COUNT_MAX, NODE_DEPTH_MAX};

/// A place in the text; line and column count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Position {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// One value with its place.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) at: Position,
    /// Nodes a walk over this value visits, aliases followed.
    weight: usize,
    /// Levels below and including this one, aliases followed.
    height: usize,
}

/// A value as written.
#[derive(Debug)]
pub(crate) enum Value {
    Scalar(Scalar),
    List(Vec<Rc<Node>>),
    Map(Vec<Entry>),
}

/// One key with its value.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: Position,
    pub(crate) value: Rc<Node>,
}

/// What a scalar means by YAML's rules (1.1 booleans included, as Kubernetes' reader has them).
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    /// A plain word that YAML 1.1 reads as a boolean (`yes`, `on`, …), with the word.
    BoolWord(bool, String),
}

/// A document that cannot be read as YAML, or not within bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TreeError {
    pub(crate) at: Position,
    pub(crate) message: String,
    pub(crate) fix: Option<String>,
}

/// One document: its root, and keys that were written twice in one mapping.
pub(crate) struct Document {
    pub(crate) root: Rc<Node>,
    pub(crate) errors: Vec<TreeError>,
}

impl Node {
    /// The entry of that key, when this is a mapping that has it.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The value of that key, when this is a mapping that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Rc<Node>> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The text, when this is a scalar that means a string.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(Scalar::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// True for `null`, `~` and an empty value.
    pub(crate) fn is_null(&self) -> bool {
        matches!(self.value, Value::Scalar(Scalar::Null))
    }

    /// What the value is, for messages.
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
            Value::Scalar(Scalar::Null) => "nothing (null)".to_owned(),
            Value::Scalar(Scalar::Bool(value)) => format!("the boolean {value}"),
            Value::Scalar(Scalar::Integer(value)) => format!("the number {value}"),
            Value::Scalar(Scalar::Float(value)) => format!("the number {value}"),
            Value::Scalar(Scalar::Text(text)) => format!("the string {:?}", shorten(text)),
            Value::Scalar(Scalar::BoolWord(value, word)) => {
                format!("`{word}`, which YAML reads as the boolean {value}")
            }
        }
    }
}

fn shorten(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    if text.chars().count() <= CHARS_MAX {
        text.to_owned()
    } else {
        text.chars().take(CHARS_MAX).chain("…".chars()).collect()
    }
}

/// Reads the documents of `text`, whose first line is line `first_line` of the file.
pub(crate) fn parse(text: &str, first_line: u32) -> Result<Vec<Document>, TreeError> {
    let mut text = Cow::Borrowed(text);
    for _ in 0..DEDENTED_BRACKETS_MAX {
        match read(&text, first_line) {
            Ok(documents) => return Ok(documents),
            Err(ReadError::DedentedBracket(at)) => text.to_mut().insert_str(at, BRACKET_INDENT),
            Err(ReadError::Other(error)) => return Err(error),
        }
    }
    Err(TreeError {
        at: Position { line: first_line, column: 1 },
        message: format!(
            "more than {DEDENTED_BRACKETS_MAX} closing brackets are indented less than their content"
        ),
        fix: Some("indent `]` and `}` as far as the lines they close".to_owned()),
    })
}

/// Compat: Kubernetes' reader takes a closing bracket at the column of the key that opened it; the parser
/// refuses it when a quoted word stands first inside. Blanks before a closing bracket mean nothing, so
/// they are added and the text is read again, this many times at most.
const DEDENTED_BRACKETS_MAX: usize = 32;
const BRACKET_INDENT: &str = "                                        ";

enum ReadError {
    /// The byte offset of a closing bracket that is indented too little.
    DedentedBracket(usize),
    Other(TreeError),
}

impl From<TreeError> for ReadError {
    fn from(error: TreeError) -> Self {
        Self::Other(error)
    }
}

fn read(text: &str, first_line: u32) -> Result<Vec<Document>, ReadError> {
    let mut builder = Builder::new(first_line);
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => builder.event(event, span.start)?,
            Err(error) => {
                if error.info() == "invalid indentation"
                    && let Some((at, ']' | '}')) = text.char_indices().nth(error.marker().index())
                {
                    return Err(ReadError::DedentedBracket(at));
                }
                return Err(ReadError::Other(TreeError {
                    at: builder.position(*error.marker()),
                    message: format!("not valid YAML: {}", error.info()),
                    fix: indentation_hint(text, *error.marker()),
                }));
            }
        }
    }
    Ok(builder.documents)
}

/// Tabs are the one syntax error whose message never names its cause.
fn indentation_hint(text: &str, marker: Marker) -> Option<String> {
    let from = marker.line().saturating_sub(2);
    let tabbed = text
        .lines()
        .skip(from)
        .take(3)
        .any(|line| line.chars().take_while(|found| found.is_whitespace()).any(|found| found == '\t'));
    tabbed.then(|| "indent with spaces; YAML allows no tabs in indentation".to_owned())
}

/// A list or mapping that is being read.
struct Open {
    at: Position,
    anchor: usize,
    weight: usize,
    height: usize,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Rc<Node>>),
    Map { entries: Vec<Entry>, key: Option<(String, Position)> },
}

struct Builder {
    first_line: u32,
    stack: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
    errors: Vec<TreeError>,
    documents: Vec<Document>,
}

impl Builder {
    fn new(first_line: u32) -> Self {
        Self {
            first_line,
            stack: Vec::new(),
            anchors: HashMap::new(),
            errors: Vec::new(),
            documents: Vec::new(),
        }
    }

    fn position(&self, marker: Marker) -> Position {
        let line = u32::try_from(marker.line()).unwrap_or(u32::MAX);
        let column = u32::try_from(marker.col()).unwrap_or(u32::MAX);
        Position {
            line: line.saturating_add(self.first_line).saturating_sub(1),
            column: column.saturating_add(1),
        }
    }

    fn event(&mut self, event: Event<'_>, marker: Marker) -> Result<(), TreeError> {
        let at = self.position(marker);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                let is_key =
                    matches!(self.stack.last(), Some(Open { kind: OpenKind::Map { key: None, .. }, .. }));
                // Whatever a key looks like (`80`, `true`), it is text.
                let scalar = match is_key {
                    true => Scalar::Text(text.into_owned()),
                    false => resolve(&text, plain, tag.as_deref(), at)?,
                };
                let node = Rc::new(Node { value: Value::Scalar(scalar), at, weight: 1, height: 1 });
                self.finish(node, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.open(at, anchor, tag.as_deref(), OpenKind::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                self.open(at, anchor, tag.as_deref(), OpenKind::Map { entries: Vec::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.stack.pop() else { return Ok(()) };
                let value = match open.kind {
                    OpenKind::List(items) => Value::List(items),
                    OpenKind::Map { entries, .. } => Value::Map(self.merge(entries)?),
                };
                let node = Node { value, at: open.at, weight: open.weight, height: open.height + 1 };
                self.finish(Rc::new(node), open.anchor)
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(node) => self.finish(node, 0),
                None => Err(TreeError {
                    at,
                    message: "this alias stands inside the value it names".to_owned(),
                    fix: None,
                }),
            },
            Event::DocumentStart(_) => {
                self.anchors.clear();
                Ok(())
            }
            Event::DocumentEnd | Event::StreamStart | Event::StreamEnd | Event::Nothing => Ok(()),
        }
    }

    fn open(
        &mut self,
        at: Position,
        anchor: usize,
        tag: Option<&Tag>,
        kind: OpenKind,
    ) -> Result<(), TreeError> {
        if let Some(tag) = tag
            && !(tag.is_yaml_core_schema() && matches!(tag.suffix.as_str(), "map" | "seq"))
        {
            return Err(foreign_tag(tag, at));
        }
        if let Some(Open { kind: OpenKind::Map { key: None, .. }, .. }) = self.stack.last() {
            return Err(TreeError {
                at,
                message: "a list or mapping cannot be a key".to_owned(),
                fix: Some("quote values that start with `{` or `[`".to_owned()),
            });
        }
        if self.stack.len() >= NODE_DEPTH_MAX {
            return Err(too_deep(at));
        }
        self.stack.push(Open { at, anchor, weight: 1, height: 0, kind });
        Ok(())
    }

    fn finish(&mut self, node: Rc<Node>, anchor: usize) -> Result<(), TreeError> {
        if anchor > 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        let depth = self.stack.len() + node.height;
        if depth > NODE_DEPTH_MAX {
            return Err(too_deep(node.at));
        }
        let Some(open) = self.stack.last_mut() else {
            let errors = std::mem::take(&mut self.errors);
            self.documents.push(Document { root: node, errors });
            return Ok(());
        };
        open.height = open.height.max(node.height);
        open.weight = open.weight.saturating_add(node.weight);
        if open.weight > NODE_COUNT_MAX {
            return Err(TreeError {
                at: node.at,
                message: format!("more than {NODE_COUNT_MAX} values once aliases are expanded"),
                fix: None,
            });
        }
        match &mut open.kind {
            OpenKind::List(items) => items.push(node),
            OpenKind::Map { entries, key } => {
                let Some((key, at)) = key.take() else {
                    let Some(text) = node.text() else {
                        return Err(TreeError {
                            at: node.at,
                            message: "only a string can be a key".to_owned(),
                            fix: None,
                        });
                    };
                    *key = Some((text.to_owned(), node.at));
                    return Ok(());
                };
                entries.push(Entry { key, at, value: node });
            }
        }
        Ok(())
    }

    /// Applies `<<` and reports keys written twice; of those the first one stays.
    fn merge(&mut self, written: Vec<Entry>) -> Result<Vec<Entry>, TreeError> {
        let mut entries: Vec<Entry> = Vec::with_capacity(written.len());
        let mut index_by_key: HashMap<String, usize> = HashMap::with_capacity(written.len());
        let mut merged: Vec<Rc<Node>> = Vec::new();
        for entry in written {
            if entry.key == "<<" {
                match &entry.value.value {
                    Value::Map(_) => merged.push(Rc::clone(&entry.value)),
                    Value::List(items) => merged.extend(items.iter().cloned()),
                    Value::Scalar(_) => {
                        return Err(TreeError {
                            at: entry.at,
                            message: "`<<` merges mappings; this is a plain value".to_owned(),
                            fix: None,
                        });
                    }
                }
                continue;
            }
            if let Some(&index) = index_by_key.get(&entry.key) {
                let first = entries[index].at.line;
                self.errors.push(TreeError {
                    at: entry.at,
                    message: format!("`{}` stands twice in this mapping (first in line {first})", entry.key),
                    fix: Some("keep one of the two".to_owned()),
                });
                continue;
            }
            index_by_key.insert(entry.key.clone(), entries.len());
            entries.push(entry);
        }
        for node in merged {
            let Value::Map(more) = &node.value else {
                return Err(TreeError {
                    at: node.at,
                    message: "`<<` merges mappings; this is not one".to_owned(),
                    fix: None,
                });
            };
            for entry in more {
                if !index_by_key.contains_key(&entry.key) {
                    index_by_key.insert(entry.key.clone(), entries.len());
                    entries.push(Entry {
                        key: entry.key.clone(),
                        at: entry.at,
                        value: Rc::clone(&entry.value),
                    });
                }
            }
        }
        Ok(entries)
    }
}

fn too_deep(at: Position) -> TreeError {
    TreeError { at, message: format!("nested more than {NODE_DEPTH_MAX} levels deep"), fix: None }
}

fn foreign_tag(tag: &Tag, at: Position) -> TreeError {
    TreeError {
        at,
        message: format!("the YAML tag `{tag}` has no meaning here"),
        fix: Some("remove the tag".to_owned()),
    }
}

fn resolve(text: &str, plain: bool, tag: Option<&Tag>, at: Position) -> Result<Scalar, TreeError> {
    if let Some(tag) = tag {
        if tag.is_yaml_core_schema() && tag.suffix == "str" {
            return Ok(Scalar::Text(text.to_owned()));
        }
        // `!` alone forbids resolution; the other core types ask for what plain text means anyway.
        if tag.handle.is_empty() && tag.suffix == "!" {
            return Ok(Scalar::Text(text.to_owned()));
        }
        if tag.is_yaml_core_schema() && matches!(tag.suffix.as_str(), "int" | "float" | "bool" | "null") {
            return Ok(resolve_plain(text));
        }
        return Err(foreign_tag(tag, at));
    }
    Ok(if plain { resolve_plain(text) } else { Scalar::Text(text.to_owned()) })
}

fn resolve_plain(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "true" | "True" | "TRUE" => return Scalar::Bool(true),
        "false" | "False" | "FALSE" => return Scalar::Bool(false),
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
            return Scalar::BoolWord(true, text.to_owned());
        }
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            return Scalar::BoolWord(false, text.to_owned());
        }
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        _ => {}
    }
    if let Some(integer) = integer(text) {
        return Scalar::Integer(integer);
    }
    let numeric = text.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '+' | '-' | '.'))
        && text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E'))
        && text.bytes().any(|byte| byte.is_ascii_digit());
    match text.parse::<f64>() {
        Ok(value) if numeric => Scalar::Float(value),
        _ => Scalar::Text(text.to_owned()),
    }
}

/// Decimal, `0x`, `0o`, `0b` and YAML 1.1's leading-zero octal, with `_` between digits.
fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if !digits.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let digits = digits.replace('_', "");
    let value = if let Some(hex) = digits.strip_prefix("0x") {
        i128::from_str_radix(hex, 16).ok()?
    } else if let Some(octal) = digits.strip_prefix("0o") {
        i128::from_str_radix(octal, 8).ok()?
    } else if let Some(binary) = digits.strip_prefix("0b") {
        i128::from_str_radix(binary, 2).ok()?
    } else if digits.len() > 1 && digits.starts_with('0') {
        i128::from_str_radix(&digits, 8).ok()?
    } else {
        digits.parse().ok()?
    };
    Some(if negative { -value } else { value })
}
