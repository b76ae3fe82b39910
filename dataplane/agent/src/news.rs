//! What shards tell of their listening sockets, on its way to the agent's thread.

use tokio::sync::mpsc;

/// One piece of news.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A shard listens.
    Listening {
        /// The listener's name.
        name: String,
    },
    /// A shard cannot listen and will try again.
    NotListening {
        /// The listener's name.
        name: String,
        /// Where it should listen.
        address: String,
        /// Why it does not.
        error: String,
    },
    /// A shard has opened what it could of a version of the tables.
    Adopted {
        /// The shard's number, from 0.
        shard: u32,
        /// [`ringsail_tables::Tables::version`].
        version: u64,
    },
}

/// The sending side, for any thread. Not bounded itself: the shards' own queue is.
pub type NewsSender = mpsc::UnboundedSender<News>;
/// The agent's side.
pub type NewsReceiver = mpsc::UnboundedReceiver<News>;

/// A way for news. When all senders are gone, nothing is waited for any more.
pub fn channel() -> (NewsSender, NewsReceiver) {
    mpsc::unbounded_channel()
}
