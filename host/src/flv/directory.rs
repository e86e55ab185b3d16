//! The operator's media directory: which files a plugin may open.
//!
//! Knows nothing of their content. Invariant: what is opened lies beneath the
//! directory, whatever the name says and whatever links change meanwhile; the
//! kernel resolves the name under that rule where it can (openat2).

use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use rustix::fs::OFlags;

use super::Error;

/// Longer names are none: a status and a log line show them.
const MAX_NAME: usize = 255;

/// The directory, and the size of the largest file that is played.
#[derive(Clone, Debug)]
pub struct MediaDir {
    root: Option<PathBuf>,
    max_bytes: u64,
}

impl MediaDir {
    /// The directory is looked for at each opening, so it may come later.
    pub fn new(root: Option<PathBuf>, max_bytes: u64) -> Self {
        Self { root, max_bytes }
    }

    /// Whether a name may be opened at all, judged by its text.
    pub fn check(&self, name: &str) -> Result<(), Error> {
        if self.root.is_none() {
            return Err(Error::NoDirectory);
        }
        let inside = Path::new(name)
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        match () {
            () if name.is_empty() || name.len() > MAX_NAME => Err(Error::BadName),
            () if name.contains(char::is_control) => Err(Error::BadName),
            () if !inside => Err(Error::Outside),
            () => Ok(()),
        }
    }

    /// Opens a file. Blocking.
    pub fn open(&self, name: &str) -> Result<File, Error> {
        self.check(name)?;
        let root = self.root.as_ref().ok_or(Error::NoDirectory)?;
        let dir = Dir::open_ambient_dir(root, ambient_authority()).map_err(missing)?;
        let mut options = OpenOptions::new();
        // Opening a pipe that nobody writes must not wait.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        options.read(true).custom_flags(flags);
        let file = dir.open_with(name, &options).map_err(missing)?.into_std();
        let metadata = file.metadata()?;
        match () {
            () if !metadata.is_file() => Err(Error::NotAFile),
            () if metadata.len() > self.max_bytes => Err(Error::TooLarge(self.max_bytes)),
            () => Ok(file),
        }
    }
}

fn missing(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::NotFound,
        // Of the system this one has a number; without it is the walk that left the directory.
        io::ErrorKind::PermissionDenied if error.raw_os_error().is_none() => Error::Outside,
        _ => Error::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A directory with a file, and a secret beside it.
    fn place() -> (tempfile::TempDir, MediaDir) {
        let place = tempfile::tempdir().expect("a folder");
        let media = place.path().join("media");
        fs::create_dir_all(media.join("sub")).expect("a folder");
        fs::write(media.join("a.flv"), [0; 100]).expect("writable");
        fs::write(place.path().join("secret"), "x").expect("writable");
        (place, MediaDir::new(Some(media), 100))
    }

    #[test]
    fn names_that_lead_out_are_refused_however_they_are_written() {
        let (place, dir) = place();
        let media = place.path().join("media");
        symlink("../secret", media.join("link")).expect("a link");
        symlink("..", media.join("sub/up")).expect("a link");
        symlink(place.path(), media.join("absolute")).expect("a link");
        let outside = place.path().join("secret");
        for name in [
            "../secret",
            "sub/../../secret",
            "sub/../a.flv",
            outside.to_str().expect("UTF-8"),
            "/etc/passwd",
            "/",
            "link",
            "sub/up/../secret",
            "sub/up/up/secret",
            "absolute/secret",
        ] {
            assert!(
                matches!(dir.open(name), Err(Error::Outside | Error::NotFound)),
                "{name:?} gives {:?}",
                dir.open(name)
            );
        }
        assert!(matches!(dir.open("link"), Err(Error::Outside)));
        assert!(matches!(dir.open("../secret"), Err(Error::Outside)));
    }

    #[test]
    fn files_and_links_that_stay_inside_are_opened() {
        let (place, dir) = place();
        let media = place.path().join("media");
        symlink("../a.flv", media.join("sub/b.flv")).expect("a link");
        for name in ["a.flv", "./a.flv", "sub/b.flv"] {
            assert!(
                dir.open(name).is_ok(),
                "{name:?} gives {:?}",
                dir.open(name)
            );
        }
    }

    #[test]
    fn what_is_no_file_or_too_large_is_refused_at_once() {
        let (place, dir) = place();
        let media = place.path().join("media");
        fs::write(media.join("large"), [0; 101]).expect("writable");
        let _socket = UnixListener::bind(media.join("socket")).expect("a socket");
        let made = std::process::Command::new("mkfifo")
            .arg(media.join("pipe"))
            .status();
        assert!(made.expect("mkfifo of coreutils").success());
        assert!(matches!(dir.open("large"), Err(Error::TooLarge(100))));
        assert!(matches!(dir.open("sub"), Err(Error::NotAFile)));
        assert!(matches!(dir.open("pipe"), Err(Error::NotAFile)));
        assert!(matches!(dir.open("socket"), Err(Error::Io(_))));
        assert!(matches!(dir.open("none"), Err(Error::NotFound)));
        assert!(matches!(dir.open("a.flv/x"), Err(Error::NotFound)));
        for name in ["", "a\0.flv", "a\nb", &"x".repeat(256)] {
            assert!(matches!(dir.open(name), Err(Error::BadName)));
        }
    }

    #[test]
    fn nothing_is_opened_without_a_directory() {
        let absent = MediaDir::new(None, 100);
        assert!(matches!(absent.open("a.flv"), Err(Error::NoDirectory)));
        let (place, _) = place();
        let gone = MediaDir::new(Some(place.path().join("gone")), 100);
        assert!(matches!(gone.open("a.flv"), Err(Error::NotFound)));
    }
}
