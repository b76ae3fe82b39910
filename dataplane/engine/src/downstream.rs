//! The downstream half of the engine: client connections that speak HTTP.

pub mod h1;
