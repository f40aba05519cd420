//! HMAC-SHA256, for tickets and as the one algorithm that `jsonwebtoken` is given.
//!
//! Its built-in providers bring RSA and three elliptic curves along. With this one there is nothing else to be talked into.

use hmac::{Hmac, Mac};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey,
    crypto::{CryptoProvider, JwkUtils, JwtSigner, JwtVerifier},
    errors::{ErrorKind, Result},
};
use sha2::{Digest, Sha256};
use signature::{Error, Signer, Verifier};

/// Bytes of a code.
pub(crate) const MAC_LEN: usize = 32;
const BLOCK_LEN: usize = 64;

/// A key, mixed into both hash states once.
#[derive(Clone)]
pub(crate) struct Key(Hmac<Sha256>);

impl Key {
    pub(crate) fn new(secret: &[u8]) -> Self {
        // RFC 2104: a longer key is its hash, a shorter one is filled up with zeros.
        let mut block = [0; BLOCK_LEN];
        if secret.len() > BLOCK_LEN {
            block[..MAC_LEN].copy_from_slice(&Sha256::digest(secret));
        } else {
            block[..secret.len()].copy_from_slice(secret);
        }
        Self(<Hmac<Sha256> as hmac::digest::KeyInit>::new(&block.into()))
    }

    /// A key for one use.
    pub(crate) fn derive(&self, purpose: &[u8]) -> Self {
        Self::new(&self.mac([purpose]))
    }

    pub(crate) fn mac<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; MAC_LEN] {
        self.over(parts).finalize().into_bytes().into()
    }

    /// Compares in constant time.
    pub(crate) fn is_mac<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>, mac: &[u8]) -> bool {
        self.over(parts).verify_slice(mac).is_ok()
    }

    fn over<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        parts.into_iter().for_each(|part| mac.update(part));
        mac
    }
}

/// Gives `jsonwebtoken` its algorithm. Once per process; later calls change nothing.
pub(crate) fn install() {
    static PROVIDER: CryptoProvider = CryptoProvider {
        signer_factory: |algorithm, key: &EncodingKey| {
            only_hs256(*algorithm)?;
            Ok(Box::new(Key::new(key.try_get_hmac_secret()?)))
        },
        verifier_factory: |algorithm, key: &DecodingKey| {
            only_hs256(*algorithm)?;
            Ok(Box::new(Key::new(key.try_get_hmac_secret()?)))
        },
        jwk_utils: JwkUtils::new_unimplemented(),
    };
    // An error says that there is one already, and that is this one: nothing else in the workspace installs any.
    let _already = PROVIDER.install_default();
}

fn only_hs256(algorithm: Algorithm) -> Result<()> {
    if algorithm == Algorithm::HS256 { Ok(()) } else { Err(ErrorKind::InvalidAlgorithm.into()) }
}

impl Signer<Vec<u8>> for Key {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, Error> {
        Ok(self.mac([message]).to_vec())
    }
}

impl JwtSigner for Key {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl Verifier<Vec<u8>> for Key {
    fn verify(&self, message: &[u8], mac: &Vec<u8>) -> std::result::Result<(), Error> {
        if self.is_mac([message], mac) { Ok(()) } else { Err(Error::new()) }
    }
}

impl JwtVerifier for Key {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn it_is_rfc_4231() {
        let case2 = Key::new(b"Jefe").mac([&b"what do ya want "[..], b"for nothing?"]);
        assert_eq!(hex(&case2), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let case6 = Key::new(&[0xaa; 131]).mac([&b"Test Using Larger Than Block-Size Key - Hash Key First"[..]]);
        assert_eq!(hex(&case6), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }

    #[test]
    fn a_shortened_code_is_none() {
        let key = Key::new(b"key");
        let mac = key.mac([&b"text"[..]]);
        assert!(key.is_mac([&b"text"[..]], &mac));
        for len in 0..MAC_LEN {
            assert!(!key.is_mac([&b"text"[..]], &mac[..len]));
        }
    }
}
