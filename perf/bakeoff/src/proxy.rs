//! The proxy's one loop, the same for every runtime with tasks.

use std::{cell::RefCell, io, rc::Rc};

/// A connection of some runtime.
pub trait Connection: Sized {
    /// Waits for bytes and appends them to `into`; how many (0: the end). Where the runtime can wait without a
    /// buffer, it does.
    async fn recv(&mut self, into: &mut Vec<u8>) -> io::Result<usize>;

    /// Sends all of `bytes` and gives the buffer back.
    async fn send(&mut self, bytes: Vec<u8>) -> io::Result<Vec<u8>>;
}

/// Idle upstream connections of the thread.
pub struct Upstreams<C> {
    idle: RefCell<Vec<C>>,
}

impl<C> Upstreams<C> {
    pub fn new() -> Rc<Self> {
        Rc::new(Upstreams { idle: RefCell::default() })
    }
}

/// Serves one downstream connection to its end.
pub async fn serve<C: Connection>(
    mut downstream: C,
    upstreams: Rc<Upstreams<C>>,
    dial: impl AsyncFn() -> io::Result<C>,
) -> io::Result<()> {
    loop {
        // Buffers live as long as one exchange, so that an idle connection has none of ours.
        let (mut received, mut out) = (Vec::new(), Vec::new());
        loop {
            if downstream.recv(&mut received).await? == 0 {
                return Ok(());
            }
            if crate::message::forward_request(&received, &mut out)? {
                break;
            }
        }
        let idle = upstreams.idle.borrow_mut().pop();
        let mut upstream = match idle {
            Some(upstream) => upstream,
            None => dial().await?,
        };
        out = upstream.send(out).await?;
        received.clear();
        out.clear();
        loop {
            if upstream.recv(&mut received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if crate::message::forward_response(&received, &mut out)? {
                break;
            }
        }
        upstreams.idle.borrow_mut().push(upstream);
        downstream.send(out).await?;
    }
}
