//! TLS to Postgres, with libpq's meaning of every `sslmode`.
//!
//! Owns: which certificates are accepted for which host, and the hash that binds SCRAM to the channel.
//! Does not: open sockets, or decide whether TLS is tried (`dial`).
//! Holds: whatever is not verified, the peer always proves that it holds the key of the certificate it shows; without
//! that a channel binding would bind to anybody who copied the certificate.
//! Fails: [`crate::error::Kind::Config`] for files and certificates, transient for the rest.
//!
//! The modes: <https://www.postgresql.org/docs/current/libpq-ssl.html>

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, SubjectPublicKeyInfoDer,
    UnixTime,
};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use sha2::{Digest, Sha256, Sha384, Sha512};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList,
    RevocationOptionsBuilder,
};
use x509_cert::Certificate;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::options::{ConnectOptions, RootCertificates, SslMode};
use super::socket::Socket;
use crate::error::{Error, Result};

/// Shakes hands over a connection on which the server agreed to TLS.
pub(super) async fn handshake(
    tcp: Socket,
    host: &str,
    options: &ConnectOptions,
) -> Result<TlsStream<Socket>> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| Error::config(format!("`{host}` is no host name or address")).caused_by(error))?;
    let connector = TlsConnector::from(Arc::new(client_config(options)?));
    connector.connect(name, tcp).await.map_err(|error| handshake_error(host, error))
}

fn handshake_error(host: &str, error: std::io::Error) -> Error {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(reason)) => {
            let hint = certificate_hint(reason);
            Error::config(format!("the certificate of {host} is not accepted")).hint(hint).caused_by(error)
        }
        // The server refuses our certificate, or there is no common version or cipher.
        Some(rustls::Error::AlertReceived(alert)) => {
            Error::config(format!("{host} ends the TLS handshake")).hint(alert_hint(*alert)).caused_by(error)
        }
        Some(rustls::Error::PeerIncompatible(_)) => Error::config(format!("{host} has no TLS that is safe enough"))
            .hint("TLS 1.2 or 1.3 with the ciphers of today: ssl_min_protocol_version and ssl_ciphers in its postgresql.conf")
            .caused_by(error),
        _ => Error::transient(format!("TLS with {host}")).caused_by(error),
    }
}

/// A server that refuses our certificate says so behind the handshake, as far as we see it (TLS 1.3).
pub(super) fn refusal(error: &std::io::Error) -> Option<Error> {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => Some(
            Error::config(format!("the server ends the TLS session: {alert:?}")).hint(alert_hint(*alert)),
        ),
        _ => None,
    }
}

fn alert_hint(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::CertificateExpired => {
            "our certificate has expired: sslcert and sslkey name a new one"
        }
        AlertDescription::CertificateRevoked => {
            "our certificate was taken back (ssl_crl_file): sslcert and sslkey name a new one"
        }
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::DecryptError
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown => {
            "our certificate is not one that the server trusts: an authority of its ssl_ca_file has to sign what sslcert names"
        }
        AlertDescription::CertificateRequired => "the server wants a certificate of ours: sslcert and sslkey",
        _ => "the server's log says why",
    }
}

fn certificate_hint(reason: &CertificateError) -> &'static str {
    match reason {
        CertificateError::UnknownIssuer => "name the authority's certificate with sslrootcert=FILE",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "connect by a name that the certificate has, or use sslmode=verify-ca"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired: the server needs a new certificate"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet: is the clock of this machine right?"
        }
        CertificateError::Revoked => {
            "sslcrl says that its authority took it back: the server needs a new certificate"
        }
        CertificateError::UnknownRevocationStatus => {
            "sslcrl has no list of the authority that signed it: add that list to the file"
        }
        CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. } => {
            "a list in sslcrl is out of date: get the authority's newest one"
        }
        // Webpki knows it by no name of its own. That of Debian's postgres and of `openssl req -x509` is of this kind.
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "the server shows the certificate of an authority, or one that signed itself: an authority has to sign another one for the server, and sslrootcert=FILE names the authority"
        }
        _ => "the server needs a certificate of X.509 version 3 with its name as subjectAltName",
    }
}

