//! The first message of a TLS client, as far as routing needs it: the server name and the application protocols it asks
//! for. Nothing is decrypted and nothing is verified. Source: RFC 8446 §4.1.2, RFC 6066 §3, RFC 7301 §3.1.

use std::borrow::Cow;

/// What a client asks for before anything is encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// Server name, lower case; empty when the client names none.
    pub server_name: String,
    /// Application protocols in the client's order.
    pub application_protocols: Vec<String>,
}

/// How far the bytes can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// They are part of a client hello.
    Incomplete,
    /// They are no client hello, whatever follows.
    Invalid,
    /// They begin with this one.
    Complete(ClientHello),
}

const RECORD_HANDSHAKE: u8 = 22;
const RECORD_HEADER_BYTES: usize = 5;
/// Longest payload of a plaintext record. Source: RFC 8446 §5.1.
const RECORD_BYTES_MAX: usize = 1 << 14;
const HANDSHAKE_CLIENT_HELLO: u8 = 1;
const HANDSHAKE_HEADER_BYTES: usize = 4;
const EXTENSION_SERVER_NAME: u16 = 0;
const EXTENSION_ALPN: u16 = 16;
const NAME_TYPE_HOST: u8 = 0;
/// Longest host name. Source: RFC 1035 §2.3.4.
const SERVER_NAME_BYTES_MAX: usize = 255;

/// Reads the client hello at the begin of a connection's bytes.
pub fn parse(bytes: &[u8]) -> Parsed {
    let (message, complete) = match handshake_bytes(bytes) {
        Ok(found) => found,
        Err(Broken) => return Parsed::Invalid,
    };
    let Some(header) = message.get(..HANDSHAKE_HEADER_BYTES) else {
        let is_hello = message.first().is_none_or(|kind| *kind == HANDSHAKE_CLIENT_HELLO);
        return if is_hello && !complete { Parsed::Incomplete } else { Parsed::Invalid };
    };
    if header[0] != HANDSHAKE_CLIENT_HELLO {
        return Parsed::Invalid;
    }
    let len = usize::from(header[1]) << 16 | usize::from(header[2]) << 8 | usize::from(header[3]);
    match message.get(HANDSHAKE_HEADER_BYTES..HANDSHAKE_HEADER_BYTES + len) {
        Some(body) => body_of(body).map_or(Parsed::Invalid, Parsed::Complete),
        None if complete => Parsed::Invalid,
        None => Parsed::Incomplete,
    }
}

/// Bytes that cannot be what they should be.
struct Broken;

/// The handshake bytes of the records that are here, joined; true when what follows them is no handshake record.
fn handshake_bytes(bytes: &[u8]) -> Result<(Cow<'_, [u8]>, bool), Broken> {
    let mut joined: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    let mut rest = bytes;
    loop {
        let Some((header, after)) = rest.split_at_checked(RECORD_HEADER_BYTES) else {
            return Ok((joined, rest.first().is_some_and(|kind| *kind != RECORD_HANDSHAKE)));
        };
        if header[0] != RECORD_HANDSHAKE {
            return Ok((joined, true));
        }
        let len = usize::from(u16::from_be_bytes([header[3], header[4]]));
        // A handshake record must carry something: RFC 8446 §5.1.
        if header[1] != 3 || len == 0 || len > RECORD_BYTES_MAX {
            return Err(Broken);
        }
        let here = len.min(after.len());
        if joined.is_empty() {
            joined = Cow::Borrowed(&after[..here]);
        } else {
            joined.to_mut().extend_from_slice(&after[..here]);
        }
        if here < len {
            return Ok((joined, false));
        }
        rest = &after[len..];
    }
}

fn body_of(body: &[u8]) -> Option<ClientHello> {
    let mut hello = ClientHello::default();
    let mut body = Reader(body);
    body.take(2 + 32)?;
    let _session = body.vector8()?;
    let _cipher_suites = body.vector16()?;
    let _compression = body.vector8()?;
    if body.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = Reader(body.vector16()?);
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let mut extension = Reader(extensions.vector16()?);
        match kind {
            EXTENSION_SERVER_NAME => {
                let mut names = Reader(extension.vector16()?);
                while !names.0.is_empty() {
                    let kind = names.u8()?;
                    let name = names.vector16()?;
                    if kind == NAME_TYPE_HOST && hello.server_name.is_empty() {
                        hello.server_name = host_name(name)?;
                    }
                }
            }
            EXTENSION_ALPN => {
                let mut protocols = Reader(extension.vector16()?);
                while !protocols.0.is_empty() {
                    let protocol = protocols.vector8()?;
                    hello.application_protocols.push(String::from_utf8_lossy(protocol).into_owned());
                }
            }
            _ => {}
        }
    }
    Some(hello)
}

