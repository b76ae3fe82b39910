//! A stub resolver: asks name servers over UDP and TCP, and says how long the answer holds.
//!
//! The system's resolver keeps records' lifetimes to itself, and istiod asks for them on every DNS cluster. A resolver
//! crate would bring some fifty others, Unicode tables among them, for names that are ASCII; what is needed of DNS is in
//! these three files: `message` reads and writes it, `config` knows servers, search domains and `/etc/hosts`,
//! `client` asks.
//!
//! Compat: which servers and families are asked, which names are tried, and what counts as an answer is what Envoy does
//! with c-ares: a name that does not exist is an answer, a server that fails is none.

mod client;
mod config;
mod message;

pub(crate) use client::chosen;
pub use client::{Found, resolve};
pub use message::{Answer, Kind, decode, encode};
