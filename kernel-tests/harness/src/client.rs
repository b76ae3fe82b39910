//! A small HTTP/1.1 client: one connection, answers with a length.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Longest wait for a byte: upstreams answer within a second, a busy machine needs longer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// One connection, kept alive between requests.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Header fields with names in lower case, in order.
    pub fields: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

/// `GET path` on a connection of its own.
pub fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    Connection::open(address)?.get(path)
}

impl Connection {
    /// Connects to `address`.
    pub fn open(address: SocketAddr) -> Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(READ_TIMEOUT))?;
        Ok(Connection { stream: BufReader::new(stream) })
    }

    /// `GET path` for host `test`.
    pub fn get(&mut self, path: &str) -> Result<Answer> {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"))
    }

    /// Sends `request` as it is and reads one answer.
    pub fn send(&mut self, request: &str) -> Result<Answer> {
        self.stream.get_mut().write_all(request.as_bytes())?;
        let status_line = self.line()?;
        let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.with_context(|| format!("no status in {status_line:?}"))?;
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            fields.push((name.to_ascii_lowercase(), value.trim().to_string()));
        }
        let body = self.body(&fields)?;
        Ok(Answer { status, fields, body })
    }

    fn body(&mut self, fields: &[(String, String)]) -> Result<String> {
        let field =
            |wanted: &str| fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let mut body = Vec::new();
        if field("transfer-encoding") == Some("chunked") {
            loop {
                let size = self.line()?;
                let size =
                    usize::from_str_radix(&size, 16).with_context(|| format!("chunk size {size:?}"))?;
                let start = body.len();
                body.resize(start + size, 0);
                self.stream.read_exact(&mut body[start..])?;
                self.line()?;
                if size == 0 {
                    break;
                }
            }
        } else if let Some(length) = field("content-length") {
            body.resize(length.parse()?, 0);
            self.stream.read_exact(&mut body)?;
        }
        Ok(String::from_utf8(body)?)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("the connection ended before the answer was complete");
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_string())
    }
}
