//! The protobuf wire format, as far as finding fields needs it.

/// One field as it stands on the wire.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Field<'a> {
    pub(super) number: u32,
    pub(super) value: Value<'a>,
}

/// Its value.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Value<'a> {
    /// Varint and fixed-width kinds.
    Number(u64),
    /// Length-delimited kinds: strings, messages, packed lists.
    Bytes(&'a [u8]),
}

/// The bytes are no protobuf message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Malformed;

/// The fields of a message in order. Ends after the first error.
pub(super) fn fields(bytes: &[u8]) -> impl Iterator<Item = Result<Field<'_>, Malformed>> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let mut at = rest.filter(|rest| !rest.is_empty())?;
        match field(&mut at) {
            Some(field) => {
                rest = Some(at);
                Some(Ok(field))
            }
            None => {
                rest = None;
                Some(Err(Malformed))
            }
        }
    })
}

fn field<'a>(at: &mut &'a [u8]) -> Option<Field<'a>> {
    let key = varint(at)?;
    let number = u32::try_from(key >> 3).ok().filter(|number| *number != 0)?;
    let value = match key & 7 {
        0 => Value::Number(varint(at)?),
        1 => Value::Number(u64::from_le_bytes(*take(at, 8)?.first_chunk()?)),
        2 => {
            let len = usize::try_from(varint(at)?).ok()?;
            Value::Bytes(take(at, len)?)
        }
        5 => Value::Number(u64::from(u32::from_le_bytes(*take(at, 4)?.first_chunk()?))),
        // Groups are not part of proto3.
        _ => return None,
    };
    Some(Field { number, value })
}

fn varint(at: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = at.split_first()?;
        *at = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(at: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = at.split_at_checked(len)?;
    *at = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Result<Vec<Field<'_>>, Malformed> {
        fields(bytes).collect()
    }

    #[test]
    fn every_wire_type_of_proto3_is_read() {
        let bytes = [0x08, 0x96, 0x01, 0x12, 0x01, b'x', 0x1d, 1, 0, 0, 0, 0x21, 2, 0, 0, 0, 0, 0, 0, 0];
        let numbers: Vec<u32> = all(&bytes).unwrap().iter().map(|field| field.number).collect();
        assert_eq!(numbers, [1, 2, 3, 4]);
        assert_eq!(all(&bytes).unwrap()[0].value, Value::Number(150));
        assert_eq!(all(&bytes).unwrap()[1].value, Value::Bytes(b"x"));
    }

    #[test]
    fn truncation_at_every_byte_is_an_error_or_a_shorter_message() {
        let bytes = [0x12, 0x03, b'a', b'b', b'c'];
        assert!(all(&bytes[..0]).unwrap().is_empty());
        for len in 1..bytes.len() {
            assert_eq!(all(&bytes[..len]), Err(Malformed), "{len}");
        }
    }

    #[test]
    fn groups_and_field_zero_are_malformed() {
        for bytes in [&[0x0b][..], &[0x00, 0x00], &[0xff; 11]] {
            assert_eq!(all(bytes), Err(Malformed));
        }
    }
}
