//! Where the store's keys lie in etcd: below a prefix.
//!
//! Pure. Two kinds of keys are no entries: the prefix itself is the mark, which is written
//! when a revision of this very space is wanted, and what begins with a NUL says which
//! imports are under way.

use bytes::Bytes;
use etcd_client::KeyValue;

use crate::store::{Entry, Revision};

/// A prefix in etcd.
#[derive(Clone, Debug)]
pub(super) struct Space {
    prefix: String,
}

impl Space {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
        }
    }

    /// The mark.
    pub(super) fn mark(&self) -> Vec<u8> {
        self.prefix.clone().into_bytes()
    }

    /// Where imports under way are told, and the first key behind.
    pub(super) fn imports(&self) -> (Vec<u8>, Vec<u8>) {
        (self.raw("\0import/"), self.raw("\0import0"))
    }

    /// Whether a key of the store may be put here.
    pub(super) fn holds(key: &str) -> bool {
        !key.starts_with('\0')
    }

    /// A key as etcd has it.
    pub(super) fn raw(&self, key: &str) -> Vec<u8> {
        [self.prefix.as_bytes(), key.as_bytes()].concat()
    }

    /// The first key of a page, and the first that comes after all with the store's prefix.
    pub(super) fn page(&self, prefix: &str, after: Option<&str>) -> (Vec<u8>, Vec<u8>) {
        let start = match after {
            // Right behind it: no key lies between.
            Some(after) if after >= prefix => [&self.raw(after)[..], b"\0"].concat(),
            // What begins with a NUL is no entry.
            _ if prefix.is_empty() => [self.prefix.as_bytes(), b"\x01"].concat(),
            _ => self.raw(prefix),
        };
        (start, end_of(self.raw(prefix)))
    }

    /// The store's key; `None` for what is no entry's, and for what is no text.
    pub(super) fn key(&self, raw: &[u8]) -> Option<String> {
        let key = raw.strip_prefix(self.prefix.as_bytes())?;
        let key = std::str::from_utf8(key).ok()?;
        (!key.is_empty() && Self::holds(key)).then(|| key.to_owned())
    }

    /// An entry, where the key is one of the store's.
    pub(super) fn entry(&self, kv: KeyValue) -> Option<Entry> {
        let revision = revision(kv.mod_revision());
        let (key, value) = kv.into_key_value();
        Some(Entry {
            key: self.key(&key)?,
            value: Bytes::from(value),
            revision,
        })
    }
}

/// etcd counts from 1 and never below.
pub(super) fn revision(raw: i64) -> Revision {
    raw.unsigned_abs()
}

/// A revision as etcd has it; none that exists is too large.
pub(super) fn raw(revision: Revision) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

/// The end of the range of keys that begin so; etcd's `\0` where there is none.
fn end_of(mut prefix: Vec<u8>) -> Vec<u8> {
    while let Some(last) = prefix.last_mut() {
        if *last < u8::MAX {
            *last += 1;
            return prefix;
        }
        prefix.pop();
    }
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_begins_behind_the_mark_and_ends_with_its_prefix() {
        let space = Space::new("/r/");
        let bytes = |a: &str, b: &str| (a.as_bytes().to_vec(), b.as_bytes().to_vec());
        assert_eq!(space.page("", None), bytes("/r/\x01", "/r0"));
        assert_eq!(space.page("", Some("a")), bytes("/r/a\0", "/r0"));
        assert_eq!(space.page("p/", Some("a")), bytes("/r/p/", "/r/p0"));
        assert_eq!(space.page("p/", Some("p/1")), bytes("/r/p/1\0", "/r/p0"));
        assert_eq!(end_of(vec![1, 0xff]), [2]);
        assert_eq!(end_of(vec![0xff]), [0]);
    }

    #[test]
    fn foreign_keys_are_told_from_ours() {
        let space = Space::new("/r/");
        assert_eq!(space.key(b"/r/a").as_deref(), Some("a"));
        let (imports, _) = space.imports();
        for foreign in [&b"/r/"[..], b"/s/a", b"/r/\xff", &imports] {
            assert_eq!(space.key(foreign), None);
        }
    }
}
