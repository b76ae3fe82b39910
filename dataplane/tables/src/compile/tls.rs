//! TLS contexts and secrets.

use std::sync::Arc;

use prost::Message;
use ringsail_tls::certificate::Certificate;
use ringsail_tls::context::{ClientContext, ServerContext};
use ringsail_tls::limits::{SESSIONS_KEPT_DEFAULT, SESSIONS_KEPT_MAX, TICKET_KEYS_MAX};
use ringsail_tls::settings::{Alpn, Parameters, Version};
use ringsail_tls::validation::{Expression, NameKind, NameMatcher, Rules, TextMatch};
use ringsail_tls::{TicketKey, TicketKeys};
use ringsail_xds::envoy::config::core::v3 as core;
use ringsail_xds::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use ringsail_xds::envoy::extensions::transport_sockets::tls::v3 as pb;
use ringsail_xds::envoy::r#type::matcher::v3 as matcher;

use super::FileSecret;
use super::context::Context;
use super::fingerprint::Fingerprint;
use super::matcher::string_match;
use super::value::{holds, unpack};
use crate::metadata::Value;
use crate::string_match::StringMatch;
use crate::strings::Str;
use crate::tls::{
    ClientTls, CommonTls, Given, PeerRules, Secret, Secrets, ServerTls, Tickets, TransportMatch, Transports,
};

/// The transport socket of a filter chain; `Some(None)` is plain TCP.
pub(super) fn downstream(
    cx: &mut Context<'_>,
    socket: &core::TransportSocket,
) -> Option<Option<Arc<ServerTls>>> {
    cx.at("transport_socket", |cx| {
        let Some(any) = tls_context::<pb::DownstreamTlsContext>(cx, socket)? else { return Some(None) };
        let tls = cx.at("typed_config", |cx| {
            unpack::<pb::DownstreamTlsContext>(cx, any).and_then(|value| server(cx, &value))
        });
        tls.map(|tls| Some(Arc::new(tls)))
    })
}

/// A transport socket towards a cluster, with the current path at it; `Some(None)` is plain TCP.
pub(super) fn upstream(
    cx: &mut Context<'_>,
    socket: &core::TransportSocket,
) -> Option<Option<Arc<ClientTls>>> {
    let Some(any) = tls_context::<pb::UpstreamTlsContext>(cx, socket)? else { return Some(None) };
    let tls = cx.at("typed_config", |cx| {
        unpack::<pb::UpstreamTlsContext>(cx, any).and_then(|value| client(cx, &value))
    });
    tls.map(|tls| Some(Arc::new(tls)))
}

/// All of a cluster's transport sockets.
pub(super) fn transports(
    cx: &mut Context<'_>,
    default: Option<&core::TransportSocket>,
    matches: &[ringsail_xds::envoy::config::cluster::v3::cluster::TransportSocketMatch],
) -> Option<Transports> {
    let default = match default {
        Some(socket) => cx.at("transport_socket", |cx| upstream(cx, socket))?,
        None => None,
    };
    let matches = cx.each("transport_socket_matches", matches, |cx, candidate| {
        let tls = match &candidate.transport_socket {
            Some(socket) => cx.at("transport_socket", |cx| upstream(cx, socket))?,
            None => return cx.refuse("transport_socket", "is not set"),
        };
        let conditions = candidate.r#match.as_ref().map(Value::from_proto);
        let conditions = match conditions {
            Some(Value::Struct(fields)) => fields,
            _ => Box::default(),
        };
        Some(TransportMatch { conditions, tls })
    });
    Some(Transports { matches, default })
}

/// The packed context of a socket that is TLS; `Some(None)` for plain TCP, anything else is refused.
fn tls_context<'a, M: prost::Name>(
    cx: &mut Context<'_>,
    socket: &'a core::TransportSocket,
) -> Option<Option<&'a prost_types::Any>> {
    match &socket.config_type {
        None if socket.name == "envoy.transport_sockets.raw_buffer" => Some(None),
        None => cx.refuse("name", format_args!("{:?} is not supported without settings", socket.name)),
        Some(core::transport_socket::ConfigType::TypedConfig(any)) if holds::<RawBuffer>(any) => Some(None),
        Some(core::transport_socket::ConfigType::TypedConfig(any)) if holds::<M>(any) => Some(Some(any)),
        Some(core::transport_socket::ConfigType::TypedConfig(any)) => {
            cx.refuse("typed_config", format_args!("type {:?} is for the other side", any.type_url))
        }
    }
}

