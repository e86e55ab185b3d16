//! Whether a file is one that the operator trusts: by its digest, or by a signature.
//!
//! Looks at bytes alone. What is not asked for is not looked at.

use ring::signature::{ED25519, UnparsedPublicKey};

use super::limits::{Pin, PublicKey, unhex};

/// What a file has to show.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// The one digest it may have.
    pub pin: Option<Pin>,
    /// It must have one.
    pub require_pin: bool,
    /// Keys of which one must have signed what is not pinned.
    pub keys: Vec<PublicKey>,
}

/// Why a file is not trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// Another file is pinned.
    #[error(
        "its sha256 is {digest} and the configuration pins {pin}: put the pinned file back, or change plugins.overrides.{kind}.sha256"
    )]
    OtherPin {
        /// What it has.
        digest: String,
        /// What it should have.
        pin: String,
        /// The type.
        kind: String,
    },
    /// A pin is asked for.
    #[error(
        "its digest is not pinned, and plugins.require_pin is set: add plugins.overrides.{kind}.sha256 = \"{digest}\""
    )]
    NoPin {
        /// What would be the pin.
        digest: String,
        /// The type.
        kind: String,
    },
    /// A signature is asked for.
    #[error(
        "it is not signed, and plugins.keys is set: put its ed25519 signature beside it as {kind}.wasm.sig, or add plugins.overrides.{kind}.sha256 = \"{digest}\""
    )]
    NoSignature {
        /// What would be the pin.
        digest: String,
        /// The type.
        kind: String,
    },
    /// There is one, and it is not good.
    #[error(
        "{kind}.wasm.sig is not a signature of this file by one of plugins.keys: sign it again, 64 bytes or 128 hex digits of ed25519 over the whole file"
    )]
    BadSignature {
        /// The type.
        kind: String,
    },
}

impl Trust {
    /// Judges a file by its bytes, their digest and what lies beside it.
    pub fn judge(
        &self,
        kind: &str,
        bytes: &[u8],
        digest: &str,
        signature: Option<&[u8]>,
    ) -> Result<(), Untrusted> {
        let (kind, digest) = (kind.to_owned(), digest.to_owned());
        match &self.pin {
            Some(pin) if pin.as_str() == digest => return Ok(()),
            Some(pin) => {
                let pin = pin.as_str().to_owned();
                return Err(Untrusted::OtherPin { digest, pin, kind });
            }
            None if self.require_pin => return Err(Untrusted::NoPin { digest, kind }),
            None if self.keys.is_empty() => return Ok(()),
            None => {}
        }
        let Some(signature) = signature else {
            return Err(Untrusted::NoSignature { digest, kind });
        };
        let good = signature_of(signature).is_some_and(|signature| {
            let verifies = |key: &PublicKey| {
                let key = UnparsedPublicKey::new(&ED25519, key.0);
                key.verify(bytes, &signature).is_ok()
            };
            self.keys.iter().any(verifies)
        });
        good.then_some(()).ok_or(Untrusted::BadSignature { kind })
    }
}

/// 64 bytes, or as many in hex with white space around.
fn signature_of(file: &[u8]) -> Option<[u8; 64]> {
    if let Ok(raw) = file.try_into() {
        return Some(raw);
    }
    unhex(std::str::from_utf8(file).ok()?.trim())
}

#[cfg(test)]
mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair};

    use super::*;

    const FILE: &[u8] = b"\0asm and so on";
    const DIGEST: &str = "d1";

    fn signer(seed: u8) -> (Ed25519KeyPair, PublicKey) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("32 bytes");
        let mut key = [0; 32];
        key.copy_from_slice(pair.public_key().as_ref());
        (pair, PublicKey(key))
    }

    #[test]
    fn nothing_is_asked_of_a_file_by_default() {
        let judged = Trust::default().judge("a", FILE, DIGEST, Some(b"nonsense"));
        assert_eq!(judged, Ok(()));
    }

    #[test]
    fn one_of_the_keys_must_have_signed_the_whole_file() {
        let ((pair, key), (_, other)) = (signer(1), signer(2));
        let trust = |keys: Vec<PublicKey>| Trust {
            keys,
            ..Trust::default()
        };
        let signature = pair.sign(FILE);
        let raw = signature.as_ref();
        let hex: String = raw.iter().map(|byte| format!("{byte:02X}")).collect();
        let both = trust(vec![other, key]);
        assert_eq!(both.judge("a", FILE, DIGEST, Some(raw)), Ok(()));
        let lines = format!("{hex}\n");
        assert_eq!(
            both.judge("a", FILE, DIGEST, Some(lines.as_bytes())),
            Ok(())
        );
        let bad = Err(Untrusted::BadSignature { kind: "a".into() });
        assert_eq!(trust(vec![other]).judge("a", FILE, DIGEST, Some(raw)), bad);
        assert_eq!(both.judge("a", &FILE[1..], DIGEST, Some(raw)), bad);
        assert_eq!(both.judge("a", FILE, DIGEST, Some(&raw[1..])), bad);
        assert_eq!(both.judge("a", FILE, DIGEST, Some(b"")), bad);
        let none = both
            .judge("a", FILE, DIGEST, None)
            .map_err(|e| e.to_string());
        assert!(none.is_err_and(|why| why.contains("a.wasm.sig") && why.contains(DIGEST)));
    }

    #[test]
    fn a_pin_is_the_last_word() {
        let pin = |text: &str| Pin::try_from(text.repeat(32)).ok();
        let (good, other) = ("ab".repeat(32), "cd".repeat(32));
        let trust = |pin| Trust {
            pin,
            require_pin: true,
            keys: vec![signer(1).1],
        };
        assert_eq!(trust(pin("ab")).judge("a", FILE, &good, None), Ok(()));
        let refused = trust(pin("ab")).judge("a", FILE, &other, None);
        assert!(refused.is_err_and(|why| why.to_string().contains("overrides.a.sha256")));
        let refused = trust(None).judge("a", FILE, &good, None);
        assert!(refused.is_err_and(|why| why.to_string().contains("require_pin")));
    }
}
