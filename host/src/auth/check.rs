//! Checks of a password against its argon2 hash, in memory that is used again.
//!
//! A check needs 19 MiB at once. Allocated anew for each, on one thread after the
//! other, an allocator that keeps a heap per thread gives little of it back: half a
//! gigabyte after 200 logins. Invariant: no more buffers are kept than checks ran at a
//! time.

use argon2::password_hash::phc::{Output, PasswordHash};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use parking_lot::Mutex;

/// Hashes of the operator's own making may ask for more; theirs is not kept.
const KEPT: usize = 64 * 1024 * 1024 / Block::SIZE;

/// The buffers of checks that are over.
#[derive(Debug, Default)]
pub(super) struct Checks(Mutex<Vec<Vec<Block>>>);

impl Checks {
    /// Whether it is the password of this hash. Takes tens of milliseconds.
    pub(super) fn matches(&self, password: &str, hash: &PasswordHash) -> bool {
        let mut buffer = self.0.lock().pop().unwrap_or_default();
        let matches = check(password, hash, &mut buffer).unwrap_or(false);
        if buffer.len() <= KEPT {
            self.0.lock().push(buffer);
        }
        matches
    }
}

fn check(
    password: &str,
    hash: &PasswordHash,
    buffer: &mut Vec<Block>,
) -> Result<bool, argon2::password_hash::Error> {
    let (Some(salt), Some(expected)) = (&hash.salt, &hash.hash) else {
        return Ok(false);
    };
    let algorithm = Algorithm::try_from(hash.algorithm.as_str())?;
    let version = hash.version.map(Version::try_from).transpose()?;
    let params = Params::try_from(hash)?;
    buffer.resize(params.block_count(), Block::new());
    let argon2 = Argon2::new(algorithm, version.unwrap_or_default(), params);
    let mut computed = [0; Output::MAX_LENGTH];
    let computed = &mut computed[..expected.len()];
    argon2.hash_password_into_with_memory(password.as_bytes(), salt, computed, buffer)?;
    // Outputs are compared in constant time.
    Ok(Output::new(computed)? == *expected)
}

#[cfg(test)]
mod tests {
    use argon2::password_hash::{PasswordHasher, PasswordVerifier};

    use super::*;

    #[test]
    fn it_agrees_with_the_library_whatever_the_parameters() {
        let checks = Checks::default();
        for (memory, time, lanes, length) in [(19_456, 2, 1, 32), (64, 1, 2, 16), (8, 3, 1, 64)] {
            let params = Params::new(memory, time, lanes, Some(length)).expect("legal");
            for algorithm in [Algorithm::Argon2id, Algorithm::Argon2i] {
                let argon2 = Argon2::new(algorithm, Version::V0x13, params.clone());
                let hash = argon2.hash_password(b"right").expect("hashes");
                for password in ["right", "wrong", ""] {
                    let library = Argon2::default().verify_password(password.as_bytes(), &hash);
                    assert_eq!(checks.matches(password, &hash), library.is_ok(), "{hash}");
                    assert_eq!(library.is_ok(), password == "right");
                }
            }
        }
    }

    #[test]
    fn one_check_after_another_uses_the_same_memory() {
        let checks = Checks::default();
        let hash = Argon2::default().hash_password(b"right").expect("hashes");
        let buffers = || {
            let kept = checks.0.lock();
            kept.iter()
                .map(|buffer| buffer.as_ptr())
                .collect::<Vec<_>>()
        };
        assert!(checks.matches("right", &hash));
        let first = buffers();
        assert_eq!(first.len(), 1);
        for _ in 0..3 {
            assert!(!checks.matches("wrong", &hash));
            assert_eq!(buffers(), first);
        }
    }
}
