//! HTTP/1.1 framing as far as a backend and its calls need it: heads by `httparse`, bodies by length, chunks or
//! end of stream.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::limits::HEAD_BYTES_MAX;

/// Header fields of a parsed head.
pub struct Fields<'a>(pub &'a [httparse::Header<'a>]);

impl<'a> Fields<'a> {
    /// The first value of a field, by name without regard to case; `None` also when it is no UTF-8.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let field = self.0.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(field.value).ok()
    }

    /// Whether the comma-separated field contains the token.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.get(name)
            .is_some_and(|value| value.split(',').any(|item| item.trim().eq_ignore_ascii_case(token)))
    }
}

/// Where a message's body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// After this many bytes.
    Length(u64),
    /// After the last chunk.
    Chunked,
    /// With the connection.
    UntilClose,
}

impl Framing {
    /// RFC 9112 §6.3; `absent` is what a message without either field means.
    pub fn of(fields: &Fields<'_>, absent: Self) -> io::Result<Self> {
        if fields.has_token("transfer-encoding", "chunked") {
            return Ok(Self::Chunked);
        }
        match fields.get("content-length") {
            None => Ok(absent),
            Some(text) => {
                text.trim().parse().map(Self::Length).map_err(|_| bad("content-length is no number"))
            }
        }
    }
}

/// A peer's bytes that are read but not used yet, in front of its socket.
#[derive(Default)]
pub struct Input {
    bytes: Vec<u8>,
    used: usize,
}

impl Input {
    /// The unused bytes.
    pub fn unused(&self) -> &[u8] {
        &self.bytes[self.used..]
    }

    /// Marks bytes as used.
    pub fn consume(&mut self, count: usize) {
        self.used += count;
        debug_assert!(self.used <= self.bytes.len());
        if self.used == self.bytes.len() {
            self.bytes.clear();
            self.used = 0;
        }
    }

    /// Reads once; `false` at the end of the stream. Refuses to hold more than one maximal head.
    pub async fn fill(&mut self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<bool> {
        if self.used > 0 {
            self.bytes.drain(..self.used);
            self.used = 0;
        }
        if self.bytes.len() >= HEAD_BYTES_MAX {
            return Err(bad("head is too long"));
        }
        Ok(from.read_buf(&mut self.bytes).await? > 0)
    }

    /// Reads a body to its end, appending up to `keep_max` bytes to `keep`; gives the body's length.
    pub async fn read_body(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        framing: Framing,
        keep: &mut Vec<u8>,
        keep_max: usize,
    ) -> io::Result<u64> {
        match framing {
            Framing::Length(length) => {
                self.take(from, length, keep, keep_max).await?;
                Ok(length)
            }
            Framing::Chunked => self.read_chunks(from, keep, keep_max).await,
            Framing::UntilClose => {
                let mut total = 0;
                loop {
                    let count = self.unused().len();
                    append_bounded(keep, self.unused(), keep_max);
                    self.consume(count);
                    total += count as u64;
                    if !self.fill(from).await? {
                        return Ok(total);
                    }
                }
            }
        }
    }

    async fn read_chunks(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        keep: &mut Vec<u8>,
        keep_max: usize,
    ) -> io::Result<u64> {
        let mut total = 0;
        loop {
            match httparse::parse_chunk_size(self.unused()).map_err(|_| bad("chunk size is no number"))? {
                httparse::Status::Partial => self.fill_or_fail(from).await?,
                httparse::Status::Complete((line, 0)) => {
                    self.consume(line);
                    return self.skip_trailers(from).await.map(|()| total);
                }
                httparse::Status::Complete((line, size)) => {
                    self.consume(line);
                    self.take(from, size, keep, keep_max).await?;
                    self.take(from, 2, &mut Vec::new(), 0).await?;
                    total += size;
                }
            }
        }
    }

    async fn skip_trailers(&mut self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
        loop {
            match self.unused().windows(2).position(|pair| pair == b"\r\n") {
                Some(0) => {
                    self.consume(2);
                    return Ok(());
                }
                Some(end) => self.consume(end + 2),
                None => self.fill_or_fail(from).await?,
            }
        }
    }

    async fn take(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        mut length: u64,
        keep: &mut Vec<u8>,
        keep_max: usize,
    ) -> io::Result<()> {
        while length > 0 {
            if self.unused().is_empty() {
                self.fill_or_fail(from).await?;
            }
            let count = self.unused().len().min(usize::try_from(length).unwrap_or(usize::MAX));
            append_bounded(keep, &self.unused()[..count], keep_max);
            self.consume(count);
            length -= count as u64;
        }
        Ok(())
    }

    async fn fill_or_fail(&mut self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
        if self.fill(from).await? { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

fn append_bounded(keep: &mut Vec<u8>, bytes: &[u8], keep_max: usize) {
    let room = keep_max.saturating_sub(keep.len());
    keep.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

/// An error that blames the peer.
pub fn bad(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Delivers a byte string in pieces of one byte, so that every split is met.
    async fn read_bytewise(bytes: &[u8], framing: Framing) -> io::Result<(u64, Vec<u8>)> {
        let (mut near, far) = tokio::io::duplex(1);
        let bytes = bytes.to_vec();
        let writer = async move {
            let mut far = far;
            tokio::io::AsyncWriteExt::write_all(&mut far, &bytes).await.ok();
        };
        let reader = async {
            let mut kept = Vec::new();
            let length = Input::default().read_body(&mut near, framing, &mut kept, 64).await;
            drop(near);
            length.map(|length| (length, kept))
        };
        tokio::join!(writer, reader).1
    }

    #[tokio::test]
    async fn chunks_with_extensions_and_trailers_are_read_to_their_end() {
        let body = b"3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nx-trailer: 1\r\n\r\n";
        assert_eq!(read_bytewise(body, Framing::Chunked).await.expect("valid"), (5, b"abcde".to_vec()));
    }

    #[tokio::test]
    async fn a_body_cut_short_is_an_error() {
        assert!(read_bytewise(b"abc", Framing::Length(4)).await.is_err());
        assert!(read_bytewise(b"3\r\nab", Framing::Chunked).await.is_err());
    }

    #[tokio::test]
    async fn without_framing_the_body_ends_with_the_connection() {
        assert_eq!(read_bytewise(b"abc", Framing::UntilClose).await.expect("valid"), (3, b"abc".to_vec()));
    }
}
