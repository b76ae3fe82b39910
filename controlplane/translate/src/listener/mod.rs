//! Listeners.

pub(crate) mod chain;
pub(crate) mod filters;
pub(crate) mod inbound;
pub(crate) mod outbound;
pub(crate) mod tcp;
pub(crate) mod telemetry;
pub(crate) mod virtual_outbound;
