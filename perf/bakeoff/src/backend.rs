//! The upstream: answers every request with the same response, from one thread.

use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd,
    thread,
};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// Starts the backend and gives its address. Runs until the process ends.
pub fn start(body_bytes: usize) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let response =
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {body_bytes}\r\n\r\n");
    let mut response = response.into_bytes();
    response.resize(response.len() + body_bytes, b'x');
    thread::spawn(move || {
        if let Err(error) = serve(&listener, &response) {
            eprintln!("backend ended: {error}");
        }
    });
    Ok(address)
}

const LISTENER: u64 = u64::MAX;

fn serve(listener: &TcpListener, response: &[u8]) -> anyhow::Result<()> {
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    let mut connections: HashMap<u64, TcpStream> = HashMap::new();
    let mut events = vec![EpollEvent::empty(); 256];
    let mut scratch = [0; 4096];
    loop {
        let ready = epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in &events[..ready] {
            if event.data() == LISTENER {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                let key = stream.as_raw_fd() as u64;
                epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, key))?;
                connections.insert(key, stream);
            } else if let Some(stream) = connections.get_mut(&event.data()) {
                // The proxies send a request in one piece and wait for its answer.
                match stream.read(&mut scratch) {
                    Ok(0) => drop(connections.remove(&event.data())),
                    Ok(_) => stream.write_all(response)?,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => (),
                    Err(_) => drop(connections.remove(&event.data())),
                }
            }
        }
    }
}
