//! Certificates: ours with their keys, and what is worth saying about anybody's.

use std::fmt;
use std::net::IpAddr;

use boring::asn1::{Asn1Time, Asn1TimeRef};
use boring::hash::MessageDigest;
use boring::nid::Nid;
use boring::pkey::{Id, PKey, Private};
use boring::x509::{X509, X509NameRef, X509Ref};

use crate::date::Utc;
use crate::limits::{NAMES_SHOWN_MAX, RSA_BITS_MIN};
use crate::settings::SettingsError;

/// A certificate of ours with its private key.
pub struct Certificate {
    pub(crate) chain: Vec<X509>,
    pub(crate) key: PKey<Private>,
    pub(crate) ocsp_staple: Option<Box<[u8]>>,
    facts: Facts,
    identity: [u8; 32],
}

impl Certificate {
    /// From a PEM chain, leaf first, and its PEM key. `ocsp_staple` is a DER response that clients are given with it.
    ///
    /// # Errors
    /// Not PEM, no certificate, a key that belongs to another one, or a key that is too weak.
    pub fn from_pem(
        chain: &[u8],
        key: &[u8],
        password: Option<&[u8]>,
        ocsp_staple: Option<&[u8]>,
    ) -> Result<Certificate, SettingsError> {
        let chain = certificates(chain)?;
        let leaf = chain.first().ok_or_else(|| SettingsError::new("holds no PEM certificate"))?;
        let facts = Facts::of(leaf);
        let key = match password {
            Some(password) => PKey::private_key_from_pem_passphrase(key, password),
            None => PKey::private_key_from_pem_callback(key, |_| Ok(0)),
        };
        let key =
            key.map_err(|_| SettingsError::new("the private key is not PEM, or its password is wrong"))?;
        let public = leaf
            .public_key()
            .map_err(|_| SettingsError::new(format!("{facts} has an unknown kind of key")))?;
        if !public.public_eq(&key) {
            return Err(SettingsError::new(format!(
                "the private key does not belong to the certificate {facts}"
            )));
        }
        match key.id() {
            Id::RSA if key.bits() < RSA_BITS_MIN => {
                let bits = key.bits();
                let text =
                    format!("the RSA key of {facts} has {bits} bits; at least {RSA_BITS_MIN} are needed");
                return Err(SettingsError::new(text));
            }
            Id::RSA => {}
            Id::EC => {
                let curve = key.ec_key().ok().and_then(|key| key.group().curve_name());
                if !curve.is_some_and(|curve| {
                    [Nid::X9_62_PRIME256V1, Nid::SECP384R1, Nid::SECP521R1].contains(&curve)
                }) {
                    return Err(SettingsError::new(format!(
                        "the key of {facts} is on none of P-256, P-384 and P-521"
                    )));
                }
            }
            _ => return Err(SettingsError::new(format!("the key of {facts} is neither RSA nor ECDSA"))),
        }
        let mut identity = boring::sha::Sha256::new();
        for certificate in &chain {
            identity.update(&certificate.to_der().map_err(SettingsError::library)?);
        }
        identity.update(ocsp_staple.unwrap_or_default());
        Ok(Certificate {
            chain,
            key,
            ocsp_staple: ocsp_staple.map(Into::into),
            facts,
            identity: identity.finish(),
        })
    }

    /// What it says.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// What each certificate of its chain says, leaf first.
    pub fn chain_facts(&self) -> Vec<Facts> {
        self.chain.iter().map(|certificate| Facts::of(certificate)).collect()
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Certificate) -> bool {
        // A key belongs to one certificate.
        self.identity == other.identity
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.facts)
    }
}

/// What each certificate of a PEM text says; nothing for a text that is none.
pub fn facts_of_pem(pem: &[u8]) -> Vec<Facts> {
    certificates(pem).map(|all| all.iter().map(|one| Facts::of(one)).collect()).unwrap_or_default()
}

/// The certificates of a PEM text.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<X509>, SettingsError> {
    X509::stack_from_pem(pem).map_err(|_| SettingsError::new("is not a text of PEM certificates"))
}

/// What a certificate says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// Subject, as RFC 2253 writes names.
    pub subject: String,
    /// Issuer, likewise.
    pub issuer: String,
    /// Serial number in lower-case hexadecimal.
    pub serial: String,
    /// Subject alternative names that are URIs, such as a SPIFFE id.
    pub uri_names: Vec<String>,
    /// Those that are DNS names.
    pub dns_names: Vec<String>,
    /// Those that are e-mail addresses.
    pub email_names: Vec<String>,
    /// Those that are IP addresses.
    pub ip_names: Vec<IpAddr>,
    /// First moment of its validity.
    pub not_before: Utc,
    /// Last moment of its validity.
    pub not_after: Utc,
    /// SHA-256 of its DER form.
    pub sha256: [u8; 32],
}

impl Facts {
    pub(crate) fn of(certificate: &X509Ref) -> Facts {
        let mut facts = Facts {
            subject: name(certificate.subject_name()),
            issuer: name(certificate.issuer_name()),
            serial: serial(certificate),
            not_before: time(certificate.not_before()),
            not_after: time(certificate.not_after()),
            ..Facts::default()
        };
        if let Ok(digest) = certificate.digest(MessageDigest::sha256())
            && let Ok(digest) = <[u8; 32]>::try_from(&*digest)
        {
            facts.sha256 = digest;
        }
        for name in certificate.subject_alt_names().iter().flatten() {
            if let Some(uri) = name.uri() {
                facts.uri_names.push(uri.to_owned());
            } else if let Some(name) = name.dnsname() {
                facts.dns_names.push(name.to_owned());
            } else if let Some(address) = name.email() {
                facts.email_names.push(address.to_owned());
            } else if let Some(bytes) = name.ipaddress() {
                let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
                facts.ip_names.extend(v4.or(<[u8; 16]>::try_from(bytes).map(IpAddr::from)));
            }
        }
        facts
    }

    /// All subject alternative names.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let texts = self.dns_names.iter().chain(&self.uri_names).chain(&self.email_names).cloned();
        texts.chain(self.ip_names.iter().map(IpAddr::to_string))
    }

    /// The SHA-256 in lower-case hexadecimal.
    pub fn fingerprint(&self) -> String {
        hexadecimal(&self.sha256)
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<String> = self.names().take(NAMES_SHOWN_MAX + 1).collect();
        if names.len() > NAMES_SHOWN_MAX {
            names[NAMES_SHOWN_MAX] = "…".to_owned();
        }
        let subject = if self.subject.is_empty() { "without a subject" } else { &self.subject };
        write!(
            f,
            "\"{subject}\" [{}], valid {} to {}, issued by \"{}\"",
            names.join(", "),
            self.not_before,
            self.not_after,
            self.issuer
        )
    }
}

fn name(name: &X509NameRef) -> String {
    name.print_ex(boring_sys::XN_FLAG_RFC2253).unwrap_or_default()
}

fn serial(certificate: &X509Ref) -> String {
    let number = certificate
        .serial_number()
        .to_bn()
        .and_then(|number| number.to_hex_str().map(|text| text.to_lowercase()));
    number.unwrap_or_default()
}

fn time(time: &Asn1TimeRef) -> Utc {
    let since_epoch = Asn1Time::from_unix(0).and_then(|epoch| epoch.diff(time));
    since_epoch.map_or(Utc(0), |diff| Utc(i64::from(diff.days) * 86_400 + i64::from(diff.secs)))
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
