//! The keys of a WireGuard peer: Curve25519 pairs and the optional preshared key (paper §5.2).
//!
//! Text is base64 of the 32 bytes, as `wg` writes it. `Debug` hides whatever is secret. Where keys are
//! kept, and who may read them there, is decided elsewhere.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use boringtun::x25519;
use rand::TryRng as _;
use rand::rngs::SysRng;
use serde::{Deserialize, Serialize};
use thiserror::Error;

const LEN: usize = 32;

/// A peer's secret: its identity, and what it decrypts with.
#[derive(Clone)]
pub struct PrivateKey(x25519::StaticSecret);

/// A peer's name: what others know it by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; LEN]);

/// A second secret that two peers share: it keeps today's recordings closed even to whoever breaks
/// Curve25519 later.
#[derive(Clone)]
pub struct PresharedKey([u8; LEN]);

/// Text that is no key.
#[derive(Debug, Error)]
pub enum KeyError {
    /// Not base64.
    #[error("a WireGuard key is not base64")]
    NotBase64(#[source] base64::DecodeError),
    /// Base64 of something shorter or longer.
    #[error("a WireGuard key has {LEN} bytes, this text holds {0}")]
    WrongLength(usize),
}

impl PrivateKey {
    /// A fresh one, from the operating system's randomness.
    ///
    /// # Panics
    /// Where the operating system has no randomness to give.
    #[must_use]
    pub fn generate() -> Self {
        Self(x25519::StaticSecret::from(clamped(random())))
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(*x25519::PublicKey::from(&self.0).as_bytes())
    }

    /// The secret itself, in base64: for the one file or Secret it belongs into.
    #[must_use]
    pub fn expose(&self) -> String {
        STANDARD.encode(self.0.as_bytes())
    }

    pub(super) fn secret(&self) -> &x25519::StaticSecret {
        &self.0
    }
}

impl PublicKey {
    pub(super) fn from_bytes(bytes: [u8; LEN]) -> Self {
        Self(bytes)
    }

    pub(super) fn point(&self) -> x25519::PublicKey {
        x25519::PublicKey::from(self.0)
    }
}

impl PresharedKey {
    /// A fresh one, from the operating system's randomness.
    ///
    /// # Panics
    /// Where the operating system has no randomness to give.
    #[must_use]
    pub fn generate() -> Self {
        Self(random())
    }

    /// The secret itself, in base64: for the one file or Secret it belongs into.
    #[must_use]
    pub fn expose(&self) -> String {
        STANDARD.encode(self.0)
    }

    pub(super) fn bytes(&self) -> [u8; LEN] {
        self.0
    }
}

fn random() -> [u8; LEN] {
    let mut bytes = [0; LEN];
    SysRng
        .try_fill_bytes(&mut bytes)
        .expect("the operating system has randomness");
    bytes
}

/// Makes any 32 bytes a Curve25519 scalar (RFC 7748 §5), as `wg genkey` does.
fn clamped(mut bytes: [u8; LEN]) -> [u8; LEN] {
    bytes[0] &= 0b1111_1000;
    bytes[31] = bytes[31] & 0b0111_1111 | 0b0100_0000;
    bytes
}

fn decode(text: &str) -> Result<[u8; LEN], KeyError> {
    let bytes = STANDARD.decode(text.trim()).map_err(KeyError::NotBase64)?;
    <[u8; LEN]>::try_from(bytes).map_err(|bytes| KeyError::WrongLength(bytes.len()))
}

impl FromStr for PrivateKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(|bytes| Self(x25519::StaticSecret::from(clamped(bytes))))
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(Self)
    }
}

impl FromStr for PresharedKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(Self)
    }
}

impl TryFrom<String> for PublicKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(hidden)")
    }
}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresharedKey(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_follows_from_its_private_key() {
        // RFC 7748 §6.1, Alice.
        let private: PrivateKey = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo="
            .parse()
            .unwrap();
        assert_eq!(
            private.public().to_string(),
            "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="
        );
    }

    #[test]
    fn keys_survive_their_text() {
        let private = PrivateKey::generate();
        let again: PrivateKey = private.expose().parse().unwrap();
        assert_eq!(again.public(), private.public());
        assert_eq!(again.expose(), private.expose());
        let preshared = PresharedKey::generate();
        let again: PresharedKey = preshared.expose().parse().unwrap();
        assert_eq!(again.bytes(), preshared.bytes());
    }

    #[test]
    fn two_keys_differ() {
        assert_ne!(
            PrivateKey::generate().expose(),
            PrivateKey::generate().expose()
        );
        assert_ne!(
            PresharedKey::generate().bytes(),
            PresharedKey::generate().bytes()
        );
    }

    #[test]
    fn debug_hides_secrets() {
        let private = PrivateKey::generate();
        assert_eq!(format!("{private:?}"), "PrivateKey(hidden)");
        assert_eq!(
            format!("{:?}", PresharedKey::generate()),
            "PresharedKey(hidden)"
        );
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert!(matches!(
            "näh".parse::<PublicKey>(),
            Err(KeyError::NotBase64(_))
        ));
        assert!(matches!(
            "AAAA".parse::<PublicKey>(),
            Err(KeyError::WrongLength(3))
        ));
    }
}
