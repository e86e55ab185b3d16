//! Tells whether what a player got is an unbroken run of a clip played in a loop.
//!
//! A clip may hold equal frames (silence, a still picture), so all places that
//! fit so far are followed at once.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// A fingerprint of a payload.
pub fn fingerprint(payload: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    payload.hash(&mut hasher);
    hasher.finish()
}

/// Indices in `played` where it does not go on as the endless loop of `clip` would.
///
/// # Panics
/// When a played frame is not of the clip at all: damage, not loss.
pub fn breaks<T: Eq + Hash + std::fmt::Debug>(clip: &[T], played: &[T]) -> Vec<usize> {
    let mut places: HashMap<&T, Vec<usize>> = HashMap::new();
    for (index, frame) in clip.iter().enumerate() {
        places.entry(frame).or_default().push(index);
    }
    let mut next: Vec<usize> = (0..clip.len()).collect();
    let mut found = Vec::new();
    for (index, frame) in played.iter().enumerate() {
        let of_clip = places
            .get(frame)
            .unwrap_or_else(|| panic!("frame {index} is not of the source: {frame:?}"));
        let going_on: Vec<usize> = of_clip
            .iter()
            .copied()
            .filter(|p| next.contains(p))
            .collect();
        if going_on.is_empty() {
            found.push(index);
        }
        let here = if going_on.is_empty() {
            of_clip
        } else {
            &going_on
        };
        next = here.iter().map(|p| (p + 1) % clip.len()).collect();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_from_any_place_is_unbroken() {
        assert!(breaks(&[1, 2, 2, 3], &[2, 3, 1, 2, 2, 3, 1]).is_empty());
    }

    #[test]
    fn a_lost_frame_is_one_break() {
        assert_eq!(breaks(&[1, 2, 3, 4], &[1, 2, 4, 1, 2]), [2]);
    }

    #[test]
    fn a_repeated_frame_is_a_break() {
        assert_eq!(breaks(&[1, 2, 3], &[1, 2, 2, 3]), [2]);
    }
}
