//! One connection's share of the shard's `connections_max`.

use std::{io, rc::Rc};

use crate::core::Core;

/// Held by each open connection.
pub(crate) struct Permit {
    core: Rc<Core>,
}

impl Permit {
    /// Takes one, or counts a refusal.
    pub(crate) fn take(core: &Rc<Core>) -> Result<Self, ConnectionsExhausted> {
        let open = core.connections.get();
        if open >= core.limits.connections_max {
            core.stats.connections_refused.add(1);
            return Err(ConnectionsExhausted);
        }
        core.connections.set(open + 1);
        core.stats.connections_open.set(u64::from(open + 1));
        Ok(Permit { core: core.clone() })
    }

    pub(crate) fn core(&self) -> &Rc<Core> {
        &self.core
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let open = self.core.connections.get() - 1;
        self.core.connections.set(open);
        self.core.stats.connections_open.set(u64::from(open));
    }
}

/// The shard has as many connections as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shard has as many connections as it may have")]
pub struct ConnectionsExhausted;

impl ConnectionsExhausted {
    /// Whether an I/O error of this crate means this limit, and not that the network failed.
    pub fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<ConnectionsExhausted>())
    }
}

impl From<ConnectionsExhausted> for io::Error {
    fn from(exhausted: ConnectionsExhausted) -> Self {
        io::Error::other(exhausted)
    }
}
