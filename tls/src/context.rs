//! Settings made ready for handshakes. One context per shard and settings, so that handshakes share nothing.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use boring::error::ErrorStack;
use boring::ex_data::Index;
use boring::ssl::{
    AlpnError, CompliancePolicy, Ssl, SslContext, SslContextBuilder, SslMethod, SslOptions, SslRef,
    SslSession, SslSessionCacheMode, SslVerifyError, SslVerifyMode, SslVersion, select_next_proto,
};

use crate::ffi;
use crate::session::{Session, Side};
use crate::settings::{
    Alpn, CIPHERS_DEFAULT, ClientSettings, GROUPS_DEFAULT, Parameters, ServerSettings, SettingsError, Version,
};
use crate::validation::{Validation, Verdict};

/// Where a session keeps what came of judging its peer.
pub(crate) static VERDICT: LazyLock<Index<Ssl, Verdict>> =
    LazyLock::new(|| Ssl::new_ex_index().expect("the process has memory for a table of three rows"));

/// Accepts sessions.
#[derive(Clone)]
pub struct ServerContext {
    context: SslContext,
    validation: Option<Arc<Validation>>,
}

impl ServerContext {
    /// Of these settings.
    ///
    /// # Errors
    /// Names that BoringSSL does not know, and settings that contradict each other.
    pub fn new(settings: &ServerSettings) -> Result<ServerContext, SettingsError> {
        if settings.certificates.is_empty() {
            return Err(SettingsError::new("has no certificate"));
        }
        let judges = settings.validation.as_ref().is_some_and(|validation| validation.judges());
        let accepts_any =
            settings.validation.as_ref().is_some_and(|validation| validation.rules().accept_untrusted);
        if settings.client_certificate_required && !judges && !accepts_any {
            return Err(SettingsError::new(
                "requires client certificates without a trusted certificate or pin to judge them by",
            ));
        }
        let mut context = builder(SslMethod::tls(), &settings.parameters)?;
        if !settings.client_cipher_order {
            context.set_options(SslOptions::CIPHER_SERVER_PREFERENCE);
        }
        for certificate in &settings.certificates {
            let staple = certificate.ocsp_staple.as_deref();
            ffi::add_credential(&mut context, &certificate.chain, &certificate.key, staple)
                .map_err(SettingsError::library)?;
        }
        judge(&mut context, settings.validation.clone(), settings.client_certificate_required)?;
        if !settings.alpn.is_empty() {
            let ours = settings.alpn.wire().to_vec();
            // Compat: a client that offers none of ours is served without one.
            context.set_alpn_select_callback(move |_, offered| {
                let agreed = select_next_proto(&ours, offered).ok_or(AlpnError::NOACK)?;
                // The answer has to be a part of what was offered.
                offered.windows(agreed.len()).find(|window| *window == agreed).ok_or(AlpnError::NOACK)
            });
        }
        // Tickets only: a table of sessions in memory would not be the other shards'.
        context.set_session_cache_mode(SslSessionCacheMode::OFF);
        match &settings.tickets {
            Some(keys) => ffi::set_ticket_keys(&mut context, keys.clone()),
            None => {
                context.set_options(SslOptions::NO_TICKET);
            }
        }
        context.set_session_id_context(&identity(settings)).map_err(SettingsError::library)?;
        Ok(ServerContext { context: context.build(), validation: settings.validation.clone() })
    }

    /// A session of a connection that was accepted.
    ///
    /// # Errors
    /// No memory.
    pub fn accept(&self) -> Result<Session, SettingsError> {
        let ssl = Ssl::new(&self.context).map_err(SettingsError::library)?;
        Session::new(ssl, Side::Server, self.validation.clone()).map_err(SettingsError::library)
    }
}

/// What a ticket must have been given under to be taken: other certificates or other rules make it worthless.
fn identity(settings: &ServerSettings) -> [u8; 32] {
    let mut hash = boring::sha::Sha256::new();
    for certificate in &settings.certificates {
        hash.update(&certificate.facts().sha256);
    }
    hash.update(&[u8::from(settings.client_certificate_required)]);
    if let Some(validation) = &settings.validation {
        hash.update(format!("{:?}", validation.rules()).as_bytes());
    }
    hash.update(settings.alpn.wire());
    hash.finish()
}

/// Sessions a client has been given and may come back with.
type Kept = Arc<Mutex<VecDeque<SslSession>>>;

/// Begins sessions.
#[derive(Clone)]
pub struct ClientContext {
    context: SslContext,
    settings: Arc<ClientSettings>,
    kept: Kept,
}

impl ClientContext {
    /// Of these settings.
    ///
    /// # Errors
    /// Names that BoringSSL does not know, and settings that contradict each other.
    pub fn new(settings: &Arc<ClientSettings>) -> Result<ClientContext, SettingsError> {
        let mut context = builder(SslMethod::tls(), &settings.parameters)?;
        if let Some(certificate) = &settings.certificate {
            ffi::add_credential(&mut context, &certificate.chain, &certificate.key, None)
                .map_err(SettingsError::library)?;
        }
        judge(&mut context, settings.validation.clone(), false)?;
        if !settings.alpn.is_empty() {
            context.set_alpn_protos(settings.alpn.wire()).map_err(SettingsError::library)?;
        }
        if settings
            .server_name
            .as_ref()
            .is_some_and(|name| name.is_empty() || name.len() > 255 || name.contains('\0'))
        {
            return Err(SettingsError::new("the server name has not 1 to 255 characters"));
        }
        let kept = Kept::default();
        let most = settings.sessions_kept as usize;
        if most > 0 {
            context.set_session_cache_mode(SslSessionCacheMode::CLIENT | SslSessionCacheMode::NO_INTERNAL);
            let kept = kept.clone();
            context.set_new_session_callback(move |_, session| {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.push_front(session);
                kept.truncate(most);
            });
        } else {
            context.set_session_cache_mode(SslSessionCacheMode::OFF);
        }
        Ok(ClientContext { context: context.build(), settings: settings.clone(), kept })
    }

