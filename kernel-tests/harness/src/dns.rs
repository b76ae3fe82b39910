//! A name server that answers as it is told, over UDP and TCP on one port of the loopback address.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use anyhow::Result;

/// What is said about a name.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// `RCODE`; 0 is no error.
    pub code: u8,
    /// Addresses of both families in order.
    pub addresses: Vec<IpAddr>,
    /// Their lifetime in seconds.
    pub ttl: u32,
    /// They belong to this name, for which the asked one is an alias.
    pub alias_of: Option<&'static str>,
    /// Over UDP, only that the answer is too long.
    pub over_tcp: bool,
}

/// The server; it lives as long as the process.
#[derive(Clone)]
pub struct NameServer {
    /// Where it listens.
    pub address: SocketAddr,
    names: Arc<Mutex<HashMap<String, Records>>>,
}

impl NameServer {
    /// A server that knows no name: it says that none exists.
    pub fn start() -> Result<NameServer> {
        let (udp, tcp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0")?;
            // The same port may be taken for the other protocol.
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr()?) {
                break (udp, tcp);
            }
        };
        let server = NameServer { address: tcp.local_addr()?, names: Arc::default() };
        let over_udp = server.clone();
        thread::spawn(move || over_udp.serve_udp(&udp));
        let over_tcp = server.clone();
        thread::spawn(move || {
            for stream in tcp.incoming().flatten() {
                let server = over_tcp.clone();
                thread::spawn(move || server.serve_tcp(stream));
            }
        });
        Ok(server)
    }

    /// From now on, this is said about a name.
    pub fn set(&self, name: &str, records: Records) {
        self.names().insert(name.to_ascii_lowercase(), records);
    }

    fn names(&self) -> MutexGuard<'_, HashMap<String, Records>> {
        self.names.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn serve_udp(&self, socket: &UdpSocket) {
        let mut message = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut message) {
            if let Some(answer) = self.answer(&message[..length], false) {
                let _ = socket.send_to(&answer, from);
            }
        }
    }

    fn serve_tcp(&self, mut stream: TcpStream) {
        let mut length = [0; 2];
        while stream.read_exact(&mut length).is_ok() {
            let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
            if stream.read_exact(&mut message).is_err() {
                return;
            }
            let Some(answer) = self.answer(&message, true) else { return };
            let framed = [&(answer.len() as u16).to_be_bytes()[..], &answer].concat();
            if stream.write_all(&framed).is_err() {
                return;
            }
        }
    }

    fn answer(&self, message: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let mut labels = Vec::new();
        let mut at = 12;
        while *message.get(at)? > 0 {
            let end = at + 1 + usize::from(message[at]);
            labels.push(String::from_utf8_lossy(message.get(at + 1..end)?).to_ascii_lowercase());
            at = end;
        }
        let kind = u16::from_be_bytes([*message.get(at + 1)?, *message.get(at + 2)?]);
        let unknown = Records { code: 3, ..Records::default() };
        let records = self.names().get(&labels.join(".")).cloned().unwrap_or(unknown);
        // Only the question is repeated; what an extension added to it is not.
        let mut answer = message.get(..at + 5)?.to_vec();
        let truncated = records.over_tcp && !tcp;
        answer[2..12].copy_from_slice(&[0x81, 0x80 | records.code, 0, 1, 0, 0, 0, 0, 0, 0]);
        if truncated {
            answer[2] |= 2;
            return Some(answer);
        }
        let mut count = 0;
        let mut owner = vec![0xc0, 12];
        let mut add = |owner: &[u8], kind: u16, data: &[u8]| {
            answer.extend_from_slice(owner);
            answer.extend_from_slice(&kind.to_be_bytes());
            answer.extend_from_slice(&[0, 1]);
            answer.extend_from_slice(&records.ttl.to_be_bytes());
            answer.extend_from_slice(&(data.len() as u16).to_be_bytes());
            answer.extend_from_slice(data);
            count += 1;
        };
        if let Some(name) = records.alias_of {
            let mut encoded: Vec<u8> = name
                .split('.')
                .flat_map(|label| [&[label.len() as u8][..], label.as_bytes()].concat())
                .collect();
            encoded.push(0);
            add(&owner, 5, &encoded);
            owner = encoded;
        }
        for address in &records.addresses {
            match (address, kind) {
                (IpAddr::V4(v4), 1) => add(&owner, 1, &v4.octets()),
                (IpAddr::V6(v6), 28) => add(&owner, 28, &v6.octets()),
                _ => {}
            }
        }
        answer[7] = count;
        Some(answer)
    }
}