fn host_name(name: &[u8]) -> Option<String> {
    let fits = !name.is_empty() && name.len() <= SERVER_NAME_BYTES_MAX;
    let visible = name.iter().all(u8::is_ascii_graphic);
    (fits && visible).then(|| String::from_utf8_lossy(name).to_ascii_lowercase())
}

/// Takes values from the front; `None` when there are not enough bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let len = self.u8()?;
        self.take(len.into())
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let len = self.u16()?;
        self.take(len.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(len_bytes: usize, content: &[u8]) -> Vec<u8> {
        let len = (content.len() as u32).to_be_bytes();
        [&len[4 - len_bytes..], content].concat()
    }

    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &vector(2, content)].concat()
    }

    fn server_name(name: &[u8]) -> Vec<u8> {
        let entry = [&[0][..], &vector(2, name)].concat();
        extension(0, &vector(2, &entry))
    }

    fn alpn(protocols: &[&[u8]]) -> Vec<u8> {
        let list: Vec<u8> = protocols.iter().flat_map(|name| vector(1, name)).collect();
        extension(16, &vector(2, &list))
    }

    fn message(extensions: &[u8]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend(vector(1, &[9; 32]));
        body.extend(vector(2, &[0x13, 0x01]));
        body.extend(vector(1, &[0]));
        body.extend(vector(2, extensions));
        [&[1][..], &vector(3, &body)].concat()
    }

    fn records(message: &[u8], piece: usize) -> Vec<u8> {
        message.chunks(piece).flat_map(|part| [&[22, 3, 1][..], &vector(2, part)].concat()).collect()
    }

    fn hello(name: &str, protocols: &[&str]) -> Parsed {
        Parsed::Complete(ClientHello {
            server_name: name.to_owned(),
            application_protocols: protocols.iter().map(|name| (*name).to_owned()).collect(),
        })
    }

    #[test]
    fn names_and_protocols_are_found_however_the_message_is_cut() {
        let extensions =
            [extension(43, &[2, 3, 4]), server_name(b"Shop.Example"), alpn(&[b"h2", b"http/1.1"])];
        let message = message(&extensions.concat());
        for piece in [1, 2, 3, 50, message.len()] {
            let bytes = records(&message, piece);
            assert_eq!(parse(&bytes), hello("shop.example", &["h2", "http/1.1"]), "records of {piece}");
            for end in 0..bytes.len() {
                assert_eq!(parse(&bytes[..end]), Parsed::Incomplete, "{end} of {} bytes", bytes.len());
            }
        }
    }

    #[test]
    fn what_follows_the_hello_is_nobodys_business() {
        let mut bytes = records(&message(&server_name(b"a")), 4000);
        bytes.extend(b"\x14\x03\x01\x00\x01\x01");
        assert_eq!(parse(&bytes), hello("a", &[]));
    }

    #[test]
    fn a_hello_without_extensions_asks_for_nothing() {
        let mut message = message(&[]);
        let shorter = message.len() - 2;
        message.truncate(shorter);
        message[3] -= 2;
        assert_eq!(parse(&records(&message, 4000)), hello("", &[]));
    }

    #[test]
    fn lengths_that_lie_are_refused_at_every_byte() {
        let good = records(&message(&[server_name(b"a.example"), alpn(&[b"h2"])].concat()), 4000);
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = good.clone();
                bytes[at] = value;
                // Any verdict is right, a panic is not.
                let _ = parse(&bytes);
            }
        }
        assert_eq!(parse(b"\x16\x03\x01\x40\x01\x01"), Parsed::Invalid, "longer than a record may be");
        assert_eq!(parse(b"\x16\x03\x01\x00\x00"), Parsed::Invalid, "an empty record");
        assert_eq!(parse(b"\x16\x03\x01\x00\x04\x02\x00\x00\x00"), Parsed::Invalid, "a server hello");
        assert_eq!(parse(b"\x16\x03\x01\x00\x02\x01\x00\x17\x03\x03"), Parsed::Invalid, "data inside");
        for name in [&b""[..], b"a\0b", b"a b", &[b'a'; 256]] {
            assert_eq!(parse(&records(&message(&server_name(name)), 4000)), Parsed::Invalid, "{name:?}");
        }
    }
}
