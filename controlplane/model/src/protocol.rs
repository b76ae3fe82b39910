//! Protocol of a service port: `appProtocol`, then the port's name, then well-known numbers.

/// How the traffic of a port is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// HTTP/1.1 upstream.
    Http,
    /// HTTP/2 upstream.
    Http2,
    /// HTTP/2 upstream; no inbound retries.
    Grpc,
    /// gRPC-Web: HTTP/1.1 upstream, bridged by gateways.
    GrpcWeb,
    /// An explicit HTTP proxy port; only a Sidecar may declare it.
    HttpProxy,
    /// TLS carrying HTTP, not terminated: routed by SNI.
    Https,
    /// Any TLS, not terminated: routed by SNI.
    Tls,
    /// Opaque bytes.
    Tcp,
    /// MongoDB, carried as TCP.
    Mongo,
    /// Redis, carried as TCP.
    Redis,
    /// MySQL, carried as TCP; the server speaks first.
    MySql,
    /// Not proxied.
    Udp,
    /// Not declared: the proxy looks at the first bytes.
    Auto,
}

/// Ports whose protocol cannot be sniffed because the server speaks first, or that are known databases; an undeclared
/// port with such a number is TCP. Source: Istio, protocol selection: SMTP, DNS, MySQL, MongoDB.
const WELL_KNOWN_TCP_PORTS: [u32; 4] = [25, 53, 3306, 27017];

impl Protocol {
    /// Decides the protocol of a Kubernetes Service port.
    ///
    /// `transport` is `TCP`, `UDP` or `SCTP`, empty meaning TCP. Only TCP is proxied.
    pub fn of_kubernetes_port(number: u32, name: &str, app_protocol: &str, transport: &str) -> Protocol {
        match transport {
            "" | "TCP" => {}
            _ => return Protocol::Udp,
        }
        let declared = if app_protocol.is_empty() { name } else { app_protocol };
        match declared {
            "kubernetes.io/h2c" => return Protocol::Http2,
            "kubernetes.io/ws" => return Protocol::Http,
            "kubernetes.io/wss" => return Protocol::Https,
            _ => {}
        }
        match Protocol::parse(declared) {
            Protocol::Auto if WELL_KNOWN_TCP_PORTS.contains(&number) => Protocol::Tcp,
            protocol => protocol,
        }
    }

    /// Decides the protocol of an Istio port, which declares it in `protocol`.
    pub fn of_istio_port(number: u32, protocol: &str) -> Protocol {
        match Protocol::parse(protocol) {
            Protocol::Auto if WELL_KNOWN_TCP_PORTS.contains(&number) => Protocol::Tcp,
            protocol => protocol,
        }
    }

    /// Reads the word before the first `-`, ignoring case. Unknown words mean [`Protocol::Auto`].
    pub fn parse(text: &str) -> Protocol {
        let text = text.to_ascii_lowercase();
        if text == "grpc-web" || text.starts_with("grpc-web-") {
            return Protocol::GrpcWeb;
        }
        match text.split('-').next().unwrap_or_default() {
            "http" => Protocol::Http,
            "http2" => Protocol::Http2,
            "grpc" => Protocol::Grpc,
            "http_proxy" => Protocol::HttpProxy,
            "https" => Protocol::Https,
            "tls" => Protocol::Tls,
            "tcp" => Protocol::Tcp,
            "mongo" => Protocol::Mongo,
            "redis" => Protocol::Redis,
            "mysql" => Protocol::MySql,
            "udp" => Protocol::Udp,
            _ => Protocol::Auto,
        }
    }

    /// Plaintext HTTP of any version.
    pub fn is_http(self) -> bool {
        matches!(
            self,
            Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::GrpcWeb | Protocol::HttpProxy
        )
    }

    /// HTTP/2 towards the upstream.
    pub fn is_http2(self) -> bool {
        matches!(self, Protocol::Http2 | Protocol::Grpc)
    }

    /// Carries TLS that is not terminated: chains may test the server name.
    pub fn is_tls(self) -> bool {
        matches!(self, Protocol::Https | Protocol::Tls)
    }

    /// Treated as bytes; includes TLS that is passed through and databases without a filter of their own.
    pub fn is_tcp(self) -> bool {
        matches!(
            self,
            Protocol::Tcp
                | Protocol::Https
                | Protocol::Tls
                | Protocol::Mongo
                | Protocol::Redis
                | Protocol::MySql
        )
    }

    /// The server may speak first and a filter of its own may be in the chain, so sniffing would break it.
    pub fn refuses_sniffing(self) -> bool {
        matches!(self, Protocol::Mongo | Protocol::MySql)
    }
}

#[cfg(test)]
mod tests {
    use super::Protocol::{self, *};

    #[test]
    fn app_protocol_wins_over_the_port_name() {
        assert_eq!(Protocol::of_kubernetes_port(80, "http", "tcp", "TCP"), Tcp);
        assert_eq!(Protocol::of_kubernetes_port(80, "tcp", "kubernetes.io/h2c", "TCP"), Http2);
    }

    #[test]
    fn port_name_counts_up_to_the_first_dash() {
        for (name, want) in [
            ("http", Http),
            ("HTTP-web", Http),
            ("grpc-web-x", GrpcWeb),
            ("grpc-api", Grpc),
            ("http2", Http2),
            ("https-a", Https),
            ("mysql", MySql),
            ("httpx", Auto),
            ("web", Auto),
            ("", Auto),
        ] {
            assert_eq!(Protocol::of_kubernetes_port(8080, name, "", ""), want, "{name}");
        }
    }

    #[test]
    fn undeclared_server_first_ports_are_tcp() {
        for number in [25, 53, 3306, 27017] {
            assert_eq!(Protocol::of_kubernetes_port(number, "", "", "TCP"), Tcp);
        }
        assert_eq!(Protocol::of_kubernetes_port(3306, "http", "", "TCP"), Http);
    }

    #[test]
    fn udp_is_not_proxied() {
        assert_eq!(Protocol::of_kubernetes_port(53, "http", "", "UDP"), Udp);
    }
}
