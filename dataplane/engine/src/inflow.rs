//! Received bytes that are not used yet.

use std::io;

use ringsail_runtime::buffers::Lease;
use ringsail_runtime::net;

use crate::limits::RECEIVE_BYTES_MAX;
use crate::stream::Stream;

/// At most one block of bytes from a connection. Empty means that no block is held.
#[derive(Debug, Default)]
pub struct Inflow {
    lease: Option<Lease>,
}

impl Inflow {
    /// With bytes that were received already.
    pub fn holding(lease: Lease) -> Inflow {
        Inflow { lease: (!lease.is_empty()).then_some(lease) }
    }

    /// Gives the block away.
    pub fn into_lease(self) -> Option<Lease> {
        self.lease
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.lease.as_deref().unwrap_or_default()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lease.is_none()
    }

    /// Uses up the first `count` bytes; the block goes back with the last one.
    pub fn consume(&mut self, count: usize) {
        if let Some(lease) = &mut self.lease {
            lease.advance(count);
            if lease.is_empty() {
                self.lease = None;
            }
        }
    }

    /// Waits for bytes when there are none. `false` means that the peer has ended its side. Dropping the future loses
    /// nothing.
    pub async fn fill(&mut self, stream: &Stream) -> io::Result<bool> {
        if self.lease.is_none() {
            let lease = stream.recv(RECEIVE_BYTES_MAX).await?;
            if lease.is_empty() {
                return Ok(false);
            }
            self.lease = Some(lease);
        }
        Ok(true)
    }

    /// [`Inflow::extend`] for a socket that nothing is known of yet.
    pub async fn extend_raw(&mut self, socket: &net::Stream) -> io::Result<bool> {
        match &mut self.lease {
            Some(lease) => Ok(socket.recv_more(lease).await? > 0),
            None => {
                let lease = socket.recv(RECEIVE_BYTES_MAX).await?;
                self.lease = (!lease.is_empty()).then_some(lease);
                Ok(self.lease.is_some())
            }
        }
    }

    /// Waits for more bytes behind those that are here, as far as the block has room. `false` means that the peer has
    /// ended its side, or that there is no room.
    pub async fn extend(&mut self, stream: &Stream) -> io::Result<bool> {
        match &mut self.lease {
            Some(lease) => Ok(stream.recv_more(lease).await? > 0),
            None => self.fill(stream).await,
        }
    }
}
