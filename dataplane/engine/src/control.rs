//! What the shards are told, and what they tell, through bounded queues.

use ringsail_runtime::net::Address;

/// An order to a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Envoy's `/drain_listeners`: answers say `connection: close` from here on.
    Drain {
        /// Only listeners with direction INBOUND.
        inbound_only: bool,
        /// The sockets stay open until [`Command::StopListening`].
        graceful: bool,
        /// The sockets stay open for ever (`skip_exit`).
        keep_listening: bool,
    },
    /// Close all listening sockets.
    StopListening,
}

/// News from a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A listener is open.
    Listening {
        /// Its name.
        name: String,
        /// Where, with the port the kernel chose if it was asked to.
        address: Address,
    },
    /// A listener could not be opened; it is tried again.
    NotListening {
        /// Its name.
        name: String,
        /// Where it should listen.
        address: String,
        /// Why it does not.
        error: String,
    },
    /// The shard has opened what it could of a version of the tables.
    Adopted {
        /// The shard's number.
        shard: u32,
        /// [`ringsail_tables::Tables::version`].
        version: u64,
    },
}
