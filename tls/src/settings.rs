//! What a listener or a cluster asks of TLS: checked once, shared by all shards.

use std::fmt;
use std::sync::Arc;

use boring::error::ErrorStack;

use crate::certificate::Certificate;
use crate::limits::ALPN_BYTES_MAX;
use crate::tickets::TicketKeys;
use crate::validation::Validation;

/// Why settings are refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SettingsError(String);

impl SettingsError {
    pub(crate) fn new(text: impl Into<String>) -> SettingsError {
        SettingsError(text.into())
    }

    pub(crate) fn library(stack: ErrorStack) -> SettingsError {
        let reasons: Vec<String> = stack
            .errors()
            .iter()
            .filter_map(|error| error.reason())
            .map(|reason| reason.to_lowercase().replace('_', " "))
            .collect();
        SettingsError(if reasons.is_empty() {
            "the TLS library gives no reason".to_owned()
        } else {
            reasons.join("; ")
        })
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SettingsError {}

/// A protocol version. Older ones are not spoken (RFC 8996).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// Versions and algorithms. Source: `TlsParameters`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Oldest version.
    pub version_min: Version,
    /// Latest version.
    pub version_max: Version,
    /// Cipher suites of TLS 1.2 in BoringSSL's syntax; empty means [`CIPHERS_DEFAULT`]. Those of TLS 1.3 are not chosen.
    pub ciphers: Vec<String>,
    /// Key exchange groups by preference; empty means [`GROUPS_DEFAULT`].
    pub groups: Vec<String>,
    /// Signature algorithms by preference; empty means BoringSSL's.
    pub signature_algorithms: Vec<String>,
    /// Only what NIST SP 800-52r2 allows. Source: `compliance_policies: FIPS_202205`.
    pub fips_202205: bool,
}

/// Source: Envoy's default list.
pub const CIPHERS_DEFAULT: &str = "[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]:\
    [ECDHE-RSA-AES128-GCM-SHA256|ECDHE-RSA-CHACHA20-POLY1305]:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384";

/// The hybrid with ML-KEM first: what is recorded today stays secret when large quantum computers exist. A peer that
/// does not know it takes the next.
///
/// Compat: Envoy's default ends before it; nothing that Envoy speaks is missing.
pub const GROUPS_DEFAULT: &str = "X25519MLKEM768:X25519:P-256";

impl Default for Parameters {
    fn default() -> Parameters {
        Parameters {
            version_min: Version::Tls12,
            version_max: Version::Tls13,
            ciphers: Vec::new(),
            groups: Vec::new(),
            signature_algorithms: Vec::new(),
            fips_202205: false,
        }
    }
}

/// Application protocols by preference, in the form they are sent in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alpn(Box<[u8]>);

impl Alpn {
    /// From their names.
    ///
    /// # Errors
    /// A name that is empty or longer than 255 bytes, or too many of them.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Alpn, SettingsError> {
        let mut wire = Vec::new();
        for name in names {
            let length = u8::try_from(name.len()).ok().filter(|length| *length > 0);
            let length =
                length.ok_or_else(|| SettingsError::new(format!("{name:?} has not 1 to 255 bytes")))?;
            wire.push(length);
            wire.extend_from_slice(name.as_bytes());
        }
        if wire.len() > ALPN_BYTES_MAX {
            return Err(SettingsError::new(format!("the protocols have more than {ALPN_BYTES_MAX} bytes")));
        }
        Ok(Alpn(wire.into()))
    }

    /// As it is sent. Source: RFC 7301 §3.1.
    pub fn wire(&self) -> &[u8] {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let (length, behind) = rest.split_first()?;
            let (name, behind) = behind.split_at_checked((*length).into())?;
            rest = behind;
            Some(name)
        })
    }
}

/// A server's settings. Source: `DownstreamTlsContext`.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerSettings {
    /// Versions and algorithms.
    pub parameters: Parameters,
    /// Certificates; the first that suits the client is shown.
    pub certificates: Vec<Arc<Certificate>>,
    /// How client certificates are judged; `None` asks for none.
    pub validation: Option<Arc<Validation>>,
    /// Whether a client without a certificate is refused.
    pub client_certificate_required: bool,
    /// Application protocols by preference. A client that offers none of them is served without one.
    pub alpn: Alpn,
    /// Keys of session tickets; `None` gives out none.
    pub tickets: Option<TicketKeys>,
    /// Takes ciphers in the client's order of preference.
    pub client_cipher_order: bool,
}

/// A client's settings. Source: `UpstreamTlsContext`.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientSettings {
    /// Versions and algorithms.
    pub parameters: Parameters,
    /// The certificate for servers that ask for one.
    pub certificate: Option<Arc<Certificate>>,
    /// How the server's certificate is judged; `None` accepts any.
    pub validation: Option<Arc<Validation>>,
    /// The server name asked for.
    pub server_name: Option<String>,
    /// Application protocols offered.
    pub alpn: Alpn,
    /// Sessions kept for resumption.
    pub sessions_kept: u32,
}
