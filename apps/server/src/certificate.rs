//! The certificate of the secure listener: the configured one, or a self-made one that is renewed while running.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::{
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use sha2::{Digest, Sha256};

use crate::{
    config::Tls,
    data::{Data, DataError},
};

/// How long a self-made certificate is valid. Browsers accept at most 14 days by its hash; a day is left for clocks.
pub const VALID: Duration = Duration::from_secs(13 * DAY_SECS);

/// How long before its end a self-made certificate is replaced: pages that hold its hash are long gone by then.
pub const RENEW_BEFORE: Duration = Duration::from_secs(3 * DAY_SECS);

/// A new certificate is valid from this long ago, for clients whose clock is behind.
const BACKDATED: Duration = Duration::from_secs(3600);

const DAY_SECS: u64 = 24 * 60 * 60;
const _: () = assert!(VALID.as_secs() <= 14 * DAY_SECS, "browsers refuse the hash of a certificate valid for longer");
const _: () = assert!(RENEW_BEFORE.as_secs() * 2 < VALID.as_secs(), "a certificate serves for most of its life");

/// How long to wait after a renewal that failed; there are three days for it.
const RETRY_AFTER_SECS: u64 = 60;

/// The self-made certificate and its key, in one file so that they can never be of two kinds.
const FILE: &str = "certificate.pem";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{key} = {path}: cannot be read: {source}")]
    Read {
        /// The key of the configuration that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file does not hold what it must.
    #[error("{key} = {path}: {reason}")]
    Content {
        /// The key of the configuration that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The self-made one cannot be kept.
    #[error(transparent)]
    Data(#[from] DataError),
    /// It cannot be made.
    #[error("a certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// The made one is refused.
    #[error("the self-made certificate is not usable: {0}")]
    Made(String),
}

/// What is known about the certificate in use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct About {
    /// SHA-256 of its DER, in hex: what browsers take as `serverCertificateHashes`.
    pub sha256: String,
    /// The first second at which it is valid, since 1970.
    pub not_before: u64,
    /// The last second at which it is valid, since 1970.
    pub not_after: u64,
    /// Whether we made it.
    pub self_made: bool,
}

/// The certificate in use. Handshakes take what is there when they start; replacing it disturbs nobody.
pub struct Certificates {
    current: ArcSwap<Current>,
    // Rises with each replacement.
    version: AtomicU64,
    // No renewal before this second since 1970: the one before failed.
    retry_at: AtomicU64,
}

struct Current {
    key: Arc<CertifiedKey>,
    private: PrivateKeyDer<'static>,
    about: About,
}

impl Certificates {
    /// Loads the configured certificate, or the self-made one of the data directory, or makes one.
    ///
    /// # Errors
    /// See [`CertificateError`].
    pub fn open(tls: &Tls, data: &Data, now: SystemTime) -> Result<Self, CertificateError> {
        let current = ArcSwap::from_pointee(load(tls, data, now)?);
        Ok(Self { current, version: AtomicU64::new(0), retry_at: AtomicU64::new(0) })
    }

    /// Reads the files again. Whether another certificate is in use now.
    ///
    /// # Errors
    /// See [`CertificateError`]; then the one before stays in use.
    pub fn reload(&self, tls: &Tls, data: &Data, now: SystemTime) -> Result<bool, CertificateError> {
        let new = load(tls, data, now)?;
        let changed = new.about != self.current.load().about;
        self.replace(new);
        Ok(changed)
    }

    /// Replaces a self-made certificate that is about to end. Whether it did. May be called every second.
    ///
    /// # Errors
    /// See [`CertificateError`]; then the one before stays in use.
    pub fn renew(&self, data: &Data, now: SystemTime) -> Result<bool, CertificateError> {
        let current = self.current.load();
        let waits = unix(now) < self.retry_at.load(Ordering::Relaxed);
        if !current.about.self_made || is_fresh(&current.about, now) || waits {
            return Ok(false);
        }
        self.retry_at.store(unix(now) + RETRY_AFTER_SECS, Ordering::Relaxed);
        self.replace(make(data, now)?);
        Ok(true)
    }

    fn replace(&self, new: Current) {
        self.current.store(Arc::new(new));
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Rises whenever another certificate is in use.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The chain and the private key in DER, for a TLS that cannot ask for them at each handshake.
    #[must_use]
    pub fn der(&self) -> (Vec<Vec<u8>>, Vec<u8>) {
        let current = self.current.load();
        (current.key.cert.iter().map(|one| one.to_vec()).collect(), current.private.secret_der().to_vec())
    }

    /// What is known about the one in use.
    #[must_use]
    pub fn about(&self) -> About {
        self.current.load().about.clone()
    }

    /// The JSON of `/cert-hash`.
    #[must_use]
    pub fn hash_json(&self) -> String {
        format!("{{\"sha256\": \"{}\"}}", self.current.load().about.sha256)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.load().key))
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").field("about", &self.about()).finish()
    }
}