fn server(cx: &mut Context<'_>, value: &pb::DownstreamTlsContext) -> Option<ServerTls> {
    use pb::downstream_tls_context::{OcspStaplePolicy, SessionTicketKeysType};
    let none = pb::CommonTlsContext::default();
    let source = value.common_tls_context.as_ref().unwrap_or(&none);
    let common = cx.at("common_tls_context", |cx| common(cx, source, &value.encode_to_vec()))?;
    if common.certificates.is_empty() {
        return cx.refuse("common_tls_context", "has no certificate");
    }
    if value.ocsp_staple_policy != OcspStaplePolicy::LenientStapling as i32 {
        return cx.refuse("ocsp_staple_policy", "only LENIENT_STAPLING is supported");
    }
    let tickets = match &value.session_ticket_keys_type {
        None | Some(SessionTicketKeysType::DisableStatelessSessionResumption(false)) => {
            Tickets::Own(cx.ticket_keys.clone())
        }
        Some(SessionTicketKeysType::DisableStatelessSessionResumption(true)) => Tickets::None,
        Some(SessionTicketKeysType::SessionTicketKeysSdsSecretConfig(config)) => {
            Tickets::Given(Given::Named(named(cx, "session_ticket_keys_sds_secret_config", config)?))
        }
        Some(SessionTicketKeysType::SessionTicketKeys(keys)) => {
            let given = if keys.keys.iter().any(is_file) {
                Given::Named(file_secret(cx, pb::secret::Type::SessionTicketKeys(keys.clone())))
            } else {
                Given::Here(cx.at("session_ticket_keys", |cx| ticket_keys(cx, keys))?)
            };
            Tickets::Given(given)
        }
    };
    let tls = ServerTls {
        common,
        client_certificate_required: value.require_client_certificate.unwrap_or(false),
        tickets,
        client_cipher_order: value.prefer_client_ciphers,
    };
    // With what is here already; what waits for secrets is tried when they come.
    if tls.secrets().next().is_none() {
        check_server(&tls, &Secrets::default()).or_else(|text| cx.refuse::<()>("", text).ok_or(())).ok()?;
    } else {
        tls.secrets().cloned().for_each(|name| cx.uses.secrets.push(name));
    }
    Some(tls)
}

fn client(cx: &mut Context<'_>, value: &pb::UpstreamTlsContext) -> Option<ClientTls> {
    let none = pb::CommonTlsContext::default();
    let source = value.common_tls_context.as_ref().unwrap_or(&none);
    let common = cx.at("common_tls_context", |cx| common(cx, source, &value.encode_to_vec()))?;
    if common.certificates.len() > 1 {
        return cx.refuse("common_tls_context", "a client has one certificate at most");
    }
    let sessions_kept = value.max_session_keys.unwrap_or(SESSIONS_KEPT_DEFAULT);
    if sessions_kept > SESSIONS_KEPT_MAX {
        return cx.refuse("max_session_keys", format_args!("is more than {SESSIONS_KEPT_MAX}"));
    }
    let tls = ClientTls { common, server_name: cx.intern_set(&value.sni), sessions_kept };
    if tls.secrets().next().is_none() {
        check_client(&tls, &Secrets::default()).or_else(|text| cx.refuse::<()>("", text).ok_or(())).ok()?;
    } else {
        tls.secrets().cloned().for_each(|name| cx.uses.secrets.push(name));
    }
    Some(tls)
}

/// Whether handshakes can be served with these secrets.
pub(super) fn check_server(tls: &ServerTls, secrets: &Secrets) -> Result<(), String> {
    ServerContext::new(&tls.settings(secrets)?).map(drop).map_err(|error| error.to_string())
}

/// The same of a client's.
pub(super) fn check_client(tls: &ClientTls, secrets: &Secrets) -> Result<(), String> {
    ClientContext::new(&Arc::new(tls.settings(secrets)?)).map(drop).map_err(|error| error.to_string())
}

