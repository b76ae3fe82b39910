//! One request and its answer on one connection.

use std::io;
use std::net::SocketAddr;

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::limits::HEAD_BYTES_MAX;

/// What every connection sends, and how it knows the answer's end.
#[derive(Debug)]
pub struct Exchange {
    target: SocketAddr,
    request: Vec<u8>,
    /// The answer is this many bytes; without it the answer is HTTP with a content-length.
    echo: Option<usize>,
}

/// A connection with the buffer its answers are read into.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Exchange {
    /// Sends `request` to `target`; the answer is HTTP unless `echo` says how many bytes it has.
    pub fn new(target: SocketAddr, request: Vec<u8>, echo: Option<usize>) -> Exchange {
        Exchange { target, request, echo }
    }

    /// Opens a connection.
    pub async fn connect(&self) -> io::Result<Connection> {
        let stream = TcpStream::connect(self.target).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, buffer: Vec::with_capacity(16 * 1024) })
    }

    /// Sends the request and reads the answer; `true` when it was a success (2xx, or every byte of the echo).
    ///
    /// # Errors
    /// When the connection fails or the answer is not what the options announced.
    pub async fn run(&self, connection: &mut Connection) -> io::Result<bool> {
        connection.stream.write_all(&self.request).await?;
        connection.buffer.clear();
        match self.echo {
            Some(bytes) => {
                while connection.buffer.len() < bytes {
                    connection.more().await?;
                }
                Ok(connection.buffer == self.request)
            }
            None => connection.http_answer().await,
        }
    }
}

impl Connection {
    async fn http_answer(&mut self) -> io::Result<bool> {
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