fn load(tls: &Tls, data: &Data, now: SystemTime) -> Result<Current, CertificateError> {
    match (&tls.certificate, &tls.key) {
        (Some(certificate), Some(key)) => configured(certificate, key, now),
        _ => match stored(data)? {
            Some(current) if is_fresh(&current.about, now) => Ok(current),
            _ => make(data, now),
        },
    }
}

fn is_fresh(about: &About, now: SystemTime) -> bool {
    about.not_before <= unix(now) && about.not_after >= unix(now + RENEW_BEFORE)
}

fn configured(certificate: &Path, key: &Path, now: SystemTime) -> Result<Current, CertificateError> {
    const CERTIFICATE: &str = "tls.certificate";
    const KEY: &str = "tls.key";
    let content =
        |name, path: &Path, reason: String| CertificateError::Content { key: name, path: path.to_owned(), reason };
    let chain =
        parse_chain(&read(CERTIFICATE, certificate)?).map_err(|reason| content(CERTIFICATE, certificate, reason))?;
    let private = PrivateKeyDer::from_pem_slice(&read(KEY, key)?)
        .map_err(|error| content(KEY, key, format!("holds no private key in PEM: {error}")))?;
    let current = current(chain, private, false).map_err(|reason| content(KEY, key, reason))?;
    if unix(now) > current.about.not_after || unix(now) < current.about.not_before {
        tracing::warn!(path = %certificate.display(), not_after = current.about.not_after, "the certificate is not valid now");
    }
    Ok(current)
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, CertificateError> {
    fs::read(path).map_err(|source| CertificateError::Read { key, path: path.to_owned(), source })
}

/// The stored self-made certificate; one that is damaged counts as none, because a new one is as good.
fn stored(data: &Data) -> Result<Option<Current>, CertificateError> {
    let Some(pem) = data.take(FILE)? else { return Ok(None) };
    let parsed = parse_chain(&pem).and_then(|chain| {
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| error.to_string())?;
        current(chain, key, true)
    });
    match parsed {
        Ok(current) => Ok(Some(current)),
        Err(reason) => {
            tracing::warn!(%reason, "the self-made certificate is damaged, making a new one");
            Ok(None)
        }
    }
}

fn make(data: &Data, now: SystemTime) -> Result<Current, CertificateError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "ringshard, self-made");
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now - BACKDATED + VALID).into();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for name in names() {
        params.subject_alt_names.push(SanType::DnsName(name.try_into()?));
    }
    let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
    params.subject_alt_names.extend(loopback.map(SanType::IpAddress));
    let certificate = params.self_signed(&key)?;
    data.put(FILE, format!("{}{}", certificate.pem(), key.serialize_pem()).as_bytes())?;
    let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| CertificateError::Made(error.into()))?;
    let current = current(vec![certificate.der().clone()], private, true).map_err(CertificateError::Made)?;
    tracing::info!(sha256 = current.about.sha256, "made a certificate, valid 13 days");
    Ok(current)
}

/// The names that the machine has for itself.
fn names() -> Vec<String> {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim().to_ascii_lowercase();
    let is_name =
        !host.is_empty() && host.len() <= 253 && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-".contains(&b));
    let mut names = vec!["localhost".to_owned()];
    names.extend(Some(host).filter(|host| is_name && host != "localhost"));
    names
}

fn parse_chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| format!("is not PEM: {error}"))?;
    if chain.is_empty() { Err("holds no certificate in PEM".to_owned()) } else { Ok(chain) }
}

fn current(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    self_made: bool,
) -> Result<Current, String> {
    let first = chain.first().ok_or("there is no certificate")?;
    let (_, parsed) =
        x509_parser::parse_x509_certificate(first).map_err(|error| format!("the certificate is damaged: {error}"))?;
    let validity = parsed.validity();
    let about = About {
        sha256: Sha256::digest(first).iter().map(|byte| format!("{byte:02x}")).collect(),
        not_before: u64::try_from(validity.not_before.timestamp()).unwrap_or(0),
        not_after: u64::try_from(validity.not_after.timestamp()).unwrap_or(0),
        self_made,
    };
    let private = key.clone_key();
    let key = CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => "is not the key of the certificate".to_owned(),
        error => format!("cannot be used: {error}"),
    })?;
    Ok(Current { key: Arc::new(key), private, about })
}