fn common(cx: &mut Context<'_>, value: &pb::CommonTlsContext, whole: &[u8]) -> Option<CommonTls> {
    use pb::common_tls_context::ValidationContextType as Kind;
    let parameters = match &value.tls_params {
        Some(value) => cx.at("tls_params", |cx| parameters(cx, value))?,
        None => Parameters::default(),
    };
    // Compat: certificates in place win over named ones.
    let certificates = if value.tls_certificates.is_empty() {
        let field = "tls_certificate_sds_secret_configs";
        cx.each(field, &value.tls_certificate_sds_secret_configs, |cx, config| {
            named(cx, "", config).map(Given::Named)
        })
    } else {
        cx.each("tls_certificates", &value.tls_certificates, |cx, value| {
            let sources = [&value.certificate_chain, &value.private_key, &value.password, &value.ocsp_staple];
            if sources.into_iter().flatten().any(is_file) {
                return Some(Given::Named(file_secret(cx, pb::secret::Type::TlsCertificate(value.clone()))));
            }
            certificate(cx, value).map(Given::Here)
        })
    };
    let validation = match &value.validation_context_type {
        None => None,
        Some(Kind::ValidationContext(context)) => {
            Some(cx.at("validation_context", |cx| peer_rules(cx, context))?)
        }
        Some(Kind::ValidationContextSdsSecretConfig(config)) => {
            let secret = named(cx, "validation_context_sds_secret_config", config)?;
            Some(PeerRules { here: Rules::default(), secret: Some(secret) })
        }
        Some(Kind::CombinedValidationContext(both)) => cx.at("combined_validation_context", |cx| {
            let none = pb::CertificateValidationContext::default();
            let here = both.default_validation_context.as_ref().unwrap_or(&none);
            let rules = cx.at("default_validation_context", |cx| peer_rules(cx, here))?;
            if rules.secret.is_some() {
                return cx.refuse("default_validation_context", "files beside a secret are not supported");
            }
            let Some(config) = &both.validation_context_sds_secret_config else {
                return cx.refuse("validation_context_sds_secret_config", "is not set");
            };
            let secret = named(cx, "validation_context_sds_secret_config", config)?;
            Some(Some(PeerRules { secret: Some(secret), ..rules }))
        })?,
        // Refused by the table of fields.
        Some(
            Kind::ValidationContextCertificateProvider(_)
            | Kind::ValidationContextCertificateProviderInstance(_),
        ) => {
            return cx.refuse("", "certificate providers are not supported");
        }
    };
    // A peer that agrees on it begins with its metadata, which nobody here reads.
    let offered = value.alpn_protocols.iter().filter(|name| *name != "istio-peer-exchange");
    let alpn = match Alpn::new(offered.map(String::as_str)) {
        Ok(alpn) => alpn,
        Err(error) => return cx.refuse("alpn_protocols", error),
    };
    Some(CommonTls { fingerprint: Fingerprint::of(whole).0, parameters, certificates, validation, alpn })
}

fn named(cx: &mut Context<'_>, field: &str, config: &pb::SdsSecretConfig) -> Option<Str> {
    if config.name.is_empty() {
        return cx.refuse(field, "names no secret");
    }
    Some(cx.intern(&config.name))
}

fn peer_rules(cx: &mut Context<'_>, value: &pb::CertificateValidationContext) -> Option<PeerRules> {
    if [&value.trusted_ca, &value.crl].into_iter().flatten().any(is_file) {
        // Judged here as well, so that what is wrong beside the files is refused at once.
        let shown = pb::CertificateValidationContext { trusted_ca: None, crl: None, ..value.clone() };
        rules(cx, &shown)?;
        let secret = file_secret(cx, pb::secret::Type::ValidationContext(value.clone()));
        return Some(PeerRules { here: Rules::default(), secret: Some(secret) });
    }
    Some(PeerRules { here: rules(cx, value)?, secret: None })
}

fn parameters(cx: &mut Context<'_>, value: &pb::TlsParameters) -> Option<Parameters> {
    use pb::tls_parameters::{CompliancePolicy, TlsProtocol};
    let version = |cx: &mut Context<'_>, field, number, default| match TlsProtocol::try_from(number) {
        Ok(TlsProtocol::TlsAuto) => Some(default),
        Ok(TlsProtocol::TlSv12) => Some(Version::Tls12),
        Ok(TlsProtocol::TlSv13) => Some(Version::Tls13),
        Ok(TlsProtocol::TlSv10 | TlsProtocol::TlSv11) => {
            cx.refuse(field, "TLS 1.0 and 1.1 are not spoken (RFC 8996)")
        }
        Err(_) => cx.refuse(field, "is not known"),
    };
    let version_min =
        version(cx, "tls_minimum_protocol_version", value.tls_minimum_protocol_version, Version::Tls12)?;
    let version_max =
        version(cx, "tls_maximum_protocol_version", value.tls_maximum_protocol_version, Version::Tls13)?;
    let mut fips_202205 = false;
    for (index, policy) in value.compliance_policies.iter().enumerate() {
        match CompliancePolicy::try_from(*policy) {
            Ok(CompliancePolicy::Fips202205) => fips_202205 = true,
            Ok(CompliancePolicy::Cnsa2202603 | CompliancePolicy::Cnsa1202603) | Err(_) => {
                return cx.refuse(&format!("compliance_policies[{index}]"), "only FIPS_202205 is supported");
            }
        }
    }
    Some(Parameters {
        version_min,
        version_max,
        ciphers: value.cipher_suites.clone(),
        groups: value.ecdh_curves.clone(),
        signature_algorithms: value.signature_algorithms.clone(),
        fips_202205,
    })
}

