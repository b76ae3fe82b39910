//! Judging a peer's certificate.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use boring::ssl::{SslAlert, SslRef};
use boring::stack::Stack;
use boring::x509::store::{X509Store, X509StoreBuilder};
use boring::x509::verify::X509VerifyFlags;
use boring::x509::{X509, X509Ref, X509StoreContext, X509VerifyError};

use crate::certificate::{Facts, certificates};
use crate::error::TlsError;
use crate::ffi;
use crate::limits::VERIFY_DEPTH_MAX;
use crate::settings::SettingsError;

/// What a certificate must be to be accepted. Source: `CertificateValidationContext`.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Rules {
    /// Certificates that are trusted, PEM. Empty judges no chain; then there must be pins, or nothing is judged.
    pub trusted: Arc<[u8]>,
    /// Revocation lists, PEM.
    pub revocation_lists: Option<Arc<[u8]>>,
    /// Whether only the leaf must be on no list.
    pub revocation_of_leaf_only: bool,
    /// Names one of which the certificate must have; empty accepts any.
    pub names: Vec<NameMatcher>,
    /// SHA-256 of whole certificates, one of which it must be (or have one of the keys below).
    pub certificate_pins: Vec<[u8; 32]>,
    /// SHA-256 of public keys (SPKI), one of which it must have.
    pub key_pins: Vec<[u8; 32]>,
    /// Whether dates are not looked at.
    pub allow_expired: bool,
    /// Whether whatever is wrong with the certificate is noted and not acted on. Source: `ACCEPT_UNTRUSTED`.
    pub accept_untrusted: bool,
    /// Longest chain between leaf and anchor; `None` means [`VERIFY_DEPTH_MAX`].
    pub depth_max: Option<u32>,
    /// Whether clients are not told which authorities are trusted.
    pub hide_authorities: bool,
}

/// One way a subject alternative name may match. Source: `SubjectAltNameMatcher`.
#[derive(Clone, Debug)]
pub struct NameMatcher {
    /// Which kind of name is looked at; `None` looks at all.
    pub kind: Option<NameKind>,
    /// What it must be.
    pub text: TextMatch,
    /// Whether case is ignored (exact, prefix, suffix and contains).
    pub ignore_case: bool,
}

/// Kinds of subject alternative names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// A DNS name; an exact matcher understands a wildcard in the certificate.
    Dns,
    /// A URI.
    Uri,
    /// An IP address.
    Ip,
    /// An e-mail address.
    Email,
}

/// A condition on a text.
#[derive(Clone, Debug)]
pub enum TextMatch {
    /// All of it.
    Exact(String),
    /// Its beginning.
    Prefix(String),
    /// Its end.
    Suffix(String),
    /// A part of it.
    Contains(String),
    /// An expression that must match all of it.
    Expression(Expression),
}

/// A regular expression, compiled by whoever knows its dialect.
#[derive(Clone)]
pub struct Expression {
    /// As it is written.
    pub source: String,
    /// Whether all of a text matches.
    pub matches: Arc<dyn Fn(&str) -> bool + Send + Sync>,
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.source)
    }
}

impl PartialEq for TextMatch {
    fn eq(&self, other: &TextMatch) -> bool {
        match (self, other) {
            (TextMatch::Exact(a), TextMatch::Exact(b))
            | (TextMatch::Prefix(a), TextMatch::Prefix(b))
            | (TextMatch::Suffix(a), TextMatch::Suffix(b))
            | (TextMatch::Contains(a), TextMatch::Contains(b)) => a == b,
            (TextMatch::Expression(a), TextMatch::Expression(b)) => a.source == b.source,
            _ => false,
        }
    }
}

impl PartialEq for NameMatcher {
    fn eq(&self, other: &NameMatcher) -> bool {
        self.kind == other.kind && self.ignore_case == other.ignore_case && self.text == other.text
    }
}

/// Rules made ready.
pub struct Validation {
    rules: Rules,
    store: Option<X509Store>,
    anchors: Vec<X509>,
}

/// What came of judging a certificate.
#[derive(Default)]
pub(crate) struct Verdict {
    /// Why it was refused.
    pub(crate) failure: Option<Box<TlsError>>,
    /// It was judged and found good.
    pub(crate) validated: bool,
}