fn unix(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const DAY: Duration = Duration::from_secs(DAY_SECS);

    fn data() -> (tempfile::TempDir, Data) {
        let folder = tempfile::tempdir().expect("a folder");
        let data = Data::open(folder.path()).expect("opened");
        (folder, data)
    }

    #[test]
    fn a_self_made_certificate_is_kept_for_its_owner_only() {
        let (folder, data) = data();
        let now = SystemTime::now();
        let first = Certificates::open(&Tls::default(), &data, now).expect("made");
        let about = first.about();
        assert!(about.self_made && about.sha256.len() == 64);
        assert_eq!(about.not_after - about.not_before, VALID.as_secs());
        assert_eq!(first.hash_json(), format!("{{\"sha256\": \"{}\"}}", about.sha256));
        let mode = fs::metadata(folder.path().join(FILE)).expect("kept").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = Certificates::open(&Tls::default(), &data, now + DAY).expect("kept");
        assert_eq!(second.about(), about);
    }

    #[test]
    fn it_is_renewed_while_running_when_less_than_three_days_are_left() {
        let (_folder, data) = data();
        let now = SystemTime::now();
        let certificates = Certificates::open(&Tls::default(), &data, now).expect("made");
        let first = certificates.about();
        assert!(!certificates.renew(&data, now + 9 * DAY).expect("still good"));
        assert_eq!(certificates.about(), first);
        assert!(certificates.renew(&data, now + 10 * DAY + DAY / 2).expect("renewed"));
        let second = certificates.about();
        assert_ne!(second.sha256, first.sha256);
        assert!(second.not_after > first.not_after + 9 * DAY_SECS);
        let opened = Certificates::open(&Tls::default(), &data, now + 11 * DAY).expect("kept");
        assert_eq!(opened.about(), second);
    }

    #[test]
    fn a_renewal_that_failed_is_tried_again_after_a_while() {
        let (folder, data) = data();
        let certificates = Certificates::open(&Tls::default(), &data, SystemTime::now()).expect("made");
        let late = SystemTime::now() + 11 * DAY;
        // A directory in the place of the new file stands for a disk that refuses.
        let obstacle = folder.path().join("certificate.pem.new");
        fs::create_dir(&obstacle).expect("made");
        certificates.renew(&data, late).expect_err("refused");
        fs::remove_dir(&obstacle).expect("removed");
        assert!(!certificates.renew(&data, late + Duration::from_secs(RETRY_AFTER_SECS - 1)).expect("waits"));
        assert!(certificates.renew(&data, late + Duration::from_secs(RETRY_AFTER_SECS)).expect("renewed"));
    }

    #[test]
    fn one_from_the_future_or_damaged_is_replaced() {
        let (_folder, data) = data();
        let now = SystemTime::now();
        let first = Certificates::open(&Tls::default(), &data, now + 30 * DAY).expect("made").about();
        let second = Certificates::open(&Tls::default(), &data, now).expect("made").about();
        assert_ne!(first.sha256, second.sha256);
        data.put(FILE, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").expect("written");
        let third = Certificates::open(&Tls::default(), &data, now).expect("made").about();
        assert_ne!(third.sha256, second.sha256);
    }

    /// Two files as an operator gives them.
    fn pair(folder: &Path, name: &str) -> Tls {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("made");
        let (certificate, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
        fs::write(&certificate, made.cert.pem()).expect("written");
        fs::write(&key, made.signing_key.serialize_pem()).expect("written");
        Tls { certificate: Some(certificate), key: Some(key) }
    }

    #[test]
    fn configured_files_are_read_again_and_a_bad_pair_changes_nothing() {
        let (folder, data) = data();
        let (now, tls) = (SystemTime::now(), pair(folder.path(), "a.example"));
        let certificates = Certificates::open(&tls, &data, now).expect("loaded");
        let first = certificates.about();
        assert!(!first.self_made);
        assert!(!certificates.reload(&tls, &data, now).expect("the same"));
        assert!(!certificates.renew(&data, now + 10_000 * DAY).expect("not ours to renew"));

        let other = pair(folder.path(), "b.example");
        let mixed = Tls { certificate: tls.certificate.clone(), key: other.key.clone() };
        let text = certificates.reload(&mixed, &data, now).expect_err("mixed").to_string();
        assert!(text.contains("b.example.key: is not the key of the certificate"), "{text}");
        assert_eq!(certificates.about(), first);

        assert!(certificates.reload(&other, &data, now).expect("loaded"));
        assert_ne!(certificates.about(), first);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_key() {
        let (folder, data) = data();
        let (now, good) = (SystemTime::now(), pair(folder.path(), "a.example"));
        let junk = folder.path().join("junk.pem");
        fs::write(&junk, "junk").expect("written");
        for (certificate, key, words) in [
            (Some("/nowhere/x".into()), good.key.clone(), "tls.certificate = /nowhere/x: cannot be read"),
            (Some(junk.clone()), good.key.clone(), "junk.pem: holds no certificate in PEM"),
            (good.certificate.clone(), Some(junk.clone()), "junk.pem: holds no private key in PEM"),
            (good.certificate.clone(), good.certificate.clone(), "a.example.crt: holds no private key in PEM"),
        ] {
            let text = Certificates::open(&Tls { certificate, key }, &data, now).expect_err("wrong").to_string();
            assert!(text.contains(words), "{text}");
        }
    }
}