fn certificate(cx: &mut Context<'_>, value: &pb::TlsCertificate) -> Option<Arc<Certificate>> {
    let chain = bytes(cx, "certificate_chain", value.certificate_chain.as_ref())?;
    let key = bytes(cx, "private_key", value.private_key.as_ref())?;
    let (Some(chain), Some(key)) = (chain, key) else {
        return cx.refuse("", "needs certificate_chain and private_key");
    };
    let password = bytes(cx, "password", value.password.as_ref())?;
    let staple = bytes(cx, "ocsp_staple", value.ocsp_staple.as_ref())?;
    match Certificate::from_pem(chain, key, password, staple) {
        Ok(certificate) => Some(Arc::new(certificate)),
        Err(error) => cx.refuse("", error),
    }
}

fn rules(cx: &mut Context<'_>, value: &pb::CertificateValidationContext) -> Option<Rules> {
    use pb::certificate_validation_context::TrustChainVerification;
    let pins = |cx: &mut Context<'_>, field: &str, list: &[String], read: fn(&str) -> Option<[u8; 32]>| {
        cx.each(field, list, |cx, text| match read(text) {
            Some(pin) => Some(pin),
            None => cx.refuse("", "is no SHA-256"),
        })
    };
    let trusted = bytes(cx, "trusted_ca", value.trusted_ca.as_ref())?.unwrap_or_default();
    let revocation_lists = bytes(cx, "crl", value.crl.as_ref())?;
    let typed =
        cx.each("match_typed_subject_alt_names", &value.match_typed_subject_alt_names, |cx, value| {
            use pb::subject_alt_name_matcher::SanType;
            let kind = match SanType::try_from(value.san_type) {
                Ok(SanType::Dns) => NameKind::Dns,
                Ok(SanType::Uri) => NameKind::Uri,
                Ok(SanType::IpAddress) => NameKind::Ip,
                Ok(SanType::Email) => NameKind::Email,
                Ok(SanType::OtherName) => return cx.refuse("san_type", "OTHER_NAME is not supported"),
                Ok(SanType::Unspecified) | Err(_) => return cx.refuse("san_type", "is not set"),
            };
            let Some(text) = &value.matcher else { return cx.refuse("matcher", "is not set") };
            cx.at("matcher", |cx| name_matcher(cx, Some(kind), text))
        });
    let untyped = cx.each("match_subject_alt_names", &value.match_subject_alt_names, |cx, text| {
        name_matcher(cx, None, text)
    });
    let accept_untrusted = match TrustChainVerification::try_from(value.trust_chain_verification) {
        Ok(TrustChainVerification::VerifyTrustChain) => false,
        Ok(TrustChainVerification::AcceptUntrusted) => true,
        Err(_) => return cx.refuse("trust_chain_verification", "is not known"),
    };
    Some(Rules {
        trusted: trusted.into(),
        revocation_lists: revocation_lists.map(Into::into),
        revocation_of_leaf_only: value.only_verify_leaf_cert_crl,
        names: typed.into_iter().chain(untyped).collect(),
        certificate_pins: pins(cx, "verify_certificate_hash", &value.verify_certificate_hash, hexadecimal)
            .into(),
        key_pins: pins(cx, "verify_certificate_spki", &value.verify_certificate_spki, base64).into(),
        allow_expired: value.allow_expired_certificate,
        accept_untrusted,
        depth_max: value.max_verify_depth,
        hide_authorities: value.suppress_client_ca_list,
    })
}

