//! HTTP/1.1 and plain bytes: one exchange at a time on a connection.

use std::io;

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::limits::HEAD_BYTES_MAX;
use crate::options::Options;

/// A connection with the buffer its answers are read into.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// The bytes of one request.
pub fn request(options: &Options) -> Vec<u8> {
    let close = if options.new_connections { "connection: close\r\n" } else { "" };
    let headers: String = options.headers.iter().map(|field| format!("{field}\r\n")).collect();
    let (method, path, host) = (options.method(), &options.path, &options.host);
    let length = match options.body {
        0 => String::new(),
        bytes => format!("content-length: {bytes}\r\n"),
    };
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n{close}{length}{headers}\r\n");
    let mut request = head.into_bytes();
    request.resize(request.len() + options.body, b'x');
    request
}

impl Connection {
    /// Over `stream`.
    pub fn new(stream: TcpStream) -> Connection {
        Connection { stream, buffer: Vec::with_capacity(16 * 1024) }
    }

    /// Sends `bytes` and waits for the same.
    pub async fn echo(&mut self, bytes: &[u8]) -> io::Result<bool> {
        self.stream.write_all(bytes).await?;
        self.buffer.clear();
        while self.buffer.len() < bytes.len() {
            self.more().await?;
        }
        Ok(self.buffer == bytes)
    }

    /// Sends `request` and reads an answer with a `content-length`.
    pub async fn http(&mut self, request: &[u8]) -> io::Result<bool> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let head_end = loop {
            self.more().await?;
            if let Some(at) = memmem::find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(io::Error::other("the response head is too long"));
            }
        };
        let answer = Answer::parse(&self.buffer[..head_end])?;
        let mut left = answer.length.saturating_sub((self.buffer.len() - head_end) as u64);
        while left > 0 {
            self.buffer.clear();
            left = left.saturating_sub(self.more().await? as u64);
        }
        Ok(answer.status / 100 == 2)
    }

    async fn more(&mut self) -> io::Result<usize> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            length => Ok(length),
        }
    }
}

/// What an HTTP head says of its answer.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    /// The body's length in bytes.
    length: u64,
}

impl Answer {
    fn parse(head: &[u8]) -> io::Result<Answer> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_string());
        let head = std::str::from_utf8(head).map_err(|_| invalid("the response head is not text"))?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| invalid("no status line"))?;
        let length = lines
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.trim().parse().ok());
        let length = length.ok_or_else(|| invalid("the response has no content-length"))?;
        Ok(Answer { status, length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_length_are_read_whatever_the_case_of_the_name() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\nserver: a\r\n\r\n";
        assert_eq!(Answer::parse(head).unwrap(), Answer { status: 200, length: 1024 });
    }

    #[test]
    fn an_answer_without_a_length_is_refused() {
        assert!(Answer::parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(Answer::parse(b"nonsense\r\n\r\n").is_err());
    }
}
