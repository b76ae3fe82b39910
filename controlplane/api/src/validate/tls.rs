//! TLS settings of clients (DestinationRule) and servers (Gateway, Sidecar ingress).

use std::collections::BTreeSet;

use crate::networking::client_tls_settings::TlSmode as ClientMode;
use crate::networking::server_tls_settings::{TlSmode as ServerMode, TlsProtocol};
use crate::networking::{ClientTlsSettings, ServerTlsSettings};
use crate::validate::checker::Checker;

/// Prefix of a credential that is a ConfigMap.
const CONFIG_MAP: &str = "configmap://";

/// Most certificates one server uses (one RSA, one ECDSA).
const SERVER_CERTIFICATES_MAX: usize = 2;

/// Cipher suites that are understood. Source: Istio's list, which is BoringSSL's.
const CIPHER_SUITES: [&str; 18] = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-PSK-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-PSK-AES128-CBC-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-PSK-AES256-CBC-SHA",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
    "DES-CBC3-SHA",
];

/// `trafficPolicy.tls`.
pub(crate) fn client(checker: &mut Checker, tls: &ClientTlsSettings, namespace: &str) {
    let mode = tls.mode();
    if let Some(name) = tls.credential_name.strip_prefix(CONFIG_MAP) {
        let own = name.split_once('/').is_none_or(|(of, _)| of == namespace);
        if name.is_empty() || !own {
            checker
                .error(format!("`credentialName: {}` is not in namespace {namespace}", tls.credential_name))
                .fix(format!("write `{CONFIG_MAP}{namespace}/NAME`"));
        }
    }
    if tls.insecure_skip_verify.unwrap_or_default() {
        let names_roots = !tls.ca_certificates.is_empty() || !tls.subject_alt_names.is_empty();
        let names_credential = !tls.credential_name.is_empty();
        let contradicts = match mode {
            ClientMode::Simple => names_roots || names_credential,
            ClientMode::Mutual => names_roots,
            ClientMode::Disable | ClientMode::IstioMutual => false,
        };
        if contradicts {
            checker
                .error("`insecureSkipVerify` excludes everything to verify with")
                .fix("leave one of them out");
        }
    }
    let uses_files = [&tls.client_certificate, &tls.private_key, &tls.ca_certificates, &tls.ca_crl]
        .into_iter()
        .any(|file| !file.is_empty());
    match mode {
        ClientMode::Simple | ClientMode::Mutual if !tls.credential_name.is_empty() => {
            if uses_files {
                checker.error("`credentialName` and files exclude each other");
            }
        }
        ClientMode::Mutual => {
            if tls.client_certificate.is_empty() {
                checker.error("MUTUAL needs `clientCertificate`");
            }
            if tls.private_key.is_empty() {
                checker.error("MUTUAL needs `privateKey`");
            }
        }
        ClientMode::Simple | ClientMode::Disable | ClientMode::IstioMutual => {}
    }
}