impl Validation {
    /// Makes rules ready.
    ///
    /// # Errors
    /// Texts that are not PEM; names without trusted certificates, because anyone can write any name.
    pub fn new(rules: Rules) -> Result<Validation, SettingsError> {
        let anchors = if rules.trusted.is_empty() { Vec::new() } else { certificates(&rules.trusted)? };
        if anchors.is_empty() && !rules.trusted.is_empty() {
            return Err(SettingsError::new("the trusted certificates are not PEM"));
        }
        if anchors.is_empty() && !rules.names.is_empty() {
            return Err(SettingsError::new(
                "names are matched without trusted certificates, and anyone can write any name",
            ));
        }
        if anchors.is_empty() && rules.revocation_lists.is_some() {
            return Err(SettingsError::new("revocation lists without trusted certificates say nothing"));
        }
        let store = if anchors.is_empty() { None } else { Some(store(&rules, &anchors)?) };
        Ok(Validation { rules, store, anchors })
    }

    /// The rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// What the trusted certificates say.
    pub fn anchor_facts(&self) -> Vec<Facts> {
        self.anchors.iter().map(|anchor| Facts::of(anchor)).collect()
    }

    pub(crate) fn anchors(&self) -> &[X509] {
        &self.anchors
    }

    /// Whether it judges anything.
    pub fn judges(&self) -> bool {
        self.store.is_some() || self.has_pins()
    }

    fn has_pins(&self) -> bool {
        !self.rules.certificate_pins.is_empty() || !self.rules.key_pins.is_empty()
    }

    /// Judges what the peer has shown. The error is the alert it is sent.
    pub(crate) fn judge(&self, ssl: &SslRef) -> (Verdict, Result<(), SslAlert>) {
        let whose = if ssl.is_server() { "client" } else { "server" };
        let Some(leaf) = ssl.peer_certificate() else {
            // Whether one is needed was decided before.
            return (Verdict::default(), Ok(()));
        };
        match self.examine(ssl, &leaf, whose) {
            Ok(()) => (Verdict { failure: None, validated: self.judges() }, Ok(())),
            Err(_) if self.rules.accept_untrusted => (Verdict::default(), Ok(())),
            Err((error, alert)) => (Verdict { failure: Some(Box::new(error)), validated: false }, Err(alert)),
        }
    }

    fn examine(&self, ssl: &SslRef, leaf: &X509Ref, whose: &str) -> Result<(), (TlsError, SslAlert)> {
        if let Some(store) = &self.store {
            self.examine_chain(ssl, store, leaf, whose)?;
        }
        if !self.rules.names.is_empty() {
            let facts = Facts::of(leaf);
            if !self.rules.names.iter().any(|matcher| matcher.matches(&facts)) {
                let names: Vec<String> = facts.names().collect();
                let wanted: Vec<String> =
                    self.rules.names.iter().take(8).map(NameMatcher::to_string).collect();
                let text = format!(
                    "the {whose}'s certificate is refused: none of its names is {}: {facts}",
                    wanted.join(" or ")
                );
                let details =
                    format!("verify cert failed: SAN matcher, certificate SANs are [{}]", names.join(", "));
                return Err((TlsError::refused(text, &details), SslAlert::BAD_CERTIFICATE));
            }
        }
        if self.has_pins() && !self.is_pinned(leaf) {
            let facts = Facts::of(leaf);
            let text = format!(
                "the {whose}'s certificate is refused: neither it (SHA-256 {}) nor its key is one of the pinned ones: {facts}",
                facts.fingerprint()
            );
            return Err((
                TlsError::refused(text, "verify cert failed: cert hash and spki"),
                SslAlert::BAD_CERTIFICATE,
            ));
        }
        Ok(())
    }

    fn is_pinned(&self, leaf: &X509Ref) -> bool {
        let whole = leaf.to_der().map(|der| boring::sha::sha256(&der));
        let key =
            leaf.public_key().and_then(|key| key.public_key_to_der()).map(|der| boring::sha::sha256(&der));
        whole.is_ok_and(|hash| self.rules.certificate_pins.contains(&hash))
            || key.is_ok_and(|hash| self.rules.key_pins.contains(&hash))
    }