fn client_config(options: &ConnectOptions) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier::new(options, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::bug("TLS versions").caused_by(error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let (Some(certificate), Some(key)) = (&options.sslcert, &options.sslkey) else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = read_certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| {
        Error::config(format!("private key {}", key.display()))
            .hint("PKCS#8, PKCS#1 or SEC1 in PEM, without a passphrase")
            .caused_by(error)
    })?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| Error::config("sslcert and sslkey do not fit").caused_by(error))
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let unreadable = |error| Error::config(format!("certificate file {}", path.display())).caused_by(error);
    let certificates = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
    let certificates = certificates.collect::<std::result::Result<Vec<_>, _>>().map_err(unreadable)?;
    if certificates.is_empty() {
        return Err(Error::config(format!("certificate file {} holds no certificate", path.display())));
    }
    Ok(certificates)
}

fn read_revocations(path: &Path) -> Result<Vec<CertRevocationList<'static>>> {
    let name = path.display();
    let unreadable = |error| Error::config(format!("revocation list {name}")).caused_by(error);
    let mut lists = Vec::new();
    for list in CertificateRevocationListDer::pem_file_iter(path).map_err(unreadable)? {
        let list = OwnedCertRevocationList::from_der(list.map_err(unreadable)?.as_ref());
        let list = list.map_err(|error| {
            Error::config(format!("revocation list {name} cannot be read")).caused_by(error.to_string())
        })?;
        lists.push(list.into());
    }
    if lists.is_empty() {
        return Err(Error::config(format!("{name} holds no revocation list"))
            .hint("PEM, between `-----BEGIN X509 CRL-----` and its end"));
    }
    Ok(lists)
}

/// What is asked of a server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    Nothing,
    Chain,
    ChainAndName,
}

impl Check {
    /// libpq verifies the chain whenever it was given a root certificate, whatever the mode.
    fn of(options: &ConnectOptions) -> Check {
        match options.sslmode {
            SslMode::VerifyFull => Check::ChainAndName,
            SslMode::VerifyCa => Check::Chain,
            SslMode::Disable | SslMode::Allow | SslMode::Prefer | SslMode::Require => {
                if options.sslrootcert.is_some() { Check::Chain } else { Check::Nothing }
            }
        }
    }
}

/// Accepts what libpq accepts, as far as webpki can read the certificate.
#[derive(Debug)]
struct Verifier {
    check: Check,
    roots: RootCertStore,
    /// The roots as they were given: a self-signed server certificate may be its own root.
    given: Vec<CertificateDer<'static>>,
    /// Certificates that were taken back.
    revoked: Vec<CertRevocationList<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn new(options: &ConnectOptions, provider: &CryptoProvider) -> Result<Verifier> {
        let check = Check::of(options);
        let given = match (&options.sslrootcert, check) {
            (_, Check::Nothing) => Vec::new(),
            (Some(RootCertificates::File(path)), _) => read_certificates(path)?,
            (Some(RootCertificates::System) | None, _) => rustls_native_certs::load_native_certs().certs,
        };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(given.iter().cloned());
        if check != Check::Nothing && given.is_empty() {
            return Err(Error::config("this system has no trusted root certificates").hint(
                "install the ca-certificates package, or name the authority's certificate with sslrootcert=FILE",
            ));
        }
        let revoked = match (&options.sslcrl, check) {
            (Some(path), Check::Chain | Check::ChainAndName) => read_revocations(path)?,
            (Some(_), Check::Nothing) => {
                return Err(Error::config("sslcrl looks up certificates that sslmode does not check")
                    .hint("sslmode=verify-full"));
            }
            (None, _) => Vec::new(),
        };
        Ok(Verifier { check, roots, given, revoked, algorithms: provider.signature_verification_algorithms })
    }

