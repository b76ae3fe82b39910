//! Values that few formats show, and that cost more than a copy: they are looked up only when a format asks.

/// A value that the engine looks up for formats that show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extra {
    /// Of an expression. The engine knows the language.
    Expression {
        /// The expression.
        text: String,
        /// Whether JSON shows the value with its own type (`TYPED_CEL`).
        typed: bool,
    },
    /// Of an object that a filter left (`FILTER_STATE`).
    FilterState {
        /// The object's key.
        key: String,
        /// How it is shown.
        form: FilterStateForm,
    },
    /// Of the TLS handshake of either side.
    Tls(TlsValue),
    /// Name of the listener.
    ListenerName,
    /// The endpoint's name.
    HostName,
}

/// How an object of the filter state is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilterStateForm {
    /// As the message it stands for; the default.
    Typed,
    /// As text.
    Plain,
    /// One of its fields.
    Field(String),
}

/// What kind of value was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtraKind {
    /// Text.
    Text,
    /// JSON: written into JSON as it is, and shown as it is in text.
    Json,
}

macro_rules! tls_values {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal,)*) => {
        /// What a TLS connection tells.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum TlsValue { $($(#[doc = $doc])* $variant,)* }

        impl TlsValue {
            /// The value that an operator of this name shows.
            pub(super) fn named(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

tls_values! {
    /// URI names in the client's certificate.
    DownstreamPeerUriSan = "DOWNSTREAM_PEER_URI_SAN",
    /// DNS names in the client's certificate.
    DownstreamPeerDnsSan = "DOWNSTREAM_PEER_DNS_SAN",
    /// IP addresses in the client's certificate.
    DownstreamPeerIpSan = "DOWNSTREAM_PEER_IP_SAN",
    /// Mail addresses in the client's certificate.
    DownstreamPeerEmailSan = "DOWNSTREAM_PEER_EMAIL_SAN",
    /// Other names in the client's certificate.
    DownstreamPeerOtherNameSan = "DOWNSTREAM_PEER_OTHERNAME_SAN",
    /// Subject of the client's certificate.
    DownstreamPeerSubject = "DOWNSTREAM_PEER_SUBJECT",
    /// Issuer of the client's certificate.
    DownstreamPeerIssuer = "DOWNSTREAM_PEER_ISSUER",
    /// Serial number of the client's certificate.
    DownstreamPeerSerial = "DOWNSTREAM_PEER_SERIAL",
    /// The client's certificate, PEM, URL-encoded.
    DownstreamPeerCert = "DOWNSTREAM_PEER_CERT",
    /// SHA-1 of the client's certificate.
    DownstreamPeerFingerprint1 = "DOWNSTREAM_PEER_FINGERPRINT_1",
    /// SHA-256 of the client's certificate.
    DownstreamPeerFingerprint256 = "DOWNSTREAM_PEER_FINGERPRINT_256",
    /// SHA-1 of every certificate of the client.
    DownstreamPeerChainFingerprints1 = "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1",
    /// SHA-256 of every certificate of the client.
    DownstreamPeerChainFingerprints256 = "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256",
    /// Serial number of every certificate of the client.
    DownstreamPeerChainSerials = "DOWNSTREAM_PEER_CHAIN_SERIALS",
    /// SHA-256 of the certificate that signed the client's.
    DownstreamPeerIssuerFingerprint256 = "DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256",
    /// Serial number of the certificate that signed the client's.
    DownstreamPeerIssuerSerial = "DOWNSTREAM_PEER_ISSUER_SERIAL",
    /// When the client's certificate begins, in seconds since the epoch.
    DownstreamPeerCertStart = "DOWNSTREAM_PEER_CERT_V_START",
    /// When the client's certificate ends, in seconds since the epoch.
    DownstreamPeerCertEnd = "DOWNSTREAM_PEER_CERT_V_END",
    /// URI names in our certificate towards the client.
    DownstreamLocalUriSan = "DOWNSTREAM_LOCAL_URI_SAN",
    /// DNS names in our certificate towards the client.
    DownstreamLocalDnsSan = "DOWNSTREAM_LOCAL_DNS_SAN",
    /// IP addresses in our certificate towards the client.
    DownstreamLocalIpSan = "DOWNSTREAM_LOCAL_IP_SAN",
    /// Mail addresses in our certificate towards the client.
    DownstreamLocalEmailSan = "DOWNSTREAM_LOCAL_EMAIL_SAN",
    /// Other names in our certificate towards the client.
    DownstreamLocalOtherNameSan = "DOWNSTREAM_LOCAL_OTHERNAME_SAN",
    /// Subject of our certificate towards the client.
    DownstreamLocalSubject = "DOWNSTREAM_LOCAL_SUBJECT",
    /// Cipher of the downstream connection.
    DownstreamTlsCipher = "DOWNSTREAM_TLS_CIPHER",
    /// TLS version of the downstream connection.
    DownstreamTlsVersion = "DOWNSTREAM_TLS_VERSION",
    /// Session id of the downstream connection.
    DownstreamTlsSessionId = "DOWNSTREAM_TLS_SESSION_ID",
    /// Group of the key agreement of the downstream connection.
    DownstreamTlsGroup = "DOWNSTREAM_TLS_GROUP",
    /// Milliseconds until the client's handshake was complete.
    DownstreamHandshakeDuration = "DOWNSTREAM_HANDSHAKE_DURATION",
    /// JA3 fingerprint of the client's hello.
    Ja3Fingerprint = "TLS_JA3_FINGERPRINT",
    /// JA4 fingerprint of the client's hello.
    Ja4Fingerprint = "TLS_JA4_FINGERPRINT",
    /// URI names in the upstream's certificate.
    UpstreamPeerUriSan = "UPSTREAM_PEER_URI_SAN",
    /// DNS names in the upstream's certificate.
    UpstreamPeerDnsSan = "UPSTREAM_PEER_DNS_SAN",
    /// IP addresses in the upstream's certificate.
    UpstreamPeerIpSan = "UPSTREAM_PEER_IP_SAN",
    /// Subject of the upstream's certificate.
    UpstreamPeerSubject = "UPSTREAM_PEER_SUBJECT",
    /// Issuer of the upstream's certificate.
    UpstreamPeerIssuer = "UPSTREAM_PEER_ISSUER",
    /// The upstream's certificate, PEM, URL-encoded.
    UpstreamPeerCert = "UPSTREAM_PEER_CERT",
    /// When the upstream's certificate begins, in seconds since the epoch.
    UpstreamPeerCertStart = "UPSTREAM_PEER_CERT_V_START",
    /// When the upstream's certificate ends, in seconds since the epoch.
    UpstreamPeerCertEnd = "UPSTREAM_PEER_CERT_V_END",
    /// URI names in our certificate towards the upstream.
    UpstreamLocalUriSan = "UPSTREAM_LOCAL_URI_SAN",
    /// DNS names in our certificate towards the upstream.
    UpstreamLocalDnsSan = "UPSTREAM_LOCAL_DNS_SAN",
    /// IP addresses in our certificate towards the upstream.
    UpstreamLocalIpSan = "UPSTREAM_LOCAL_IP_SAN",
    /// Cipher of the upstream connection.
    UpstreamTlsCipher = "UPSTREAM_TLS_CIPHER",
    /// TLS version of the upstream connection.
    UpstreamTlsVersion = "UPSTREAM_TLS_VERSION",
    /// Session id of the upstream connection.
    UpstreamTlsSessionId = "UPSTREAM_TLS_SESSION_ID",
    /// Group of the key agreement of the upstream connection.
    UpstreamTlsGroup = "UPSTREAM_TLS_GROUP",
    /// Server name that was asked of the upstream.
    UpstreamServerName = "UPSTREAM_SERVER_NAME",
}

impl TlsValue {
    /// Whether it is a moment, which operators write in a format.
    pub(super) fn is_time(self) -> bool {
        matches!(
            self,
            Self::DownstreamPeerCertStart
                | Self::DownstreamPeerCertEnd
                | Self::UpstreamPeerCertStart
                | Self::UpstreamPeerCertEnd
        )
    }
}