/// `servers[].tls` and `ingress[].tls`.
pub(crate) fn server(checker: &mut Checker, tls: &ServerTlsSettings) {
    ciphers(checker, tls);
    let mode = tls.mode();
    let sources = certificate_sources(tls);
    match mode {
        ServerMode::IstioMutual => {
            for (field, is_set) in [
                ("server certificate", !tls.server_certificate.is_empty()),
                ("private key", !tls.private_key.is_empty()),
                ("CA bundle", !tls.ca_certificates.is_empty()),
                ("tlsCertificates", !tls.tls_certificates.is_empty()),
                ("credentialName", !tls.credential_name.is_empty()),
                ("credentialNames", !tls.credential_names.is_empty()),
            ] {
                if is_set {
                    checker
                        .error(format!("ISTIO_MUTUAL TLS cannot have associated {field}"))
                        .fix("leave it out: the workload's own certificate is used");
                }
            }
            return;
        }
        ServerMode::Passthrough | ServerMode::AutoPassthrough => {
            let uses_any = sources > 0
                || [&tls.ca_crl, &tls.server_certificate, &tls.private_key, &tls.ca_certificates]
                    .into_iter()
                    .any(|file| !file.is_empty());
            if uses_any {
                checker.warning(format!("{} does not use certificates", mode.as_str_name()));
            }
        }
        ServerMode::Simple | ServerMode::Mutual | ServerMode::OptionalMutual => {}
    }
    if sources > 1 {
        checker.error(
            "only one of credential_name, credential_names, server_certificate/private_key, \
             tls_certificates should be specified",
        );
    }
    if matches!(mode, ServerMode::Simple | ServerMode::Mutual | ServerMode::OptionalMutual) {
        if !tls.credential_name.is_empty() || !tls.credential_names.is_empty() {
            return;
        }
        server_files(checker, tls, mode);
    }
    if !tls.ca_crl.is_empty() {
        if !tls.credential_name.is_empty() {
            checker.error("CRL is not supported with credentialName").fix("put it into the secret");
        }
        if mode == ServerMode::Simple {
            checker.error("CRL is not supported with SIMPLE TLS");
        }
    }
}

fn certificate_sources(tls: &ServerTlsSettings) -> usize {
    [
        !tls.server_certificate.is_empty() && !tls.private_key.is_empty(),
        !tls.credential_name.is_empty(),
        !tls.credential_names.is_empty(),
        !tls.tls_certificates.is_empty(),
    ]
    .into_iter()
    .filter(|is_set| *is_set)
    .count()
}

fn server_files(checker: &mut Checker, tls: &ServerTlsSettings, mode: ServerMode) {
    let kind = if mode == ServerMode::Simple { "SIMPLE TLS" } else { "MUTUAL TLS" };
    if mode != ServerMode::Simple && tls.ca_certificates.is_empty() {
        checker.error(format!("{kind} requires a client CA bundle")).fix("set `caCertificates`");
    }
    if tls.tls_certificates.len() > SERVER_CERTIFICATES_MAX {
        checker.warning(format!("{kind} can support up to {SERVER_CERTIFICATES_MAX} server certificates"));
    }
    let pairs: Vec<(&str, &str)> = match tls.tls_certificates.is_empty() {
        true => vec![(&tls.server_certificate, &tls.private_key)],
        false => {
            let certificates = tls.tls_certificates.iter();
            certificates.map(|pair| (pair.server_certificate.as_str(), pair.private_key.as_str())).collect()
        }
    };
    for (certificate, key) in pairs {
        if certificate.is_empty() {
            checker.error(format!("{kind} requires a server certificate")).fix("set `credentialName`");
        }
        if key.is_empty() {
            checker.error(format!("{kind} requires a private key")).fix("set `credentialName`");
        }
    }
}

fn ciphers(checker: &mut Checker, tls: &ServerTlsSettings) {
    let old = matches!(tls.min_protocol_version(), TlsProtocol::Tlsv10 | TlsProtocol::Tlsv11);
    if old && tls.cipher_suites.is_empty() {
        checker.warning(
            "TLS version below TLSV1_2 require setting compatible ciphers as by default they no longer \
             include compatible ciphers.",
        );
    }
    let (mut seen, mut twice, mut unknown) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for suite in &tls.cipher_suites {
        if !is_cipher_suite(suite) {
            unknown.insert(suite.as_str());
        } else if !seen.insert(suite.as_str()) {
            twice.insert(suite.as_str());
        }
    }
    for (what, suites) in [("invalid", unknown), ("duplicate", twice)] {
        if !suites.is_empty() {
            let list: Vec<&str> = suites.into_iter().collect();
            checker.warning(format!("ignoring {what} cipher suites: [{}]", list.join(" ")));
        }
    }
}

fn is_cipher_suite(name: &str) -> bool {
    CIPHER_SUITES.contains(&name) || matches!(name, "ALL" | "HIGH" | "FIPS" | "SSLv3" | "TLSv1" | "TLSv1.2")
}
