//! Making certificates.

use std::net::IpAddr;

use boring::asn1::{Asn1Integer, Asn1Time};
use boring::bn::{BigNum, MsbOption};
use boring::ec::{EcGroup, EcKey};
use boring::error::ErrorStack;
use boring::hash::MessageDigest;
use boring::nid::Nid;
use boring::pkey::{PKey, Private};
use boring::rsa::Rsa;
use boring::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName,
    SubjectKeyIdentifier,
};
use boring::x509::{X509, X509Builder, X509NameBuilder};

use crate::date::Utc;
use crate::ffi;

/// Kinds of keys that are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on P-256.
    P256,
    /// RSA of so many bits.
    Rsa(u32),
}

/// What a certificate is to say.
#[derive(Clone, Debug)]
pub struct Request {
    /// Common name; empty leaves the subject empty.
    pub common_name: String,
    /// Names that are URIs.
    pub uri_names: Vec<String>,
    /// DNS names.
    pub dns_names: Vec<String>,
    /// IP addresses.
    pub ip_names: Vec<IpAddr>,
    /// First moment of its validity.
    pub not_before: Utc,
    /// Last moment of its validity.
    pub not_after: Utc,
    /// Whether servers may use it.
    pub for_servers: bool,
    /// Whether clients may use it.
    pub for_clients: bool,
    /// Whether it may issue certificates itself.
    pub is_authority: bool,
    /// Kind of its key.
    pub key: KeyKind,
}

impl Request {
    /// For servers and clients, with a key on P-256, without names.
    pub fn new(not_before: Utc, not_after: Utc) -> Request {
        Request {
            common_name: String::new(),
            uri_names: Vec::new(),
            dns_names: Vec::new(),
            ip_names: Vec::new(),
            not_before,
            not_after,
            for_servers: true,
            for_clients: true,
            is_authority: false,
            key: KeyKind::P256,
        }
    }
}

/// A certificate and its key.
#[derive(Clone)]
pub struct Issued {
    certificate: X509,
    key: PKey<Private>,
}

impl Issued {
    /// A certificate that signs itself.
    ///
    /// # Errors
    /// A name or date that cannot be written.
    pub fn self_signed(request: &Request) -> Result<Issued, ErrorStack> {
        make(request, None)
    }

    /// A certificate signed by this one.
    ///
    /// # Errors
    /// A name or date that cannot be written.
    pub fn issue(&self, request: &Request) -> Result<Issued, ErrorStack> {
        make(request, Some(self))
    }

    /// A list, in PEM, that revokes these certificates of this authority.
    ///
    /// # Errors
    /// A date that cannot be written.
    pub fn revocation_list(&self, revoked: &[&Issued], made: Utc, next: Utc) -> Result<Vec<u8>, ErrorStack> {
        let serials: Vec<_> = revoked.iter().map(|issued| issued.certificate.serial_number()).collect();
        let (made, next) = (Asn1Time::from_unix(made.0)?, Asn1Time::from_unix(next.0)?);
        ffi::revocation_list(&self.certificate, &self.key, &serials, &made, &next)
    }

    /// The certificate in PEM.
    ///
    /// # Errors
    /// No memory.
    pub fn certificate_pem(&self) -> Result<Vec<u8>, ErrorStack> {
        self.certificate.to_pem()
    }

    /// The private key in PEM (PKCS #8).
    ///
    /// # Errors
    /// No memory.
    pub fn key_pem(&self) -> Result<Vec<u8>, ErrorStack> {
        self.key.private_key_to_pem_pkcs8()
    }

    /// The SHA-256 of its public key (SPKI), as pins name it.
    ///
    /// # Errors
    /// No memory.
    pub fn key_sha256(&self) -> Result<[u8; 32], ErrorStack> {
        Ok(boring::sha::sha256(&self.key.public_key_to_der()?))
    }
}

fn make(request: &Request, issuer: Option<&Issued>) -> Result<Issued, ErrorStack> {
    let key = match request.key {
        KeyKind::P256 => {
            PKey::from_ec_key(EcKey::generate(&*EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?)?)?
        }
        KeyKind::Rsa(bits) => PKey::from_rsa(Rsa::generate(bits)?)?,
    };
    let mut name = X509NameBuilder::new()?;
    if !request.common_name.is_empty() {
        name.append_entry_by_text("CN", &request.common_name)?;
    }
    let name = name.build();
    let mut serial = BigNum::new()?;
    // 20 bytes at most, and positive. Source: RFC 5280 §4.1.2.2.
    serial.rand(159, MsbOption::MAYBE_ZERO, false)?;

    let mut builder: X509Builder = X509::builder()?;
    builder.set_version(2)?;
    builder.set_serial_number(&*Asn1Integer::from_bn(&serial)?)?;
    builder.set_subject_name(&name)?;
    builder.set_issuer_name(issuer.map_or(&*name, |issuer| issuer.certificate.subject_name()))?;
    builder.set_not_before(&*Asn1Time::from_unix(request.not_before.0)?)?;
    builder.set_not_after(&*Asn1Time::from_unix(request.not_after.0)?)?;
    builder.set_pubkey(&key)?;
    let mut constraints = BasicConstraints::new();
    constraints.critical();
    let mut usage = KeyUsage::new();
    usage.critical();
    if request.is_authority {
        constraints.ca();
        usage.key_cert_sign().crl_sign();
    } else {
        usage.digital_signature().key_encipherment();
    }
    builder.append_extension(&*constraints.build()?)?;
    builder.append_extension(&*usage.build()?)?;
    if !request.is_authority && (request.for_servers || request.for_clients) {
        let mut purposes = ExtendedKeyUsage::new();
        if request.for_servers {
            purposes.server_auth();
        }
        if request.for_clients {
            purposes.client_auth();
        }
        builder.append_extension(&*purposes.build()?)?;
    }
    let issuer_certificate = issuer.map(|issuer| &*issuer.certificate);
    let key_id = SubjectKeyIdentifier::new().build(&builder.x509v3_context(issuer_certificate, None))?;
    builder.append_extension(&key_id)?;
    if issuer.is_some() {
        let mut authority = AuthorityKeyIdentifier::new();
        let authority = authority.keyid(true).build(&builder.x509v3_context(issuer_certificate, None))?;
        builder.append_extension(&authority)?;
    }
    if !(request.uri_names.is_empty() && request.dns_names.is_empty() && request.ip_names.is_empty()) {
        let mut names = SubjectAlternativeName::new();
        // A subject that is empty makes them critical. Source: RFC 5280 §4.2.1.6.
        if request.common_name.is_empty() {
            names.critical();
        }
        for uri in &request.uri_names {
            names.uri(uri);
        }
        for dns in &request.dns_names {
            names.dns(dns);
        }
        for ip in &request.ip_names {
            names.ip(&ip.to_string());
        }
        let names = names.build(&builder.x509v3_context(issuer_certificate, None))?;
        builder.append_extension(&names)?;
    }
    let signer = issuer.map_or(&key, |issuer| &issuer.key);
    builder.sign(signer, MessageDigest::sha256())?;
    Ok(Issued { certificate: builder.build(), key })
}
