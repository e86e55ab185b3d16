//! Bytes in, lines out, however they are cut.
//!
//! Pure. Invariant: a byte is looked at once; no more is kept than a line may have.

use bytes::BytesMut;

use super::delta::MAX_LINE;

/// A line has no end within [`MAX_LINE`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line is too long")]
pub(super) struct TooLong;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lines {
    rest: BytesMut,
    /// So much of it has no end in it.
    searched: usize,
}

impl Lines {
    /// This arrived. To be followed by [`Lines::next`] until there is none.
    pub(super) fn push(&mut self, data: &[u8]) {
        self.rest.extend_from_slice(data);
    }

    /// The next line with its end, if all of it is there.
    pub(super) fn next(&mut self) -> Result<Option<BytesMut>, TooLong> {
        let new = &self.rest[self.searched..];
        let end = new.iter().position(|byte| *byte == b'\n');
        let Some(end) = end.map(|end| self.searched + end + 1) else {
            self.searched = self.rest.len();
            return match self.searched > MAX_LINE {
                true => Err(TooLong),
                false => Ok(None),
            };
        };
        self.searched = 0;
        Ok(Some(self.rest.split_to(end)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_long_line_that_comes_byte_by_byte_is_searched_once() {
        // Searched anew each time it takes hours.
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut lines = Lines::default();
        for _ in 0..MAX_LINE {
            lines.push(b"x");
            assert_eq!(lines.next(), Ok(None));
            assert!(Instant::now() < deadline, "after {} bytes", lines.searched);
        }
        let mut ended = Lines {
            rest: lines.rest.clone(),
            ..lines
        };
        ended.push(b"\n");
        let line = ended.next().expect("not too long").expect("a line");
        assert_eq!(line.len(), MAX_LINE + 1);
        lines.push(b"x");
        assert_eq!(lines.next(), Err(TooLong));
    }

    proptest! {
        #[test]
        fn lines_are_the_same_however_they_are_cut(
            said in proptest::collection::vec("[a-z]{0,5}", 0..20),
            cuts in proptest::collection::vec(1usize..9, 100),
        ) {
            let said: Vec<String> = said.into_iter().map(|line| line + "\n").collect();
            let whole = said.concat();
            let (mut lines, mut heard) = (Lines::default(), Vec::new());
            let mut rest = whole.as_bytes();
            for cut in cuts {
                let (head, tail) = rest.split_at(cut.min(rest.len()));
                rest = tail;
                lines.push(head);
                while let Some(line) = lines.next().expect("short") {
                    heard.push(String::from_utf8(line.to_vec()).expect("letters"));
                }
            }
            lines.push(rest);
            while let Some(line) = lines.next().expect("short") {
                heard.push(String::from_utf8(line.to_vec()).expect("letters"));
            }
            prop_assert_eq!(heard, said);
        }
    }
}
