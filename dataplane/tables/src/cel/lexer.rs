//! Words of an expression.

use super::CelError;

/// One word.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Name(String),
    String(String),
    Int(i64),
    Double(f64),
    /// An operator or bracket.
    Sign(&'static str),
}

/// Longer ones first.
const SIGNS: [&str; 24] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "!", "?", ":", "(", ")", "[", "]", ".", ",", "+", "-", "*",
    "/", "%", "{", "}",
];

/// All words with the byte each begins at.
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, CelError> {
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..) {
        let Some(first) = rest.chars().next() else { break };
        let start = at;
        if first.is_ascii_whitespace() {
            at += 1;
            continue;
        }
        let token = if first.is_ascii_alphabetic() || first == '_' {
            let len = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            let (name, after) = rest.split_at(len);
            if after.starts_with(['"', '\'']) {
                return Err(CelError { at, text: format!("{name}-prefixed strings are not supported") });
            }
            at += len;
            Token::Name(name.to_owned())
        } else if first.is_ascii_digit() {
            let (token, len) = number(rest).map_err(|text| CelError { at, text })?;
            at += len;
            token
        } else if first == '"' || first == '\'' {
            let (string, len) = string(rest, first).map_err(|text| CelError { at, text })?;
            at += len;
            Token::String(string)
        } else {
            let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) else {
                return Err(CelError { at, text: format!("{first:?} has no meaning here") });
            };
            at += sign.len();
            Token::Sign(sign)
        };
        words.push((start, token));
    }
    Ok(words)
}

fn number(text: &str) -> Result<(Token, usize), String> {
    if text.starts_with("0x") || text.starts_with("0X") {
        return Err("hexadecimal numbers are not supported".to_owned());
    }
    let is_part = |(i, c): (usize, char)| {
        c.is_ascii_digit()
            || c == '.'
            || matches!(c, 'e' | 'E')
            || (matches!(c, '+' | '-') && text[..i].ends_with(['e', 'E']))
    };
    let len = text.char_indices().find(|part| !is_part(*part)).map_or(text.len(), |(i, _)| i);
    let digits = &text[..len];
    if digits.contains(['.', 'e', 'E']) {
        let value = digits.parse().map_err(|_| format!("{digits:?} is no number"))?;
        return Ok((Token::Double(value), len));
    }
    let value = digits.parse().map_err(|_| format!("{digits:?} is no number of 64 bits"))?;
    // `u` marks unsigned numbers, which are no type of their own here.
    let suffix = usize::from(text[len..].starts_with(['u', 'U']));
    Ok((Token::Int(value), len + suffix))
}

/// The string that begins with `quote`, and its length in the text.
fn string(text: &str, quote: char) -> Result<(String, usize), String> {
    if text.get(1..3).is_some_and(|next| next.chars().all(|c| c == quote)) {
        return Err("strings in three quotes are not supported".to_owned());
    }
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((i, c)) = chars.next() {
        match c {
            c if c == quote => return Ok((value, i + 1)),
            '\\' => {
                let escaped = chars.next().map(|(_, c)| c);
                value.push(match escaped {
                    Some(c @ ('\\' | '\'' | '"' | '`' | '?')) => c,
                    Some('n') => '\n',
                    Some('r') => '\r',
                    Some('t') => '\t',
                    Some(other) => return Err(format!("the escape \\{other} is not supported")),
                    None => break,
                });
            }
            '\n' | '\r' => break,
            c => value.push(c),
        }
    }
    Err("the string does not end".to_owned())
}
