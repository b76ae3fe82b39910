//! Fields of TLS contexts and secrets.

use super::Rule::*;
use super::common::STRING_MATCHER;
use super::{Message, UNSUPPORTED, row};

pub(super) static DOWNSTREAM_TLS: Message = Message {
    name: "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
    fields: &[
        row(1, "common_tls_context", Message(&COMMON_TLS)),
        row(2, "require_client_certificate", Supported),
        row(3, "require_sni", RefusedUnlessZero("server names are matched by filter chains")),
        row(4, "session_ticket_keys", Message(&TICKET_KEYS)),
        row(5, "session_ticket_keys_sds_secret_config", Message(&SDS)),
        row(6, "session_timeout", Refused("tickets last as long as BoringSSL decides")),
        row(7, "disable_stateless_session_resumption", Supported),
        row(8, "ocsp_staple_policy", Supported),
        row(
            9,
            "full_scan_certs_on_sni_mismatch",
            Ignored("all certificates are tried, in order, whatever the server name"),
        ),
        row(10, "disable_stateful_session_resumption", Ignored("no table of sessions is kept")),
        row(11, "prefer_client_ciphers", Supported),
    ],
};

pub(super) static UPSTREAM_TLS: Message = Message {
    name: "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
    fields: &[
        row(1, "common_tls_context", Message(&COMMON_TLS)),
        row(2, "sni", Supported),
        row(3, "allow_renegotiation", RefusedUnlessZero("renegotiation is insecure")),
        row(4, "max_session_keys", Supported),
        row(5, "enforce_rsa_key_usage", Ignored("always enforced, as in Envoy")),
        row(6, "auto_host_sni", RefusedUnlessZero(UNSUPPORTED)),
        row(7, "auto_sni_san_validation", RefusedUnlessZero(UNSUPPORTED)),
    ],
};

static COMMON_TLS: Message = Message {
    name: "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext",
    fields: &[
        row(1, "tls_params", Message(&PARAMETERS)),
        row(2, "tls_certificates", Repeated(&CERTIFICATE)),
        row(3, "validation_context", Message(&VALIDATION)),
        row(4, "alpn_protocols", Supported),
        row(6, "tls_certificate_sds_secret_configs", Repeated(&SDS)),
        row(7, "validation_context_sds_secret_config", Message(&SDS)),
        row(8, "combined_validation_context", Message(&COMBINED)),
        row(9, "tls_certificate_certificate_provider", Refused(PROVIDERS)),
        row(10, "validation_context_certificate_provider", Refused(PROVIDERS)),
        row(11, "tls_certificate_certificate_provider_instance", Refused(PROVIDERS)),
        row(12, "validation_context_certificate_provider_instance", Refused(PROVIDERS)),
        row(13, "custom_handshaker", Refused("handshakes are BoringSSL's")),
        row(14, "tls_certificate_provider_instance", Refused(PROVIDERS)),
        row(15, "key_log", Refused("keys of sessions are written nowhere")),
        row(16, "custom_tls_certificate_selector", Refused("certificate selectors are not supported")),
    ],
};

const PROVIDERS: &str = "certificate providers are not supported";

static COMBINED: Message = Message {
    name: "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext.CombinedCertificateValidationContext",
    fields: &[
        row(1, "default_validation_context", Message(&VALIDATION)),
        row(2, "validation_context_sds_secret_config", Message(&SDS)),
        row(3, "validation_context_certificate_provider", Refused(PROVIDERS)),
        row(4, "validation_context_certificate_provider_instance", Refused(PROVIDERS)),
    ],
};

static SDS: Message = Message {
    name: "envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig",
    fields: &[row(1, "name", Supported), row(2, "sds_config", Ignored("whom to ask is the agent's matter"))],
};

static PARAMETERS: Message = Message {
    name: "envoy.extensions.transport_sockets.tls.v3.TlsParameters",
    fields: &[
        row(1, "tls_minimum_protocol_version", Supported),
        row(2, "tls_maximum_protocol_version", Supported),
        row(3, "cipher_suites", Supported),
        row(4, "ecdh_curves", Supported),
        row(5, "signature_algorithms", Supported),
        row(6, "compliance_policies", Supported),
    ],
};

/// A secret as it is delivered.
pub(super) static SECRET: Message = Message {
    name: "envoy.extensions.transport_sockets.tls.v3.Secret",
    fields: &[
        row(1, "name", Supported),
        row(2, "tls_certificate", Message(&CERTIFICATE)),
        row(3, "session_ticket_keys", Message(&TICKET_KEYS)),
        row(4, "validation_context", Message(&VALIDATION)),
        row(5, "generic_secret", Ignored("nothing here uses one; TLS that names it is refused")),
    ],
};

static CERTIFICATE: Message = Message {
    name: "envoy.extensions.transport_sockets.tls.v3.TlsCertificate",
    fields: &[
        row(1, "certificate_chain", Message(&SOURCE)),
        row(2, "private_key", Message(&SOURCE)),
        row(3, "password", Message(&SOURCE)),
        row(4, "ocsp_staple", Message(&SOURCE)),
        row(5, "signed_certificate_timestamp", Refused(UNSUPPORTED)),
        row(6, "private_key_provider", Refused("private keys are in memory")),
        row(7, "watched_directory", Ignored("files of secrets are followed through any kind of change")),
        row(8, "pkcs12", Refused("only PEM is read")),
        row(9, "tls_params", Refused("settings of single certificates are not supported")),
    ],
};

static TICKET_KEYS: Message = Message {
    name: "envoy.extensions.transport_sockets.tls.v3.TlsSessionTicketKeys",
    fields: &[row(1, "keys", Repeated(&SOURCE))],
};

/// Where the bytes of a secret are.
static SOURCE: Message = Message {
    name: "envoy.config.core.v3.DataSource",
    fields: &[
        row(1, "filename", Supported),
        row(2, "inline_bytes", Supported),
        row(3, "inline_string", Supported),
        row(4, "environment_variable", Refused("the environment is not read from configuration")),
        row(5, "watched_directory", Ignored("files of secrets are followed through any kind of change")),
    ],
};

static VALIDATION: Message = Message {
    name: "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext",
    fields: &[
        row(1, "trusted_ca", Message(&SOURCE)),
        row(2, "verify_certificate_hash", Supported),
        row(3, "verify_certificate_spki", Supported),
        row(6, "require_signed_certificate_timestamp", RefusedUnlessZero(UNSUPPORTED)),
        row(7, "crl", Message(&SOURCE)),
        row(8, "allow_expired_certificate", Supported),
        row(9, "match_subject_alt_names", Repeated(&STRING_MATCHER)),
        row(10, "trust_chain_verification", Supported),
        row(11, "watched_directory", Ignored("files of secrets are followed through any kind of change")),
        row(12, "custom_validator_config", Refused("custom validators are not supported")),
        row(13, "ca_certificate_provider_instance", Refused(PROVIDERS)),
        row(14, "only_verify_leaf_cert_crl", Supported),
        row(15, "match_typed_subject_alt_names", Repeated(&SAN_MATCHER)),
        row(16, "max_verify_depth", Supported),
        row(17, "system_root_certs", Refused("name the file: system roots differ between images")),
        row(18, "suppress_client_ca_list", Supported),
    ],
};

static SAN_MATCHER: Message = Message {
    name: "envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher",
    fields: &[
        row(1, "san_type", Supported),
        row(2, "matcher", Message(&STRING_MATCHER)),
        row(3, "oid", Refused("OTHER_NAME is not supported")),
    ],
};