    fn examine_chain(
        &self,
        ssl: &SslRef,
        store: &X509Store,
        leaf: &X509Ref,
        whose: &str,
    ) -> Result<(), (TlsError, SslAlert)> {
        let purpose = if ssl.is_server() { c"ssl_client" } else { c"ssl_server" };
        let library = |stack| (TlsError::ours(&stack), SslAlert::INTERNAL_ERROR);
        let mut untrusted = Stack::new().map_err(library)?;
        for certificate in ssl.peer_cert_chain().into_iter().flatten() {
            untrusted.push(certificate.to_owned()).map_err(library)?;
        }
        let mut context = X509StoreContext::new().map_err(library)?;
        let outcome = context.init(store, leaf, &untrusted, |context| {
            // Sets what the certificate must be made for (extended key usage) as well.
            ffi::set_purpose(context, purpose)?;
            context
                .verify_param_mut()
                .set_depth(self.rules.depth_max.unwrap_or(VERIFY_DEPTH_MAX).min(VERIFY_DEPTH_MAX) as _);
            if context.verify_cert()? {
                return Ok(None);
            }
            let error = context.verify_result().err();
            Ok(Some((error, context.error_depth(), context.current_cert().map(Facts::of))))
        });
        let Some((error, depth, at)) = outcome.map_err(library)? else { return Ok(()) };
        let reason = error.map_or("unknown", |error| error.error_string());
        let facts = at.unwrap_or_else(|| Facts::of(leaf));
        let which = match depth {
            0 => format!("the {whose}'s certificate is refused"),
            _ => format!("a certificate above the {whose}'s (at depth {depth}) is refused"),
        };
        let text = format!("{which}: {}: {facts}", plain(error, reason, &facts, whose));
        let details = format!(
            "verify cert failed: X509_verify_cert: certificate verification error at depth {depth}: {reason}"
        );
        Err((TlsError::refused(text, &details), alert(error)))
    }
}

fn plain(error: Option<X509VerifyError>, reason: &str, facts: &Facts, whose: &str) -> String {
    let purpose = if whose == "client" { "clients" } else { "servers" };
    match error {
        Some(X509VerifyError::CERT_HAS_EXPIRED) => format!("it expired on {}", facts.not_after),
        Some(X509VerifyError::CERT_NOT_YET_VALID) => format!("it is valid only from {}", facts.not_before),
        Some(X509VerifyError::CERT_REVOKED) => "it is revoked".to_owned(),
        Some(X509VerifyError::UNABLE_TO_GET_CRL) => "no revocation list of its issuer is here".to_owned(),
        Some(X509VerifyError::CRL_HAS_EXPIRED) => "the revocation list of its issuer has expired".to_owned(),
        Some(X509VerifyError::DEPTH_ZERO_SELF_SIGNED_CERT | X509VerifyError::SELF_SIGNED_CERT_IN_CHAIN) => {
            "it is signed by itself and is not trusted here".to_owned()
        }
        Some(X509VerifyError::UNABLE_TO_GET_ISSUER_CERT_LOCALLY) if facts.subject == facts.issuer => {
            "it is signed by itself and is not trusted here".to_owned()
        }
        Some(
            X509VerifyError::UNABLE_TO_GET_ISSUER_CERT | X509VerifyError::UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
        ) => "its issuer is not trusted here, or an intermediate certificate was not sent".to_owned(),
        Some(X509VerifyError::UNABLE_TO_VERIFY_LEAF_SIGNATURE | X509VerifyError::CERT_SIGNATURE_FAILURE) => {
            "its signature is not its issuer's".to_owned()
        }
        Some(X509VerifyError::INVALID_PURPOSE) => {
            format!("its extended key usage does not allow {purpose}")
        }
        Some(X509VerifyError::INVALID_CA) => "its issuer is not allowed to issue certificates".to_owned(),
        Some(X509VerifyError::CERT_CHAIN_TOO_LONG) => {
            "the chain to a trusted certificate is too long".to_owned()
        }
        _ => reason.to_owned(),
    }
}

fn alert(error: Option<X509VerifyError>) -> SslAlert {
    match error {
        Some(X509VerifyError::CERT_HAS_EXPIRED | X509VerifyError::CERT_NOT_YET_VALID) => {
            SslAlert::CERTIFICATE_EXPIRED
        }
        Some(X509VerifyError::CERT_REVOKED) => SslAlert::CERTIFICATE_REVOKED,
        Some(X509VerifyError::INVALID_PURPOSE) => SslAlert::UNSUPPORTED_CERTIFICATE,
        Some(
            X509VerifyError::DEPTH_ZERO_SELF_SIGNED_CERT
            | X509VerifyError::SELF_SIGNED_CERT_IN_CHAIN
            | X509VerifyError::UNABLE_TO_GET_ISSUER_CERT
            | X509VerifyError::UNABLE_TO_GET_ISSUER_CERT_LOCALLY
            | X509VerifyError::UNABLE_TO_VERIFY_LEAF_SIGNATURE
            | X509VerifyError::INVALID_CA
            | X509VerifyError::CERT_CHAIN_TOO_LONG
            | X509VerifyError::UNABLE_TO_GET_CRL,
        ) => SslAlert::UNKNOWN_CA,
        _ => SslAlert::BAD_CERTIFICATE,
    }
}