    /// A session of a connection that was made. `alpn` replaces the protocols of the settings.
    ///
    /// # Errors
    /// No memory.
    pub fn connect(&self, alpn: Option<&Alpn>) -> Result<Session, SettingsError> {
        let mut ssl = Ssl::new(&self.context).map_err(SettingsError::library)?;
        if let Some(name) = &self.settings.server_name {
            ssl.set_hostname(name).map_err(SettingsError::library)?;
        }
        if let Some(alpn) = alpn {
            ssl.set_alpn_protos(alpn.wire()).map_err(SettingsError::library)?;
        }
        if let Some(session) = self.latest_session() {
            ffi::resume(&mut ssl, &session).map_err(SettingsError::library)?;
        }
        Session::new(ssl, Side::Client, None).map_err(SettingsError::library)
    }

    /// A ticket of TLS 1.3 is used once, as RFC 8446 §C.4 advises: who sees it twice knows that it is the same client.
    fn latest_session(&self) -> Option<SslSession> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.front()?.protocol_version() == SslVersion::TLS1_3 {
            kept.pop_front()
        } else {
            kept.front().cloned()
        }
    }

    /// The settings.
    pub fn settings(&self) -> &ClientSettings {
        &self.settings
    }
}

fn builder(method: SslMethod, parameters: &Parameters) -> Result<SslContextBuilder, SettingsError> {
    if parameters.version_min > parameters.version_max {
        return Err(SettingsError::new("the oldest TLS version allowed is later than the latest"));
    }
    let version = |version| match version {
        Version::Tls12 => SslVersion::TLS1_2,
        Version::Tls13 => SslVersion::TLS1_3,
    };
    let mut context = SslContextBuilder::new(method).map_err(SettingsError::library)?;
    context.set_min_proto_version(Some(version(parameters.version_min))).map_err(SettingsError::library)?;
    context.set_max_proto_version(Some(version(parameters.version_max))).map_err(SettingsError::library)?;
    let list =
        |own: &[String], default: &str| if own.is_empty() { default.to_owned() } else { own.join(":") };
    let ciphers = list(&parameters.ciphers, CIPHERS_DEFAULT);
    context
        .set_strict_cipher_list(&ciphers)
        .map_err(|_| unknown("cipher suites", &parameters.ciphers, &ciphers))?;
    let groups = list(&parameters.groups, GROUPS_DEFAULT);
    context
        .set_curves_list(&groups)
        .map_err(|_| unknown("key exchange groups", &parameters.groups, &groups))?;
    if !parameters.signature_algorithms.is_empty() {
        let algorithms = parameters.signature_algorithms.join(":");
        let result = context.set_sigalgs_list(&algorithms);
        result.map_err(|_| unknown("signature algorithms", &parameters.signature_algorithms, &algorithms))?;
    }
    if parameters.fips_202205 {
        context.set_compliance_policy(CompliancePolicy::FIPS_202205).map_err(SettingsError::library)?;
    }
    context.set_options(SslOptions::NO_RENEGOTIATION);
    Ok(context)
}

fn unknown(what: &str, own: &[String], all: &str) -> SettingsError {
    if own.is_empty() {
        SettingsError::new(format!("none of the {what} {all} is known"))
    } else {
        SettingsError::new(format!("the {what} {all:?} hold one that is not known"))
    }
}

/// Has every peer judged by `validation`, also when it resumes a session.
fn judge(
    context: &mut SslContextBuilder,
    validation: Option<Arc<Validation>>,
    required: bool,
) -> Result<(), SettingsError> {
    let server_asks = validation.is_some();
    if let Some(validation) = validation.as_ref().filter(|validation| !validation.rules().hide_authorities) {
        // So that a client with several certificates can choose. Clients' contexts have no use for it.
        for anchor in validation.anchors() {
            context.add_client_ca(anchor).map_err(SettingsError::library)?;
        }
    }
    let mut mode = SslVerifyMode::NONE;
    if server_asks {
        mode |= SslVerifyMode::PEER;
    }
    if required {
        mode |= SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT;
    }
    context.set_custom_verify_callback(mode, move |ssl: &mut SslRef| {
        let Some(validation) = &validation else { return Ok(()) };
        let (verdict, result) = validation.judge(ssl);
        ssl.replace_ex_data(*VERDICT, verdict);
        result.map_err(SslVerifyError::Invalid)
    });
    // BoringSSL does so for clients only; a server's session does it itself.
    ffi::reverify_on_resume(context);
    Ok(())
}

impl From<ErrorStack> for SettingsError {
    fn from(stack: ErrorStack) -> SettingsError {
        SettingsError::library(stack)
    }
}
