//! Asks name servers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ringsail_tables::cluster::{DnsFamily, DnsServers};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::config::{ResolvConf, of_hosts_file};
use super::message::{Answer, Kind, decode, encode};
use crate::limits::{DNS_ATTEMPTS, DNS_MESSAGE_BYTES_MAX, DNS_TIMEOUT};

/// What a name leads to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// Addresses in the order they came; none when the name does not exist or has none.
    pub addresses: Vec<IpAddr>,
    /// How long that holds, where the answer says it.
    pub ttl: Option<Duration>,
}

/// Resolves a name with `servers`, or with those of `/etc/resolv.conf`. The error says why nobody answered.
pub async fn resolve(host: &str, family: DnsFamily, servers: &DnsServers) -> Result<Found, String> {
    let local = of_hosts_file(host);
    if !local.is_empty() {
        let (v4, v6): (Vec<_>, Vec<_>) = local.into_iter().partition(IpAddr::is_ipv4);
        return Ok(Found { addresses: chosen(family, v4, v6), ttl: None });
    }
    let conf = ResolvConf::read();
    let own = servers.addresses.iter().copied();
    let ask: Vec<SocketAddr> = match (servers.addresses.is_empty(), servers.as_fallback) {
        (true, _) => conf.servers.clone(),
        (false, true) if !conf.servers.is_empty() => conf.servers.clone(),
        (false, _) => own.collect(),
    };
    if ask.is_empty() {
        return Err("there is no name server".to_owned());
    }
    let asking = Asking {
        servers: &ask,
        attempts: servers.attempts.or(conf.attempts).unwrap_or(DNS_ATTEMPTS),
        timeout: servers.timeout.or(conf.timeout).unwrap_or(DNS_TIMEOUT),
        tcp: servers.tcp,
        rotate: servers.rotate,
    };
    let mut failed = None;
    for name in conf.candidates(host, servers.search) {
        match asking.family(&name, family).await {
            Ok(found) if !found.addresses.is_empty() => return Ok(found),
            Ok(_) => {}
            Err(error) => failed = Some(error),
        }
    }
    // That a name does not exist is known only when nobody failed to say so.
    failed.map_or_else(|| Ok(Found::default()), Err)
}

struct Asking<'a> {
    servers: &'a [SocketAddr],
    attempts: u32,
    timeout: Duration,
    tcp: bool,
    rotate: bool,
}

impl Asking<'_> {
    async fn family(&self, name: &str, family: DnsFamily) -> Result<Found, String> {
        let (v4, v6) = match family {
            DnsFamily::V4Only => (self.kind(name, Kind::A).await, Ok(Found::default())),
            DnsFamily::V6Only => (Ok(Found::default()), self.kind(name, Kind::Aaaa).await),
            DnsFamily::Auto | DnsFamily::V4Preferred | DnsFamily::All => {
                tokio::join!(self.kind(name, Kind::A), self.kind(name, Kind::Aaaa))
            }
        };
        let (v4, v6) = match (v4, v6) {
            (Ok(v4), Ok(v6)) => (v4, v6),
            // One family's failure does not hide the other's addresses.
            (Ok(found), Err(error)) | (Err(error), Ok(found)) if found.addresses.is_empty() => {
                return Err(error);
            }
            (Ok(v4), Err(_)) => (v4, Found::default()),
            (Err(_), Ok(v6)) => (Found::default(), v6),
            (Err(error), Err(_)) => return Err(error),
        };
        let addresses = chosen(family, v4.addresses, v6.addresses);
        let of_v4 = v4.ttl.filter(|_| addresses.iter().any(IpAddr::is_ipv4));
        let of_v6 = v6.ttl.filter(|_| addresses.iter().any(IpAddr::is_ipv6));
        Ok(Found { addresses, ttl: of_v4.into_iter().chain(of_v6).min() })
    }

    async fn kind(&self, name: &str, kind: Kind) -> Result<Found, String> {
        let mut failure = "nobody was asked".to_owned();
        let first = if self.rotate { fastrand::usize(..self.servers.len()) } else { 0 };
        for _ in 0..self.attempts {
            for index in 0..self.servers.len() {
                let server = self.servers[(first + index) % self.servers.len()];
                match timeout(self.timeout, self.server(server, name, kind)).await {
                    Ok(Ok(Answer { code: 0 | 3, addresses, ttl, .. })) => {
                        let ttl = ttl.map(|seconds| Duration::from_secs(seconds.into()));
                        return Ok(Found { addresses, ttl });
                    }
                    Ok(Ok(answer)) => failure = format!("{server} answers with code {}", answer.code),
                    Ok(Err(error)) => failure = format!("{server}: {error}"),
                    Err(_) => failure = format!("{server} does not answer"),
                }
            }
        }
        Err(failure)
    }

    async fn server(&self, server: SocketAddr, name: &str, kind: Kind) -> io::Result<Answer> {
        if !self.tcp {
            let answer = over_udp(server, name, kind).await?;
            if !answer.truncated {
                return Ok(answer);
            }
        }
        over_tcp(server, name, kind).await
    }
}

/// The families that are wanted of those found. Compat: `AUTO` and `V4_PREFERRED` take one family only.
pub(crate) fn chosen(family: DnsFamily, v4: Vec<IpAddr>, v6: Vec<IpAddr>) -> Vec<IpAddr> {
    let first_of = |first: Vec<IpAddr>, second: Vec<IpAddr>| if first.is_empty() { second } else { first };
    match family {
        DnsFamily::V4Only => v4,
        DnsFamily::V6Only => v6,
        DnsFamily::Auto => first_of(v6, v4),
        DnsFamily::V4Preferred => first_of(v4, v6),
        DnsFamily::All => v4.into_iter().chain(v6).collect(),
    }
}

fn no_name() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a host name")
}

async fn over_udp(server: SocketAddr, name: &str, kind: Kind) -> io::Result<Answer> {
    // A port that the kernel draws for each question, and a socket that hears its server only: whoever wants to answer
    // in the server's place has to guess port and number.
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(server).await?;
    let id = fastrand::u16(..);
    socket.send(&encode(id, name, kind).ok_or_else(no_name)?).await?;
    let mut message = vec![0; DNS_MESSAGE_BYTES_MAX];
    loop {
        let length = socket.recv(&mut message).await?;
        // A late answer to another question is none.
        if let Some(answer) = decode(&message[..length], id, name, kind) {
            return Ok(answer);
        }
    }
}

async fn over_tcp(server: SocketAddr, name: &str, kind: Kind) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(server).await?;
    let id = fastrand::u16(..);
    let question = encode(id, name, kind).ok_or_else(no_name)?;
    let mut framed = (question.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(&question);
    stream.write_all(&framed).await?;
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    decode(&message, id, name, kind)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is malformed"))
}

#[cfg(test)]
mod tests;