fn store(rules: &Rules, anchors: &[X509]) -> Result<X509Store, SettingsError> {
    let mut store = X509StoreBuilder::new().map_err(SettingsError::library)?;
    for anchor in anchors {
        store.add_cert(anchor).map_err(SettingsError::library)?;
    }
    // Compat: what is listed as trusted is trusted, be it an intermediate certificate.
    let mut flags = X509VerifyFlags::PARTIAL_CHAIN;
    if rules.allow_expired {
        flags |= ffi::no_check_time();
    }
    if let Some(lists) = &rules.revocation_lists {
        let count = ffi::add_revocation_lists(&mut store, lists);
        let count = count.map_err(|_| SettingsError::new("the revocation lists are not PEM"))?;
        if count == 0 {
            return Err(SettingsError::new("holds no PEM revocation list"));
        }
        flags |= X509VerifyFlags::CRL_CHECK;
        if !rules.revocation_of_leaf_only {
            flags |= X509VerifyFlags::CRL_CHECK_ALL;
        }
    }
    store.set_flags(flags);
    Ok(store.build())
}

impl NameMatcher {
    /// Whether one of a certificate's names is what is wanted.
    pub fn matches(&self, facts: &Facts) -> bool {
        let wants = |kind| self.kind.is_none_or(|wanted| wanted == kind);
        (wants(NameKind::Dns) && facts.dns_names.iter().any(|name| self.dns_matches(name)))
            || (wants(NameKind::Uri) && facts.uri_names.iter().any(|name| self.text_matches(name)))
            || (wants(NameKind::Email) && facts.email_names.iter().any(|name| self.text_matches(name)))
            || (wants(NameKind::Ip) && facts.ip_names.iter().any(|address| self.ip_matches(*address)))
    }

    fn ip_matches(&self, address: IpAddr) -> bool {
        match &self.text {
            // However either is written.
            TextMatch::Exact(wanted) => wanted.parse() == Ok(address),
            _ => self.text_matches(&address.to_string()),
        }
    }

    /// Compat: of an exact matcher, `*.a.example` in the certificate stands for any one label, as in RFC 6125 §6.4.3; a
    /// star elsewhere stands for itself.
    fn dns_matches(&self, name: &str) -> bool {
        let TextMatch::Exact(wanted) = &self.text else { return self.text_matches(name) };
        if wanted.eq_ignore_ascii_case(name) {
            return true;
        }
        let (Some(rest), Some((label, domain))) = (name.strip_prefix("*."), wanted.split_once('.')) else {
            return false;
        };
        // A name under a top-level domain is too much for one certificate.
        rest.contains('.') && !label.is_empty() && domain.eq_ignore_ascii_case(rest)
    }

    fn text_matches(&self, text: &str) -> bool {
        let folded = |text: &str| if self.ignore_case { text.to_ascii_lowercase() } else { text.to_owned() };
        match &self.text {
            TextMatch::Exact(wanted) => folded(text) == folded(wanted),
            TextMatch::Prefix(wanted) => folded(text).starts_with(&folded(wanted)),
            TextMatch::Suffix(wanted) => folded(text).ends_with(&folded(wanted)),
            TextMatch::Contains(wanted) => folded(text).contains(&folded(wanted)),
            TextMatch::Expression(wanted) => (wanted.matches)(text),
        }
    }
}

impl fmt::Display for NameMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            TextMatch::Exact(text) => write!(f, "\"{text}\""),
            TextMatch::Prefix(text) => write!(f, "\"{text}…\""),
            TextMatch::Suffix(text) => write!(f, "\"…{text}\""),
            TextMatch::Contains(text) => write!(f, "\"…{text}…\""),
            TextMatch::Expression(expression) => write!(f, "{expression:?}"),
        }
    }
}

impl fmt::Debug for Validation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rules.fmt(f)
    }
}

impl PartialEq for Validation {
    fn eq(&self, other: &Validation) -> bool {
        self.rules == other.rules
    }
}
