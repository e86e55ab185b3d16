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
pub enum Error {
    /// Its file cannot be read or made.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No node has made one there.
    #[error(
        "{}: no node has kept its secret here: give the node's --config or --data-dir, or its jwt_secret",
        path.display()
    )]
    NoNode {
        /// Where it would be.
        path: PathBuf,
    },
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

    /// Those a node has already: nothing is made or kept. The password is a random one
    /// when it is not given, since tokens need none.
    pub fn of_a_node(config: &Config) -> Result<Self, Error> {
        let jwt_secret = match &config.jwt_secret {
            Some(given) => given.clone(),
            None => found(&config.data_dir.join("jwt_secret"))?,
        };
        let password = config.admin_password.clone();
        Ok(Self {
            admin_password: password.unwrap_or_else(|| random(18)),
            jwt_secret,
            made: Vec::new(),
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
    match found(&path) {
        Err(Error::NoNode { .. }) => {}
        done => return done,
    }
    let secret = random(bytes);
    write(dir, &path, &secret).map_err(|source| Error::File {
        path: path.clone(),
        source,
    })?;
    made.push(path);
    Ok(secret)
}

fn found(path: &Path) -> Result<Secret, Error> {
    let path = path.to_owned();
    match read(&path) {
        Ok(text) => Ok(Secret::new(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::NoNode { path }),
        Err(source) => Err(Error::File { path, source }),
    }
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

    #[test]
    fn secrets_of_a_node_are_found_and_never_made() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = Config {
            data_dir: dir.path().join("data"),
            ..Config::default()
        };
        let none = Secrets::of_a_node(&config).expect_err("no node was here");
        assert!(matches!(&none, Error::NoNode { path } if path.ends_with("data/jwt_secret")));
        assert!(!config.data_dir.exists());
        let made = Secrets::load(&config).expect("made");
        let found = Secrets::of_a_node(&config).expect("found");
        assert_eq!((found.jwt_secret, found.made.len()), (made.jwt_secret, 0));
    }
}
