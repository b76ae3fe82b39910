//! Keys that seal session tickets: the same on every shard, so that a client is known wherever it comes back.

use std::sync::{Arc, PoisonError, RwLock};

use crate::limits::TICKET_KEYS_MAX;

/// One key. Source: the 80 bytes of Envoy's `session_ticket_keys`: name, HMAC key, AES key.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketKey {
    pub(crate) name: [u8; 16],
    pub(crate) hmac: [u8; 32],
    pub(crate) cipher: [u8; 32],
}

impl std::fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TicketKey")
    }
}

impl TicketKey {
    /// From a configured secret of exactly 80 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<TicketKey> {
        let (name, rest) = bytes.split_first_chunk()?;
        let (hmac, rest) = rest.split_first_chunk()?;
        Some(TicketKey { name: *name, hmac: *hmac, cipher: rest.try_into().ok()? })
    }

    /// A key nobody else has. `None` where the system gives no randomness.
    pub fn random() -> Option<TicketKey> {
        let mut bytes = [0; 80];
        boring::rand::rand_bytes(&mut bytes).ok()?;
        TicketKey::from_bytes(&bytes)
    }
}

/// Keys shared by contexts: the first seals, all open. Looked at once in a handshake, so its lock is not contended.
#[derive(Clone, Debug)]
pub struct TicketKeys(Arc<RwLock<Arc<[TicketKey]>>>);

impl TicketKeys {
    /// These keys.
    pub fn new(keys: Vec<TicketKey>) -> TicketKeys {
        TicketKeys(Arc::new(RwLock::new(keys.into())))
    }

    /// A fresh random key. Without randomness there is none, and no tickets are given out.
    pub fn random() -> TicketKeys {
        TicketKeys::new(TicketKey::random().into_iter().collect())
    }

    /// The keys of this moment.
    pub fn current(&self) -> Arc<[TicketKey]> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Seals with a fresh key from here on; the `kept` latest before it still open.
    pub fn rotate(&self, kept: usize) {
        let Some(fresh) = TicketKey::random() else { return };
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let older = keys.iter().take(kept.min(TICKET_KEYS_MAX - 1)).cloned();
        *keys = std::iter::once(fresh).chain(older).collect();
    }
}

impl PartialEq for TicketKeys {
    fn eq(&self, other: &TicketKeys) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.current() == other.current()
    }
}
