//! Whether a listener's addresses can be had, found out before the listener is used.
//!
//! Compat: Envoy binds when it accepts a listener, so that a taken port is a refusal (NACK, or no start at all for
//! listeners of the bootstrap) and the last good version keeps serving. The sockets here are the shards', so the agent
//! only tries; what a shard still fails to bind it tries again, and says so.

use ringsail_runtime::net::{Address, ListenSocket, ListenerOptions};
use ringsail_tables::address::Address as Configured;
use ringsail_tables::{Diagnostic, ResourceType, Severity, Tables};
use ringsail_xds::envoy::config::core::v3::{self as core, address, socket_address};
use ringsail_xds::envoy::config::listener::v3::Listener;
use ringsail_xds::prost::Message as _;

/// What keeps a listener resource from being bound; `None` when nothing does, or when the compiler has to say more about
/// it. Addresses that `current` listens on are ours.
pub(crate) fn refusal(name: &str, resource: &[u8], current: &Tables) -> Option<Diagnostic> {
    let listener = Listener::decode(resource).ok()?;
    let old_bind = listener.deprecated_v1.as_ref().and_then(|old| old.bind_to_port);
    if !listener.bind_to_port.or(old_bind).unwrap_or(true) {
        return None;
    }
    let options = ListenerOptions {
        transparent: listener.transparent.unwrap_or(false),
        freebind: listener.freebind.unwrap_or(false),
        ..ListenerOptions::default()
    };
    let addresses =
        listener.address.iter().chain(listener.additional_addresses.iter().flat_map(|more| &more.address));
    addresses.filter_map(configured).find_map(|address| {
        if current.bound_addresses().any(|(_, bound)| *bound == address) {
            return None;
        }
        try_one(name, &address, options)
    })
}

/// The same for all listeners of compiled tables that are not served yet.
pub(crate) fn refusals(tables: &Tables) -> Vec<Diagnostic> {
    let bound = tables.bound_addresses();
    bound
        .filter_map(|(listener, address)| {
            let options = ListenerOptions {
                transparent: listener.transparent,
                freebind: listener.freebind,
                ..ListenerOptions::default()
            };
            try_one(&listener.name, address, options)
        })
        .collect()
}

fn try_one(name: &str, address: &Configured, options: ListenerOptions) -> Option<Diagnostic> {
    let target = match address {
        Configured::Socket(at) => Address::Inet(*at),
        Configured::Pipe(path) => Address::Unix(path.as_str().into()),
    };
    let error = ListenSocket::probe(&target, options).err()?;
    Some(Diagnostic {
        severity: Severity::Refused,
        resource_type: ResourceType::Listener,
        resource_name: name.to_owned(),
        field: "address".to_owned(),
        text: format!("cannot bind {address}: {error}"),
    })
}

fn configured(address: &core::Address) -> Option<Configured> {
    match address.address.as_ref()? {
        address::Address::SocketAddress(socket) => {
            let Some(socket_address::PortSpecifier::PortValue(port)) = socket.port_specifier else {
                return None;
            };
            let port = u16::try_from(port).ok()?;
            Some(Configured::Socket((socket.address.parse::<std::net::IpAddr>().ok()?, port).into()))
        }
        // Compiled names are interned; comparing them by text is what matters here.
        address::Address::Pipe(pipe) => Some(Configured::Pipe(ringsail_tables::Str::new(&pipe.path))),
        _ => None,
    }
}
