//! One request and its answer, over whatever the run speaks.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;

use crate::options::Options;
use crate::{http1, http2};

/// What every connection sends, and how it knows the answer's end.
#[derive(Debug)]
pub struct Exchange {
    target: SocketAddr,
    request: Request,
}

#[derive(Debug)]
enum Request {
    /// The bytes of one HTTP/1.1 request.
    Http1(Vec<u8>),
    Http2(Box<http2::Request>),
    /// As many bytes come back.
    Echo(Vec<u8>),
}

/// One use of a connection: HTTP/2 has as many on a connection as there are streams at a time.
#[derive(Debug)]
pub enum Connection {
    /// HTTP/1.1 or bytes: one exchange at a time.
    Single(http1::Connection),
    /// A stream at a time of a shared connection.
    Shared(http2::Connection),
}

impl Exchange {
    /// What `options` ask for.
    ///
    /// # Errors
    /// When target, host or header fields make no HTTP request.
    pub fn new(options: &Options) -> anyhow::Result<Exchange> {
        let request = match options.echo {
            Some(bytes) => Request::Echo(vec![b'x'; bytes]),
            None if options.http2 || options.grpc => Request::Http2(Box::new(http2::Request::new(options)?)),
            None => Request::Http1(http1::request(options)),
        };
        Ok(Exchange { target: options.target, request })
    }

    /// Opens a connection that `uses` exchanges may use at a time; only HTTP/2 shares.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn connect(&self, uses: usize) -> io::Result<Vec<Connection>> {
        let mut connections = Vec::with_capacity(uses);
        if let Request::Http2(_) = self.request {
            let shared = http2::Connection::new(self.stream().await?).await?;
            connections.extend((0..uses).map(|_| Connection::Shared(shared.clone())));
            return Ok(connections);
        }
        for _ in 0..uses {
            connections.push(Connection::Single(http1::Connection::new(self.stream().await?)));
        }
        Ok(connections)
    }

    async fn stream(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.target).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Sends the request and reads the answer; `true` when it was a success (2xx, gRPC status 0, or every byte of the
    /// echo).
    ///
    /// # Errors
    /// When the connection fails or the answer is not what the options announced.
    pub async fn run(&self, connection: &mut Connection) -> io::Result<bool> {
        match (&self.request, connection) {
            (Request::Http1(request), Connection::Single(connection)) => connection.http(request).await,
            (Request::Echo(bytes), Connection::Single(connection)) => connection.echo(bytes).await,
            (Request::Http2(request), Connection::Shared(connection)) => connection.run(request).await,
            _ => Err(io::Error::other("a connection of another protocol")),
        }
    }
}
