//! What went wrong, in words for people and in Envoy's for scripts.

use std::fmt;

use boring::error::ErrorStack;

/// Whose fault a failed session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The peer's: its certificate, its messages, or what it offers.
    Peer,
    /// The peer says it is ours: it sent an alert.
    PeerBlamesUs,
    /// Ours: settings or resources.
    Ours,
}

/// Why a session ended or never began.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsError {
    fault: Fault,
    text: String,
    compat: String,
}

impl TlsError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// The reason as Envoy writes it in `%UPSTREAM_TRANSPORT_FAILURE_REASON%` and `%DOWNSTREAM_TRANSPORT_FAILURE_REASON%`.
    pub fn compat(&self) -> &str {
        &self.compat
    }

    pub(crate) fn refused(text: String, details: &str) -> TlsError {
        TlsError {
            fault: Fault::Peer,
            text,
            compat: format!(
                "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:{details}:TLS_error_end"
            ),
        }
    }

    pub(crate) fn closed() -> TlsError {
        TlsError {
            fault: Fault::Peer,
            text: "the peer closed the connection in the middle of the TLS handshake".to_owned(),
            compat: String::new(),
        }
    }

    pub(crate) fn of_stack(stack: &ErrorStack) -> TlsError {
        let mut compat = String::from("TLS_error:");
        let mut text = String::new();
        let mut fault = Fault::Peer;
        for error in stack.errors() {
            let reason = error.reason().unwrap_or("unknown");
            // Envoy prints the packed number; comparing it is what is deprecated.
            #[expect(deprecated)]
            let code = error.code();
            compat.push_str(&format!(
                "|{code}:{}:OPENSSL_internal:{reason}",
                error.library().unwrap_or("unknown library")
            ));
            if !text.is_empty() {
                text.push_str("; ");
            }
            match plain(reason) {
                Some(words) => text.push_str(words),
                None => text.push_str(&reason.to_lowercase().replace('_', " ")),
            }
            if reason.contains("_ALERT_") {
                fault = Fault::PeerBlamesUs;
            }
        }
        compat.push_str(":TLS_error_end");
        if text.is_empty() {
            text.push_str("the TLS library gives no reason");
        }
        TlsError { fault, text, compat }
    }

    pub(crate) fn ours(stack: &ErrorStack) -> TlsError {
        TlsError { fault: Fault::Ours, ..TlsError::of_stack(stack) }
    }
}

/// Words for the reasons that operators meet.
fn plain(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "HTTP_REQUEST" => "the client speaks plain HTTP to a TLS port",
        "WRONG_VERSION_NUMBER" => "the peer does not speak TLS on this port",
        "UNSUPPORTED_PROTOCOL" => "the peer offers no TLS version that is allowed here",
        "NO_SHARED_CIPHER" => "the client offers no cipher that is allowed here or fits our certificate",
        "NO_SHARED_GROUP" => "the client offers no key exchange group that is allowed here",
        "NO_COMMON_SIGNATURE_ALGORITHMS" => {
            "the client knows no signature algorithm that our certificates can make"
        }
        "PEER_DID_NOT_RETURN_A_CERTIFICATE" => {
            "a client certificate is required and the client has sent none"
        }
        "NO_APPLICATION_PROTOCOL" => "none of the client's application protocols (ALPN) is served here",
        "SSLV3_ALERT_HANDSHAKE_FAILURE" => {
            "the peer refused the handshake: it may want a client certificate, or shares no version or cipher with us"
        }
        "TLSV1_ALERT_UNKNOWN_CA" => "the peer does not trust the authority that signed our certificate",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED" => "the peer says that our certificate has expired",
        "SSLV3_ALERT_CERTIFICATE_REVOKED" => "the peer says that our certificate is revoked",
        "SSLV3_ALERT_BAD_CERTIFICATE" => "the peer refuses our certificate",
        "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE" => "the peer cannot use our kind of certificate",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN" => "the peer refuses our certificate without a reason",
        "TLSV1_ALERT_CERTIFICATE_REQUIRED" => "the peer requires a client certificate and we have sent none",
        "TLSV1_ALERT_PROTOCOL_VERSION" => "the peer allows none of the TLS versions we offer",
        "TLSV1_ALERT_NO_APPLICATION_PROTOCOL" => {
            "the peer serves none of the application protocols (ALPN) we offer"
        }
        "TLSV1_UNRECOGNIZED_NAME" | "TLSV1_ALERT_UNRECOGNIZED_NAME" => {
            "the peer does not serve the server name we asked for"
        }
        "TLSV1_ALERT_DECRYPT_ERROR" => "the peer could not verify what we sent",
        "TLSV1_ALERT_ACCESS_DENIED" => "the peer denies us access",
        "DECRYPTION_FAILED_OR_BAD_RECORD_MAC" => "what came was changed on its way, or the peer lost count",
        _ => return None,
    })
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text, self.compat)
    }
}

impl std::error::Error for TlsError {}
