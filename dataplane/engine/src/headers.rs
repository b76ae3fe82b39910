//! What the connection manager and the router do to heads on their way through.

mod client_cert;
pub mod edits;
pub mod request;
pub mod response;
