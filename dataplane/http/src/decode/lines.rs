//! Collects the lines of a head or a trailer section, wherever reads happen to split them.
//!
//! ```text
//!            CRLF (bounded)
//!           ┌────┐
//!           ▼    │   other byte
//!         Leading ────────────────▶ Lines ── empty line ──▶ complete
//! ```
//!
//! Two rules make the verdict independent of the split: a line that breaks the CRLF rule is
//! reported only if everything before it was fine, and so is an exceeded size.

use crate::decode::parse::{Section, check_prefix};
use crate::error::DecodeError;
use crate::fields::Fields;
use crate::limits::{EAGER_CHECK_BYTES, LEADING_EMPTY_BYTES_MAX};

/// State between reads; the bytes themselves are in the arena of the head being decoded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines {
    /// A byte of the section was seen.
    started: bool,
    /// Bytes of empty lines skipped in front of the start line.
    leading: usize,
    /// Last byte of the previous read (0: none).
    last: u8,
    /// Bytes of the current line seen in previous reads.
    line_len: usize,
    /// Arena length at the last check of an incomplete section.
    checked: usize,
}

impl Lines {
    /// A trailer section: an empty line ends it even as the first line.
    pub(crate) fn trailers() -> Self {
        Self { started: true, ..Self::default() }
    }

    pub(crate) fn started(&self) -> bool {
        self.started
    }

    /// Takes input up to the end of the section into `fields`. `Some(consumed)` when the section
    /// is complete, `None` when all input was taken and more is needed.
    pub(crate) fn take(
        &mut self,
        input: &[u8],
        section: Section,
        bytes_max: usize,
        fields: &mut Fields,
    ) -> Result<Option<usize>, DecodeError> {
        let mut skipped = 0;
        if !self.started {
            skipped = self.skip_empty_lines(input)?;
        }
        let input = input.get(skipped..).unwrap_or(&[]);
        if input.is_empty() {
            return Ok(None);
        }
        self.started = true;

        let room = bytes_max.saturating_sub(fields.arena().len());
        let window = input.get(..room.min(input.len())).unwrap_or(input);
        match self.find_end(window) {
            Found::End(end) => {
                fields.extend_arena(window.get(..end).unwrap_or(window));
                *self = Self::default();
                Ok(Some(skipped + end))
            }
            Found::BareLf(at) => {
                fields.extend_arena(window.get(..at).unwrap_or(window));
                check_prefix(section, fields.arena())?;
                Err(DecodeError::LineEnd)
            }
            Found::Nothing => {
                fields.extend_arena(window);
                if window.len() < input.len() {
                    check_prefix(section, fields.arena())?;
                    return Err(section.too_large());
                }
                let len = fields.arena().len();
                if len <= EAGER_CHECK_BYTES || len >= self.checked.saturating_mul(2) {
                    check_prefix(section, fields.arena())?;
                    self.checked = len;
                }
                Ok(None)
            }
        }
    }

    fn skip_empty_lines(&mut self, input: &[u8]) -> Result<usize, DecodeError> {
        let mut skipped = 0;
        for &byte in input {
            match (self.last, byte) {
                (b'\r', b'\n') => self.last = 0,
                (b'\r', _) | (_, b'\n') => return Err(DecodeError::LineEnd),
                (_, b'\r') => self.last = b'\r',
                _ => break,
            }
            skipped += 1;
            self.leading += 1;
            if self.leading > LEADING_EMPTY_BYTES_MAX {
                return Err(DecodeError::TooManyEmptyLines);
            }
        }
        Ok(skipped)
    }

    /// Walks the line ends of `window`.
    fn find_end(&mut self, window: &[u8]) -> Found {
        let mut line_start = 0;
        let mut carried = self.line_len;
        for at in memchr::memchr_iter(b'\n', window) {
            let before = match at.checked_sub(1) {
                Some(i) => window.get(i).copied().unwrap_or(0),
                None => self.last,
            };
            if before != b'\r' {
                return Found::BareLf(at);
            }
            // One byte before the LF: the line is its CR alone.
            if carried + (at - line_start) == 1 {
                return Found::End(at + 1);
            }
            line_start = at + 1;
            carried = 0;
        }
        self.line_len = carried + window.len() - line_start;
        self.last = window.last().copied().unwrap_or(self.last);
        Found::Nothing
    }
}

enum Found {
    /// The section ends before this offset.
    End(usize),
    /// A line feed without carriage return at this offset.
    BareLf(usize),
    Nothing,
}
