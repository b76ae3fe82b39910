//! Protobuf messages as text, without their types: one line for each value, named by the numbers of its fields. So what
//! one proxy sends and the other does not shows also where our own types leave it out.

use std::fmt::Write as _;

/// The values of a message, in order of the wire; `path` names the message.
pub fn lines(path: &str, bytes: &[u8]) -> Vec<String> {
    let mut out = Vec::new();
    if !message(path, bytes, &mut out) {
        out.push(format!("{path} = {} bytes that are no message", bytes.len()));
    }
    out
}

/// The submessages of a field of a message.
pub fn field(bytes: &[u8], number: u64) -> Vec<&[u8]> {
    let mut rest = bytes;
    let mut found = Vec::new();
    while let Some((field, value)) = next(&mut rest) {
        if let Value::Bytes(bytes) = value
            && field == number
        {
            found.push(bytes);
        }
    }
    found
}

enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

fn message(path: &str, bytes: &[u8], out: &mut Vec<String>) -> bool {
    let mut rest = bytes;
    let mut own = Vec::new();
    while !rest.is_empty() {
        let Some((field, value)) = next(&mut rest) else { return false };
        let path = if path.is_empty() { field.to_string() } else { format!("{path}.{field}") };
        match value {
            Value::Varint(value) => own.push(format!("{path} = {value}")),
            Value::Fixed64(value) => own.push(format!("{path} = {value} (64 bits)")),
            Value::Fixed32(value) => own.push(format!("{path} = {value} (32 bits)")),
            Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
                // Tags and lengths of messages are control characters, mostly.
                Ok(text) if !text.contains(|c: char| c.is_control()) => {
                    own.push(format!("{path} = {text:?}"))
                }
                _ if message(&path, bytes, &mut own) => {}
                Ok(text) => own.push(format!("{path} = {text:?}")),
                Err(_) => own.push(format!("{path} = {}", hex(bytes))),
            },
        }
    }
    out.extend(own);
    true
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn next<'a>(rest: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let tag = varint(rest)?;
    let value = match tag & 7 {
        0 => Value::Varint(varint(rest)?),
        1 => Value::Fixed64(u64::from_le_bytes(take(rest, 8)?.try_into().ok()?)),
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            Value::Bytes(take(rest, length)?)
        }
        5 => Value::Fixed32(u32::from_le_bytes(take(rest, 4)?.try_into().ok()?)),
        _ => return None,
    };
    Some((tag >> 3, value)).filter(|(field, _)| *field > 0)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *take(rest, 1)?.first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_shown_by_the_numbers_of_its_fields() {
        let bytes =
            [0x08, 0x96, 0x01, 0x12, 0x03, b'a', b'b', b'c', 0x1a, 0x02, 0x08, 0x01, 0x25, 1, 0, 0, 0];
        assert_eq!(lines("", &bytes), ["1 = 150", "2 = \"abc\"", "3.1 = 1", "4 = 1 (32 bits)"]);
        assert_eq!(field(&bytes, 3), [[0x08, 0x01]]);
    }

    #[test]
    fn what_is_no_message_is_said_to_be_none() {
        assert_eq!(lines("1", &[0x12, 0x09]), ["1 = 2 bytes that are no message"]);
    }
}
