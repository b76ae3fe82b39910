//! No runtime: one edge-triggered epoll descriptor, a table of connections, and a state per connection. It carries
//! no tasks, timers or limits, so no runtime can reach it; it shows what the kernel alone costs.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::{listen, read_into};
use crate::message;

const LISTENER: u64 = u64::MAX;

enum Role {
    /// Reads a request.
    Downstream,
    /// Reads the response for the downstream connection in this slot; `None` while idle.
    Upstream(Option<usize>),
}

struct Connection {
    stream: TcpStream,
    role: Role,
    received: Vec<u8>,
}

struct Proxy {
    epoll: Epoll,
    upstream: SocketAddr,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    idle_upstreams: Vec<usize>,
}

pub fn serve(upstream: SocketAddr) -> anyhow::Result<()> {
    let listener = listen()?;
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    let mut proxy =
        Proxy { epoll, upstream, connections: Vec::new(), free: Vec::new(), idle_upstreams: Vec::new() };
    let mut events = vec![EpollEvent::empty(); 256];
    loop {
        let ready = proxy.epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in &events[..ready] {
            if event.data() == LISTENER {
                proxy.accept(&listener)?;
            } else if proxy.readable(event.data() as usize).is_err() {
                proxy.close(event.data() as usize);
            }
        }
    }
}

impl Proxy {
    fn accept(&mut self, listener: &TcpListener) -> io::Result<()> {
        match listener.accept() {
            Ok((stream, _)) => self.insert(stream, Role::Downstream).map(drop),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn insert(&mut self, stream: TcpStream, role: Role) -> io::Result<usize> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        self.epoll.add(&stream, EpollEvent::new(interest, slot as u64))?;
        self.connections[slot] = Some(Connection { stream, role, received: Vec::new() });
        Ok(slot)
    }

    fn close(&mut self, slot: usize) {
        if self.connections[slot].take().is_some() {
            self.idle_upstreams.retain(|idle| *idle != slot);
            self.free.push(slot);
        }
    }

    /// Reads what is there. Edge-triggered: to the end, which a short read shows.
    fn readable(&mut self, slot: usize) -> io::Result<()> {
        let Some(connection) = &mut self.connections[slot] else { return Ok(()) };
        loop {
            match read_into(&mut connection.received, |scratch| connection.stream.read(scratch)) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) if count < super::RECV_BYTES => break,
                Ok(_) => (),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let mut out = Vec::new();
        match connection.role {
            Role::Downstream => {
                if message::forward_request(&connection.received, &mut out)? {
                    connection.received = Vec::new();
                    self.send_upstream(slot, &out)?;
                }
            }
            Role::Upstream(downstream) => {
                if message::forward_response(&connection.received, &mut out)? {
                    connection.received = Vec::new();
                    connection.role = Role::Upstream(None);
                    self.idle_upstreams.push(slot);
                    if let Some(Some(downstream)) = downstream.map(|slot| &mut self.connections[slot]) {
                        // Responses are smaller than a socket's send buffer.
                        downstream.stream.write_all(&out)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn send_upstream(&mut self, downstream: usize, bytes: &[u8]) -> io::Result<()> {
        let slot = match self.idle_upstreams.pop() {
            Some(slot) => slot,
            // The backend is on this host: connecting blocks for microseconds, once per pooled connection.
            None => self.insert(TcpStream::connect(self.upstream)?, Role::Upstream(None))?,
        };
        if let Some(upstream) = &mut self.connections[slot] {
            upstream.role = Role::Upstream(Some(downstream));
            upstream.stream.write_all(bytes)?;
        }
        Ok(())
    }
}