fn name_matcher(
    cx: &mut Context<'_>,
    kind: Option<NameKind>,
    value: &matcher::StringMatcher,
) -> Option<NameMatcher> {
    let owned = |text: &Str| text.to_string();
    let (text, ignore_case) = match string_match(cx, value)? {
        StringMatch::Exact(text) => (TextMatch::Exact(owned(&text)), false),
        StringMatch::ExactIgnoreCase(text) => (TextMatch::Exact(owned(&text)), true),
        StringMatch::Prefix(text) => (TextMatch::Prefix(owned(&text)), false),
        StringMatch::PrefixIgnoreCase(text) => (TextMatch::Prefix(owned(&text)), true),
        StringMatch::Suffix(text) => (TextMatch::Suffix(owned(&text)), false),
        StringMatch::SuffixIgnoreCase(text) => (TextMatch::Suffix(owned(&text)), true),
        StringMatch::Contains(text) => (TextMatch::Contains(owned(&text)), false),
        StringMatch::ContainsIgnoreCase(text) => (TextMatch::Contains(owned(&text)), true),
        StringMatch::Regex(regex) => {
            let source = regex.source().to_owned();
            let matches = Arc::new(move |text: &str| regex.matches(text.as_bytes()));
            (TextMatch::Expression(Expression { source, matches }), false)
        }
    };
    Some(NameMatcher { kind, text, ignore_case })
}

/// 64 digits, with or without colons between the bytes.
fn hexadecimal(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    let mut out = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

fn base64(text: &str) -> Option<[u8; 32]> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).ok()?.try_into().ok()
}

fn ticket_keys(cx: &mut Context<'_>, value: &pb::TlsSessionTicketKeys) -> Option<TicketKeys> {
    if value.keys.is_empty() || value.keys.len() > TICKET_KEYS_MAX {
        return cx.refuse("keys", format_args!("must be 1 to {TICKET_KEYS_MAX}"));
    }
    let keys = cx.each("keys", &value.keys, |cx, source| {
        let key = bytes(cx, "", Some(source))?.and_then(TicketKey::from_bytes);
        if key.is_none() {
            return cx.refuse("", "has not 80 bytes");
        }
        key
    });
    Some(TicketKeys::new(keys.into()))
}

/// The content of a source. Files are read before a secret comes here.
fn bytes<'a>(
    cx: &mut Context<'_>,
    field: &str,
    source: Option<&'a core::DataSource>,
) -> Option<Option<&'a [u8]>> {
    use core::data_source::Specifier;
    let Some(source) = source else { return Some(None) };
    match &source.specifier {
        None => Some(None),
        Some(Specifier::InlineBytes(bytes)) => Some(Some(&bytes[..])),
        Some(Specifier::InlineString(text)) => Some(Some(text.as_bytes())),
        Some(Specifier::Filename(name)) => cx.refuse(field, format_args!("file {name:?} was not read")),
        Some(Specifier::EnvironmentVariable(_)) => {
            cx.refuse(field, "environment variables as sources of secrets are not supported")
        }
    }
}

fn is_file(source: &core::DataSource) -> bool {
    matches!(source.specifier, Some(core::data_source::Specifier::Filename(_)))
}

/// What is in files becomes a secret of its own, which the agent makes and keeps up to date.
fn file_secret(cx: &mut Context<'_>, content: pb::secret::Type) -> Str {
    let message = pb::Secret { name: String::new(), r#type: Some(content) };
    let [high, low] = Fingerprint::of(&message.encode_to_vec()).0;
    // No name of a control plane begins so: it is not printable.
    let name = format!("\u{1}file:{high:016x}{low:016x}");
    let name = cx.intern(&name);
    let message = pb::Secret { name: name.to_string(), ..message };
    cx.uses.files.push(FileSecret { name: name.clone(), message: message.encode_to_vec().into() });
    name
}

/// A secret as it was delivered.
pub(super) fn secret(cx: &mut Context<'_>, value: &pb::Secret) -> Option<Secret> {
    match &value.r#type {
        Some(pb::secret::Type::TlsCertificate(value)) => {
            cx.at("tls_certificate", |cx| certificate(cx, value)).map(Secret::Certificate)
        }
        Some(pb::secret::Type::ValidationContext(value)) => {
            let rules = cx.at("validation_context", |cx| rules(cx, value))?;
            Some(Secret::Validation(Arc::new(rules)))
        }
        Some(pb::secret::Type::SessionTicketKeys(value)) => {
            cx.at("session_ticket_keys", |cx| ticket_keys(cx, value)).map(Secret::TicketKeys)
        }
        Some(pb::secret::Type::GenericSecret(_)) => Some(Secret::Other),
        None => cx.refuse("", "is of no kind"),
    }
}
