//! `/listeners`: names and addresses of listeners that serve.

use ringsail_tables::address::Address;
use ringsail_xds::envoy::admin::v3::{ListenerStatus, Listeners};
use ringsail_xds::envoy::config::core::v3::{
    Address as WireAddress, Pipe, SocketAddress, address, socket_address,
};
use ringsail_xds::json::{Print, Schema};

use super::{Admin, Page, Query};

pub(super) fn page(admin: &Admin, query: &Query) -> Page {
    let tables = admin.state.borrow().tables.clone();
    if query.get("format") == Some("json") {
        let statuses = tables.listeners().map(|listener| ListenerStatus {
            name: listener.name.to_string(),
            local_address: listener.addresses.first().map(wire_address),
            additional_local_addresses: listener.addresses.iter().skip(1).map(wire_address).collect(),
        });
        let listeners = Listeners { listener_statuses: statuses.collect() };
        return Page::json(&Schema::shared().to_json(&listeners, Print::Set));
    }
    let mut text = String::new();
    for listener in tables.listeners() {
        for address in &listener.addresses {
            text.push_str(&format!("{}::{address}\n", listener.name));
        }
    }
    Page::ok(text)
}

/// An address as Envoy's admin messages hold it.
pub(super) fn wire_address(address: &Address) -> WireAddress {
    let address = match address {
        Address::Socket(at) => address::Address::SocketAddress(SocketAddress {
            address: at.ip().to_string(),
            port_specifier: Some(socket_address::PortSpecifier::PortValue(u32::from(at.port()))),
            ..SocketAddress::default()
        }),
        Address::Pipe(path) => address::Address::Pipe(Pipe { path: path.to_string(), mode: 0 }),
    };
    WireAddress { address: Some(address) }
}
