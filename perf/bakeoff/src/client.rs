//! A closed-loop client: each connection sends its next request when the last is answered.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::message;

const REQUEST: &[u8] = b"GET /echo?size=1024 HTTP/1.1\r\nhost: echo.default.svc.cluster.local\r\n\
user-agent: ringsail-bakeoff\r\naccept: */*\r\naccept-encoding: gzip\r\n\r\n";

/// Opens connections, each of which has had one answer.
pub fn open(proxy: SocketAddr, count: usize) -> anyhow::Result<Vec<TcpStream>> {
    (0..count)
        .map(|_| {
            let mut stream = TcpStream::connect(proxy)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(REQUEST)?;
            let mut answer = Vec::new();
            let mut scratch = [0; 4096];
            while message::response_len(&answer)?.is_none() {
                let count = stream.read(&mut scratch).context("no answer from the proxy")?;
                if count == 0 {
                    bail!("the proxy closed the connection");
                }
                answer.extend_from_slice(&scratch[..count]);
            }
            Ok(stream)
        })
        .collect()
}

/// Drives all connections for `length` and says how many answers came.
pub fn drive(connections: &mut [TcpStream], length: Duration) -> anyhow::Result<u64> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    for (index, stream) in connections.iter_mut().enumerate() {
        stream.set_nonblocking(true)?;
        epoll.add(&*stream, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
        stream.write_all(REQUEST)?;
    }
    let mut partial: Vec<Vec<u8>> = vec![Vec::new(); connections.len()];
    let mut events = vec![EpollEvent::empty(); 256];
    let mut scratch = [0; 16 * 1024];
    let (mut answers, mut waiting) = (0, connections.len());
    let end = Instant::now() + length;
    let give_up = end + Duration::from_secs(5);
    while waiting > 0 {
        let ready = epoll.wait(&mut events, EpollTimeout::try_from(Duration::from_millis(100))?)?;
        let now = Instant::now();
        if now > give_up {
            bail!("{waiting} requests were never answered");
        }
        for event in &events[..ready] {
            let index = event.data() as usize;
            let stream = &mut connections[index];
            let count = match stream.read(&mut scratch) {
                Ok(0) => bail!("the proxy closed a connection under load"),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            };
            let bytes = &mut partial[index];
            bytes.extend_from_slice(&scratch[..count]);
            if message::response_len(bytes)?.is_none() {
                continue;
            }
            bytes.clear();
            answers += 1;
            if now < end {
                stream.write_all(REQUEST)?;
            } else {
                waiting -= 1;
            }
        }
    }
    Ok(answers)
}
