//! Secrets that the operator did not give: made once, kept under `data_dir`.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::auth::Secret;
use crate::config::{Config, StoreKind};

/// A longer file is none of ours.
const MAX_FILE: u64 = 4096;

/// What the node signs and logs in with.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// The administrator's password.
    pub admin_password: Secret,
    /// The key of tokens.
    pub jwt_secret: Secret,
    /// Files that were made just now.
    pub made: Vec<PathBuf>,
}

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct Error {
    path: PathBuf,
    source: io::Error,
}

impl Secrets {
    /// From the configuration, else from `data_dir`, else made and kept there (mode
    /// 0600). A node that keeps its state in memory keeps its secrets there too.
    pub fn load(config: &Config) -> Result<Self, Error> {
        let mut made = Vec::new();
        let mut one = |given: &Option<Secret>, name: &str, bytes: usize| -> Result<Secret, Error> {
            match given {
                Some(given) => Ok(given.clone()),
                None if config.store == StoreKind::Memory => Ok(random(bytes)),
                None => kept(&config.data_dir, name, bytes, &mut made),
            }
        };
        let admin_password = one(&config.admin_password, "admin_password", 18)?;
        let jwt_secret = one(&config.jwt_secret, "jwt_secret", 48)?;
        Ok(Self {
            admin_password,
            jwt_secret,
            made,
        })
    }
}

/// Random text of so many random bytes.
pub fn random(bytes: usize) -> Secret {
    let mut raw = vec![0; bytes];
    getrandom::fill(&mut raw).expect("the operating system gives randomness");
    Secret::new(URL_SAFE_NO_PAD.encode(raw))
}

fn kept(dir: &Path, name: &str, bytes: usize, made: &mut Vec<PathBuf>) -> Result<Secret, Error> {
    let path = dir.join(name);
    match read(&path) {
        Ok(text) => return Ok(Secret::new(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(Error { path, source }),
    }
    let secret = random(bytes);
    write(dir, &path, &secret).map_err(|source| Error {
        path: path.clone(),
        source,
    })?;
    made.push(path);
    Ok(secret)
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?
        .take(MAX_FILE)
        .read_to_string(&mut text)?;
    let text = text.trim().to_owned();
    if text.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the file is empty; delete it to have a new secret made",
        ));
    }
    Ok(text)
}

/// Whole or not at all: a file that is cut off by a crash would lock everybody out.
fn write(dir: &Path, path: &Path, secret: &Secret) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)?;
    let part = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)?;
    file.write_all(secret.expose().as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&part, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn secrets_are_made_once_and_for_their_owner_alone() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = Config {
            data_dir: dir.path().join("data"),
            ..Config::default()
        };
        let first = Secrets::load(&config).expect("made");
        assert_eq!(first.made.len(), 2);
        for path in &first.made {
            assert_eq!(
                fs::metadata(path).expect("there").permissions().mode() & 0o777,
                0o600
            );
        }
        let second = Secrets::load(&config).expect("read");
        assert!(second.made.is_empty());
        assert_eq!(first.jwt_secret, second.jwt_secret);
        assert!(first.jwt_secret.expose().len() >= 32);
    }
}
