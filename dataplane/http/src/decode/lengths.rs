//! The fields that decide where a message ends: Content-Length, Transfer-Encoding, Connection.

use crate::error::DecodeError;
use crate::head::Version;
use crate::hop::list_elements;

/// What the framing fields of one head say. Anything that two receivers could read differently is
/// an error (RFC 9112 §6.3, §11.2).
#[derive(Debug, Default)]
pub(crate) struct Lengths {
    pub(crate) content_length: Option<u64>,
    pub(crate) chunked: bool,
    close: bool,
    keep_alive: bool,
}

impl Lengths {
    /// Takes one field into account; fields of other names cost a length comparison.
    pub(crate) fn see(&mut self, name: &[u8], value: &[u8]) -> Result<(), DecodeError> {
        match name.len() {
            10 if name.eq_ignore_ascii_case(b"connection") => {
                for option in list_elements(value) {
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
                Ok(())
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = content_length(value).ok_or(DecodeError::ContentLength)?;
                if self.content_length.replace(length).is_some() {
                    return Err(DecodeError::ContentLength);
                }
                self.unambiguous()
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                let known = value.eq_ignore_ascii_case(b"chunked") && !self.chunked;
                self.chunked = true;
                self.unambiguous()?;
                if known { Ok(()) } else { Err(DecodeError::TransferEncoding) }
            }
            _ => Ok(()),
        }
    }

    /// Whether the sender keeps the connection open (RFC 9112 §9.3).
    pub(crate) fn persistent(&self, version: Version) -> bool {
        match version {
            Version::Http11 | Version::Http2 => !self.close,
            Version::Http10 => self.keep_alive && !self.close,
        }
    }

    fn unambiguous(&self) -> Result<(), DecodeError> {
        if self.chunked && self.content_length.is_some() {
            return Err(DecodeError::AmbiguousLength);
        }
        Ok(())
    }
}

/// One decimal number of at most 63 bits; no sign, list, or blank inside.
pub(crate) fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let length = value
        .iter()
        .try_fold(0u64, |n, digit| n.checked_mul(10)?.checked_add(u64::from(digit.wrapping_sub(b'0'))))?;
    i64::try_from(length).is_ok().then_some(length)
}
