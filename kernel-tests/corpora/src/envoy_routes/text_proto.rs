//! Protobuf's text format, as far as fuzzers' inputs need it: a tree of fields, and that tree as proto JSON by a
//! message's schema. Source: <https://protobuf.dev/reference/protobuf/textformat-spec/>.

use prost_reflect::{Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

/// The fields of a message in order.
pub(super) type Fields = Vec<(String, Node)>;

/// A value as written.
#[derive(Clone, Debug)]
pub(super) enum Node {
    /// A string, its escapes resolved; bytes that are no UTF-8 are replaced.
    Text(String),
    /// A number, boolean or enum word.
    Word(String),
    /// A message.
    Message(Fields),
}

/// Reads a message; `None` where the text does not follow the format.
pub(super) fn read(text: &str) -> Option<Fields> {
    let mut tokens = Tokens { rest: text };
    let fields = message(&mut tokens, 0)?;
    tokens.next().is_none().then_some(fields)
}

/// Deepest nesting that is read.
const DEPTH_MAX: u32 = 64;

fn message(tokens: &mut Tokens<'_>, depth: u32) -> Option<Fields> {
    let mut fields = Fields::new();
    loop {
        match tokens.clone().next() {
            None => return Some(fields),
            Some(Token::Mark('}')) => return Some(fields),
            Some(Token::Mark(';' | ',')) => {
                tokens.next();
            }
            Some(Token::Word(_) | Token::Text(_) | Token::Mark(_)) => {
                let Some(Token::Word(name)) = tokens.next() else { return None };
                let mut after = tokens.clone();
                if after.next() == Some(Token::Mark(':')) {
                    *tokens = after;
                }
                let node = value(tokens, depth)?;
                fields.push((name, node));
            }
        }
    }
}

fn value(tokens: &mut Tokens<'_>, depth: u32) -> Option<Node> {
    match tokens.next()? {
        Token::Mark('{') if depth < DEPTH_MAX => {
            let fields = message(tokens, depth + 1)?;
            (tokens.next()? == Token::Mark('}')).then_some(Node::Message(fields))
        }
        Token::Text(mut text) => {
            // Adjacent strings are one.
            while let Some(Token::Text(more)) = tokens.clone().next() {
                text.push_str(&more);
                tokens.next();
            }
            Some(Node::Text(text))
        }
        Token::Word(word) => Some(Node::Word(word)),
        Token::Mark(_) => None,
    }
}

#[derive(PartialEq, Debug)]
enum Token {
    Word(String),
    Text(String),
    Mark(char),
}

#[derive(Clone)]
struct Tokens<'a> {
    rest: &'a str,
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        self.rest = self.rest.trim_start();
        while self.rest.starts_with('#') {
            self.rest = self.rest.split_once('\n').map_or("", |(_, rest)| rest).trim_start();
        }
        let first = self.rest.chars().next()?;
        if first == '"' || first == '\'' {
            return self.text(first);
        }
        let is_word = |c: char| c.is_ascii_alphanumeric() || "_.-+/".contains(c);
        let len = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len()).max(first.len_utf8());
        let (token, rest) = self.rest.split_at(len);
        self.rest = rest;
        Some(if is_word(first) { Token::Word(token.to_owned()) } else { Token::Mark(first) })
    }
}

impl Tokens<'_> {
    fn text(&mut self, quote: char) -> Option<Token> {
        let mut bytes = Vec::new();
        let mut chars = self.rest.char_indices().skip(1).peekable();
        while let Some((at, c)) = chars.next() {
            if c == quote {
                self.rest = &self.rest[at + 1..];
                return Some(Token::Text(String::from_utf8_lossy(&bytes).into_owned()));
            }
            if c != '\\' {
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            let (_, escaped) = chars.next()?;
            match escaped {
                'n' => bytes.push(b'\n'),
                'r' => bytes.push(b'\r'),
                't' => bytes.push(b'\t'),
                '0'..='7' => {
                    let mut value = escaped as u32 - '0' as u32;
                    for _ in 0..2 {
                        let Some((_, digit)) = chars.next_if(|(_, c)| ('0'..='7').contains(c)) else { break };
                        value = value * 8 + (digit as u32 - '0' as u32);
                    }
                    bytes.push(value as u8);
                }
                other => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        None
    }
}

/// Proto JSON of a message. Fields the schema lacks are left out.
pub(super) fn to_json(fields: &Fields, schema: &MessageDescriptor) -> Value {
    let mut out = Map::new();
    for (name, node) in fields {
        let Some(field) = schema.get_field_by_name(name) else { continue };
        let value = node_json(node, &field.kind());
        if field.is_map() {
            let (key, value) = (value["key"].as_str().unwrap_or_default().to_owned(), value["value"].clone());
            let entries = out.entry(name.clone()).or_insert_with(|| json!({}));
            if let Some(entries) = entries.as_object_mut() {
                entries.insert(key, value);
            }
        } else if field.is_list() {
            let list = out.entry(name.clone()).or_insert_with(|| json!([]));
            if let Some(list) = list.as_array_mut() {
                list.push(value);
            }
        } else {
            out.insert(name.clone(), value);
        }
    }
    Value::Object(out)
}

fn node_json(node: &Node, kind: &Kind) -> Value {
    match (node, kind) {
        (Node::Message(fields), Kind::Message(schema)) => match schema.full_name() {
            "google.protobuf.Duration" => duration(fields),
            name if name.starts_with("google.protobuf.") && name.ends_with("Value") => {
                let inner = schema.get_field_by_name("value").map(|field| field.kind());
                match (fields.first(), inner) {
                    (Some((_, node)), Some(kind)) => node_json(node, &kind),
                    (None, Some(Kind::Bool)) => Value::Bool(false),
                    (None, Some(Kind::String)) => json!(""),
                    (_, _) => json!(0),
                }
            }
            _ => to_json(fields, schema),
        },
        (Node::Message(_), _) => Value::Null,
        (Node::Text(text), _) => Value::String(text.clone()),
        (Node::Word(word), Kind::Bool) => Value::Bool(matches!(word.as_str(), "true" | "1" | "t")),
        (Node::Word(word), Kind::Enum(_)) => match word.parse::<i32>() {
            Ok(number) => json!(number),
            Err(_) => json!(word),
        },
        (Node::Word(word), _) => serde_json::from_str(word).unwrap_or_else(|_| json!(word)),
    }
}

fn duration(fields: &Fields) -> Value {
    let number = |name: &str| {
        let found = fields.iter().find(|(n, _)| n == name);
        match found {
            Some((_, Node::Word(word))) => word.parse::<i64>().unwrap_or(0),
            Some((_, Node::Text(_) | Node::Message(_))) | None => 0,
        }
    };
    json!(format!("{}.{:09}s", number("seconds"), number("nanos").abs() % 1_000_000_000))
}
