//! Gateway.

use std::collections::BTreeSet;

use crate::networking::server_tls_settings::TlSmode;
use crate::networking::{Gateway, Port, Server};
use crate::object::Object;
use crate::validate::checker::Checker;
use crate::validate::common::{Protocol, UNIX_PREFIX, namespaced_host, port, unix_path};
use crate::validate::{names, tls};

pub(crate) fn check(checker: &mut Checker, spec: &Gateway, object: &Object) {
    if !names::is_label(&object.meta.name) {
        checker
            .error(format!("invalid gateway name: `{}`", object.meta.name))
            .fix("use letters, digits and `-`");
    }
    if spec.servers.is_empty() {
        checker.error("a gateway must have at least one server");
    }
    let mut names = BTreeSet::new();
    checker.each("servers", &spec.servers, |checker, server| {
        check_server(checker, server);
        let Some(port) = &server.port else { return };
        if !names.insert(port.name.as_str()) {
            checker.error(format!("port names in servers must be unique: duplicate name {}", port.name));
        }
        let redirects = server.tls.as_ref().is_some_and(|tls| tls.https_redirect);
        if redirects && !Protocol::parse(&port.protocol).is_some_and(Protocol::is_http) {
            checker.warning("tls.httpsRedirect should only be used with http servers");
        }
    });
}

fn check_server(checker: &mut Checker, server: &Server) {
    if server.hosts.is_empty() {
        checker.error("the server names no host").fix("write `hosts: [\"*\"]` for all");
    }
    checker.each("hosts", &server.hosts, |checker, host| namespaced_host(checker, host, true));
    let unix = server.bind.strip_prefix(UNIX_PREFIX);
    match unix {
        Some(path) => {
            checker.field("bind", |checker| unix_path(checker, path));
            if server.port.as_ref().is_some_and(|port| port.number != 0) {
                checker.error("port number must be 0 for unix domain socket");
            }
        }
        None if !server.bind.is_empty() && !names::is_ip(&server.bind) => {
            checker.field("bind", |checker| {
                checker.error(format!("{} is not a valid IP", server.bind));
            });
        }
        None => {}
    }
    let Some(port) = &server.port else {
        checker.error("port is required").fix("write `port: {number: 80, name: http, protocol: HTTP}`");
        return;
    };
    checker.field("port", |checker| check_port(checker, port, unix.is_some()));
    checker.set("tls", server.tls.as_ref(), tls::server);
    if let Some(protocol) = Protocol::parse(&port.protocol) {
        tls_fits_protocol(checker, server, protocol);
    }
}

fn check_port(checker: &mut Checker, value: &Port, is_unix: bool) {
    if !matches!(Protocol::parse(&value.protocol), Some(protocol) if protocol != Protocol::Udp) {
        checker
            .error(format!("invalid protocol `{}`", value.protocol))
            .fix("use HTTP, HTTP2, GRPC, GRPC-WEB, HTTPS, TLS, MONGO, REDIS, MYSQL or TCP");
    }
    if value.number > 0 || !is_unix {
        checker.field("number", |checker| port(checker, value.number));
    }
    if value.target_port > 0 {
        checker.error("targetPort has no effect on gateways").fix("leave it out");
    }
    if value.name.is_empty() {
        checker.error("the port has no name").fix("write `name: http`");
    }
}

fn tls_fits_protocol(checker: &mut Checker, server: &Server, protocol: Protocol) {
    match &server.tls {
        None if protocol.is_tls() => {
            checker.error("server must have TLS settings for HTTPS/TLS protocols");
        }
        Some(tls) if protocol.is_http() => {
            // `httpsRedirect` alone is what plain HTTP ports may carry.
            let passes_through = matches!(tls.mode(), TlSmode::Passthrough | TlSmode::AutoPassthrough);
            let has_files = [&tls.ca_certificates, &tls.private_key, &tls.server_certificate]
                .into_iter()
                .any(|file| !file.is_empty());
            if !passes_through || has_files {
                checker.error("server cannot have TLS settings for plain text HTTP ports");
            }
        }
        Some(_) if !protocol.is_tls() => {
            checker.error("server cannot have TLS settings for non HTTPS/TLS ports");
        }
        Some(_) | None => {}
    }
}
