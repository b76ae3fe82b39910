//! As much of protobuf's text format as corpora use: fields, messages, numbers, words and strings.
//!
//! Source: protobuf.dev, "Text Format Language Specification". Fields are kept by name and order, without a schema.

use anyhow::{Context, Result, bail};

/// A message: its fields in order.
#[derive(Debug, Default, PartialEq)]
pub struct Message(Vec<(String, Value)>);

/// A field's value.
#[derive(Debug, PartialEq)]
pub enum Value {
    /// A nested message.
    Message(Message),
    /// A number, an enum's name, or a boolean, as written.
    Word(String),
    /// A string or bytes, adjacent pieces joined.
    Bytes(Vec<u8>),
}

impl Message {
    /// Every value of the field `name`.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
        let name = name.to_owned();
        self.0.iter().filter(move |(field, _)| *field == name).map(|(_, value)| value)
    }

    /// The messages of the field `name`.
    pub fn messages<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Message> + use<'a> {
        self.all(name).filter_map(|value| match value {
            Value::Message(message) => Some(message),
            Value::Word(_) | Value::Bytes(_) => None,
        })
    }

    /// The text of the field `name`.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.all(name).next()? {
            Value::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            Value::Word(word) => Some(word),
            Value::Message(_) => None,
        }
    }

    /// The first field.
    pub fn first(&self) -> Option<(&str, &Value)> {
        self.0.first().map(|(name, value)| (name.as_str(), value))
    }
}

/// Reads a whole text.
///
/// # Errors
/// Names the byte at which it stops making sense.
pub fn parse(text: &str) -> Result<Message> {
    let mut reader = Reader { text: text.as_bytes(), at: 0 };
    let message = reader.message().with_context(|| format!("at byte {}", reader.at))?;
    if reader.at < text.len() {
        bail!("at byte {}: a bracket too many", reader.at);
    }
    Ok(message)
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    /// Fields up to a closing bracket, which is not taken, or the end.
    fn message(&mut self) -> Result<Message> {
        let mut fields = Vec::new();
        loop {
            while self.take(b',') || self.take(b';') {}
            match self.peek() {
                None | Some(b'}' | b'>') => return Ok(Message(fields)),
                Some(_) => {}
            }
            let name = self.name()?;
            self.take(b':');
            if self.take(b'[') {
                while !self.take(b']') {
                    let value = self.value()?;
                    fields.push((name.clone(), value));
                    self.take(b',');
                }
            } else {
                let value = self.value()?;
                fields.push((name, value));
            }
        }
    }

    /// A field's name, or an extension's or Any's in brackets.
    fn name(&mut self) -> Result<String> {
        if self.take(b'[') {
            let end =
                self.text[self.at..].iter().position(|byte| *byte == b']').context("`[` is not closed")?;
            let name = String::from_utf8_lossy(&self.text[self.at..self.at + end]).into_owned();
            self.at += end + 1;
            return Ok(name);
        }
        self.word()
    }

    fn value(&mut self) -> Result<Value> {
        match self.peek().context("a value is missing")? {
            open @ (b'{' | b'<') => {
                self.at += 1;
                let message = self.message()?;
                if !self.take(if open == b'{' { b'}' } else { b'>' }) {
                    bail!("a message is not closed");
                }
                Ok(Value::Message(message))
            }
            b'"' | b'\'' => {
                let mut bytes = Vec::new();
                while let Some(quote @ (b'"' | b'\'')) = self.peek() {
                    self.at += 1;
                    self.string(quote, &mut bytes)?;
                }
                Ok(Value::Bytes(bytes))
            }
            _ => self.word().map(Value::Word),
        }
    }

    fn word(&mut self) -> Result<String> {
        self.peek();
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+' | b'.');
        let length = self.text[self.at..].iter().position(|byte| !is_word(byte));
        let length = length.unwrap_or(self.text.len() - self.at);
        if length == 0 {
            bail!("{:?} is unexpected", char::from(self.text[self.at]));
        }
        let word = String::from_utf8_lossy(&self.text[self.at..self.at + length]).into_owned();
        self.at += length;
        Ok(word)
    }

    fn string(&mut self, quote: u8, bytes: &mut Vec<u8>) -> Result<()> {
        loop {
            match self.next().context("a string is not closed")? {
                byte if byte == quote => return Ok(()),
                b'\\' => self.escape(bytes)?,
                byte => bytes.push(byte),
            }
        }
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<()> {
        let plain = match self.next().context("a string is not closed")? {
            b'a' => 7,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            b'x' | b'X' => self.digits(16, 2)? as u8,
            b'0'..=b'7' => {
                self.at -= 1;
                self.digits(8, 3)? as u8
            }
            long @ (b'u' | b'U') => {
                let code = self.digits(16, if long == b'u' { 4 } else { 8 })?;
                let character = char::from_u32(code).context("an escape is no character")?;
                bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            other => other,
        };
        bytes.push(plain);
        Ok(())
    }

    /// A number of at most `most` digits.
    fn digits(&mut self, radix: u32, most: usize) -> Result<u32> {
        let mut number = 0;
        let mut taken = 0;
        while taken < most {
            let Some(digit) = self.text.get(self.at).and_then(|byte| char::from(*byte).to_digit(radix))
            else {
                break;
            };
            number = number * radix + digit;
            taken += 1;
            self.at += 1;
        }
        if taken == 0 {
            bail!("an escape without digits");
        }
        Ok(number)
    }

    /// The next byte that is neither blank nor comment; it is not taken.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.text.get(self.at)? {
                b'#' => while self.next().is_some_and(|byte| byte != b'\n') {},
                byte if byte.is_ascii_whitespace() => self.at += 1,
                byte => return Some(*byte),
            }
        }
    }

    fn take(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.text.get(self.at).copied()?;
        self.at += 1;
        Some(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_messages_lists_and_comments_are_read() {
        let message =
            parse("# hi\na: 1 b { c: 'x' \"y\\n\\101\" } b: <d: -2.5>, list: [1, 2] [t.x/A.b] { e: UP }")
                .unwrap();
        assert_eq!(message.text("a"), Some("1"));
        let inner: Vec<_> = message.messages("b").map(|inner| inner.text("c").or(inner.text("d"))).collect();
        assert_eq!(inner, [Some("xy\nA"), Some("-2.5")]);
        assert_eq!(message.all("list").count(), 2);
        assert_eq!(message.messages("t.x/A.b").next().and_then(|any| any.text("e")), Some("UP"));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in ["a", "a: {", "a: 'x", "}", "a: '\\x'", "a: ,"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
