//! Which source was opened with which options, behind the plan's bytes of a hand-over.
//!
//! Options are told by a mark, four bytes. Bytes of a build that knew no marks hold
//! none: the sources fit then.

/// A source and the mark of its options, then one byte for their number.
const ENTRY: usize = 8;

/// The plan's bytes with the marks behind them.
pub(crate) fn join(mut waits: Vec<u8>, marks: &[(u32, u32)]) -> Vec<u8> {
    let marks = &marks[..marks.len().min(usize::from(u8::MAX))];
    for (id, mark) in marks {
        waits.extend(id.to_le_bytes());
        waits.extend(mark.to_le_bytes());
    }
    waits.push(marks.len() as u8);
    waits
}

/// The plan's bytes, and the marks.
pub(crate) fn split(state: &[u8]) -> (&[u8], Vec<(u32, u32)>) {
    let Some((count, rest)) = state.split_last() else {
        return (state, Vec::new());
    };
    // Without marks it is a multiple of four.
    let at = rest.len().checked_sub(usize::from(*count) * ENTRY);
    let Some(at) = at.filter(|_| state.len() % 4 == 1) else {
        return (state, Vec::new());
    };
    let (waits, marks) = rest.split_at(at);
    let number = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_le_bytes);
    let marks = marks.chunks_exact(ENTRY);
    let marks = marks.map(|entry| (number(&entry[..4]), number(&entry[4..])));
    (waits, marks.collect())
}

/// The mark of a source, if it is known.
pub(crate) fn of(marks: &[(u32, u32)], id: u32) -> Option<u32> {
    marks
        .iter()
        .find(|(of, _)| *of == id)
        .map(|(_, mark)| *mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_travel_behind_the_waits_and_older_bytes_have_none() {
        let waits: Vec<u8> = (0..32).collect();
        let marks = [(7, 0xdead_beef), (9, 1)];
        let state = join(waits.clone(), &marks);
        let (before, after) = split(&state);
        assert_eq!((before, after.as_slice()), (waits.as_slice(), &marks[..]));
        assert_eq!((of(&after, 9), of(&after, 8)), (Some(1), None));
        assert_eq!(split(&waits), (waits.as_slice(), Vec::new()));
        for odd in [&[][..], &[255], &[1, 2, 3, 4, 200]] {
            assert!(split(odd).1.is_empty());
        }
    }
}