    fn verify_chain(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        // `openssl req -x509` makes authorities, which webpki takes as roots only and not as servers.
        if self.given.iter().any(|root| root.as_ref() == certificate.as_ref()) {
            return verify_validity(certificate, now);
        }
        let parsed = ParsedCertificate::try_from(certificate)?;
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        self.verify_not_revoked(certificate, intermediates, now)
    }

    /// With a list, every certificate of the chain has to be known as good, as libpq has it.
    fn verify_not_revoked(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let lists: Vec<&CertRevocationList<'_>> = self.revoked.iter().collect();
        let Ok(lookup) = RevocationOptionsBuilder::new(&lists) else { return Ok(()) };
        let lookup = lookup.with_expiration_policy(ExpirationPolicy::Enforce).build();
        let parsed = EndEntityCert::try_from(certificate).map_err(|_| CertificateError::BadEncoding)?;
        let usage = KeyUsage::server_auth();
        parsed
            .verify_for_usage(
                self.algorithms.all,
                &self.roots.roots,
                intermediates,
                now,
                usage,
                Some(lookup),
                None,
            )
            .map(drop)
            .map_err(|error| match error {
                webpki::Error::CertRevoked => CertificateError::Revoked.into(),
                webpki::Error::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus.into(),
                webpki::Error::CrlExpired { .. } => CertificateError::ExpiredRevocationList.into(),
                _ => CertificateError::ApplicationVerificationFailure.into(),
            })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.check != Check::Nothing {
            self.verify_chain(certificate, intermediates, now)?;
        }
        if self.check == Check::ChainAndName {
            verify_name(certificate, name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match ParsedCertificate::try_from(certificate) {
            Ok(_) => {
                rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
            }
            // `openssl x509 -req` makes certificates of version 1, which webpki does not read; their key it does.
            Err(unreadable) => {
                let key = public_key(certificate).ok_or(unreadable)?;
                rustls::crypto::verify_tls13_signature_with_raw_key(
                    message,
                    &key,
                    signature,
                    &self.algorithms,
                )
            }
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn public_key(certificate: &CertificateDer<'_>) -> Option<SubjectPublicKeyInfoDer<'static>> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let key = parsed.tbs_certificate.subject_public_key_info.to_der().ok()?;
    Some(SubjectPublicKeyInfoDer::from(key))
}

fn verify_validity(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), rustls::Error> {
    let parsed = Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let validity = parsed.tbs_certificate.validity;
    if now.as_secs() < validity.not_before.to_unix_duration().as_secs() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now.as_secs() > validity.not_after.to_unix_duration().as_secs() {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

/// By subjectAltName; by common name only if the certificate has no name of the host's kind there, as libpq does.
fn verify_name(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), rustls::Error> {
    let by_alternative_name = ParsedCertificate::try_from(certificate)
        .and_then(|parsed| rustls::client::verify_server_name(&parsed, name));
    let Err(refusal) = by_alternative_name else { return Ok(()) };
    let host = match name {
        ServerName::DnsName(host) => host.as_ref().to_owned(),
        ServerName::IpAddress(address) => IpAddr::from(*address).to_string(),
        _ => return Err(refusal),
    };
    match Certificate::from_der(certificate).ok().and_then(|parsed| only_common_name(&parsed)) {
        Some(common_name) if matches_pattern(&common_name, &host) => Ok(()),
        _ => Err(refusal),
    }
}

/// The common name of a certificate that has no alternative names of hosts.
fn only_common_name(certificate: &Certificate) -> Option<String> {
    let alternatives = certificate.tbs_certificate.get::<SubjectAltName>().ok()?;
    let names_hosts = alternatives.is_some_and(|(_, names)| {
        names.0.iter().any(|name| matches!(name, GeneralName::DnsName(_) | GeneralName::IpAddress(_)))
    });
    if names_hosts {
        return None;
    }
    let mut attributes = certificate.tbs_certificate.subject.0.iter().flat_map(|part| part.0.iter());
    let common_name = attributes.rfind(|attribute| attribute.oid == COMMON_NAME)?;
    // UTF8String, PrintableString and IA5String all hold their text as it is.
    let text = std::str::from_utf8(common_name.value.value()).ok()?;
    Some(text.to_owned()).filter(|text| !text.contains('\0'))
}

/// `*.example.com` stands for one label more.
fn matches_pattern(pattern: &str, host: &str) -> bool {
    let host = host.trim_end_matches('.');
    match pattern.strip_prefix("*.") {
        Some(parent) => host.split_once('.').is_some_and(|(first, rest)| {
            !first.is_empty() && parent.contains('.') && rest.eq_ignore_ascii_case(parent)
        }),
        None => pattern.eq_ignore_ascii_case(host),
    }
}

/// The hash of the server's certificate that SCRAM is bound to: `tls-server-end-point` of RFC 5929.
///
/// By the hash of the certificate's own signature, SHA-256 in place of MD5 and SHA-1. `None` if that signature has none
/// (Ed25519): the standard leaves that open, and Postgres refuses to bind then.
pub(super) fn end_point(stream: &TlsStream<Socket>) -> Option<Vec<u8>> {
    let (_, session) = stream.get_ref();
    end_point_of(session.peer_certificates()?.first()?)
}

fn end_point_of(certificate: &[u8]) -> Option<Vec<u8>> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let signature = parsed.signature_algorithm;
    let hash = if signature.oid == RSA_PSS {
        pss_hash(&signature.parameters?.to_der().ok()?)?
    } else {
        SIGNATURES.iter().find(|(oid, _)| *oid == signature.oid).map(|(_, hash)| *hash)?
    };
    Some(match hash {
        Hash::Sha256 => Sha256::digest(certificate).to_vec(),
        Hash::Sha384 => Sha384::digest(certificate).to_vec(),
        Hash::Sha512 => Sha512::digest(certificate).to_vec(),
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const RSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");

/// Signature algorithms with their hash.
const SIGNATURES: [(ObjectIdentifier, Hash); 11] = [
    // MD5 and SHA-1 with RSA, SHA-1 with ECDSA and with DSA: replaced by SHA-256.
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.4"), Hash::Sha256),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.5"), Hash::Sha256),
    (ObjectIdentifier::new_unwrap("1.2.840.10045.4.1"), Hash::Sha256),
    (ObjectIdentifier::new_unwrap("1.2.840.10040.4.3"), Hash::Sha256),
    // RSA.
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11"), Hash::Sha256),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12"), Hash::Sha384),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13"), Hash::Sha512),
    // ECDSA.
    (ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2"), Hash::Sha256),
    (ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3"), Hash::Sha384),
    (ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4"), Hash::Sha512),
    // DSA with SHA-256.
    (ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.2"), Hash::Sha256),
];

/// Hashes by the DER of their OID, as RSASSA-PSS parameters name them.
const PSS_HASHES: [(&[u8], Hash); 3] = [
    (&[0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01], Hash::Sha256),
    (&[0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02], Hash::Sha384),
    (&[0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03], Hash::Sha512),
];

/// The first hash that RSASSA-PSS parameters name; they name none for SHA-1, their default.
fn pss_hash(parameters: &[u8]) -> Option<Hash> {
    let position = |oid: &[u8]| parameters.windows(oid.len()).position(|window| window == oid);
    let named = PSS_HASHES.iter().filter_map(|(oid, hash)| Some((position(oid)?, *hash)));
    Some(named.min_by_key(|(position, _)| *position).map_or(Hash::Sha256, |(_, hash)| hash))
}

#[cfg(test)]
mod tests;
