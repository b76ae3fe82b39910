//! Numbers and addresses as text, without `core::fmt`: a line of Istio's default format has thirty of them, and they
//! were two thirds of what it cost.

use std::net::SocketAddr;

/// `u64::MAX` has as many.
const DIGITS_MAX: usize = 20;

/// Appends a number in decimal.
pub(super) fn push_number(number: u64, out: &mut Vec<u8>) {
    push_padded(number, 1, b'0', out);
}

/// Appends a number in decimal, filled up with `padding` to `width` bytes, of which there are at most 20.
pub(super) fn push_padded(number: u64, width: usize, padding: u8, out: &mut Vec<u8>) {
    let mut text = [padding; DIGITS_MAX];
    let mut rest = number;
    let mut len = 0;
    for slot in text.iter_mut().rev() {
        *slot = b'0' + (rest % 10) as u8;
        rest /= 10;
        len += 1;
        if rest == 0 {
            break;
        }
    }
    let start = DIGITS_MAX - len.max(width).min(DIGITS_MAX);
    out.extend_from_slice(text.get(start..).unwrap_or(&[]));
}

/// Appends an address with its port, as [`SocketAddr`] displays it.
pub(super) fn push_socket_address(address: &SocketAddr, out: &mut Vec<u8>) {
    match address {
        SocketAddr::V4(v4) => {
            for (i, octet) in v4.ip().octets().into_iter().enumerate() {
                if i > 0 {
                    out.push(b'.');
                }
                push_number(octet.into(), out);
            }
            out.push(b':');
            push_number(v4.port().into(), out);
        }
        // The rules of RFC 5952 are the standard library's business.
        SocketAddr::V6(v6) => out.extend_from_slice(v6.to_string().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn numbers_are_as_the_standard_library_shows_them() {
        for number in [0, 1, 9, 10, 99, 100, 12_345, u64::MAX / 10, u64::MAX] {
            assert_eq!(shown(|out| push_number(number, out)), number.to_string());
            assert_eq!(shown(|out| push_padded(number, 4, b'0', out)), format!("{number:04}"));
            assert_eq!(shown(|out| push_padded(number, 3, b' ', out)), format!("{number:3}"));
        }
        assert_eq!(shown(|out| push_padded(7, 20, b'0', out)), format!("{:020}", 7));
    }

    #[test]
    fn addresses_are_as_the_standard_library_shows_them() {
        for text in ["0.0.0.0:0", "127.0.0.1:8080", "255.255.255.255:65535", "[::1]:80", "[2001:db8::ff]:443"]
        {
            let address: SocketAddr = text.parse().expect("an address");
            assert_eq!(shown(|out| push_socket_address(&address, out)), text);
        }
    }
}
