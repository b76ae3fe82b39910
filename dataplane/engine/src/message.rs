//! A message's body on its way through: [`Incoming`] is where it comes from, [`Outgoing`] where it goes, [`Answer`] what
//! is waited for before the first.
//!
//! Both have a variant for each protocol, so that the exchange is written once and any protocol meets any other. What
//! comes is handed out as borrowed bytes, what goes is copied at most once; neither holds more than a block.

mod answer;
mod incoming;
mod outgoing;

pub use answer::Answer;
pub use incoming::{Incoming, Lost, Piece};
pub use outgoing::{Closed, Outgoing};
