//! A disk that loses power: what was synced is kept apart from what was only written.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use rand::RngExt;
use rand::rngs::StdRng;
use redb::StorageBackend;

const SECTOR: usize = 512;

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Resize(usize),
}

impl Change {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Self::Resize(len) => image.resize(*len, 0),
            Self::Write(at, data) => {
                image.resize(image.len().max(at + data.len()), 0);
                image[*at..at + data.len()].copy_from_slice(data);
            }
        }
    }
}

#[derive(Debug, Default)]
struct State {
    durable: Vec<u8>,
    seen: Vec<u8>,
    unsynced: Vec<Change>,
    /// Operations until the power goes; `None` is never.
    left: Option<u64>,
    /// Says it synced and did not.
    lies: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Disk(Arc<Mutex<State>>);

impl Disk {
    fn power(&self, state: &mut State) -> io::Result<()> {
        match &mut state.left {
            Some(0) => return Err(io::Error::other("power is out")),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(())
    }

    fn change(&self, change: Change) -> io::Result<()> {
        let mut state = self.0.lock();
        self.power(&mut state)?;
        change.apply(&mut state.seen);
        state.unsynced.push(change);
        Ok(())
    }

    /// Makes it say it synced when it did not, or not.
    pub(super) fn lie(&self, lies: bool) {
        self.0.lock().lies = lies;
    }

    pub(super) fn is_out(&self) -> bool {
        self.0.lock().left == Some(0)
    }

    /// The disk as it is found after the cut, powered for fewer than `most` operations.
    pub(super) fn cut(&self, rng: &mut StdRng, most: u64) -> Self {
        let state = self.0.lock();
        let mut image = state.durable.clone();
        let keep = rng.random_range(0.0..=1.0);
        for change in &state.unsynced {
            if rng.random_bool(keep) {
                torn(change, rng, &mut image);
            }
        }
        let left = Some(rng.random_range(0..most));
        let (seen, durable) = (image.clone(), image);
        let state = State {
            durable,
            seen,
            unsynced: Vec::new(),
            left,
            lies: state.lies,
        };
        Self(Arc::new(Mutex::new(state)))
    }
}

fn torn(change: &Change, rng: &mut StdRng, image: &mut Vec<u8>) {
    match change {
        Change::Write(at, data) if rng.random_bool(0.3) => {
            let end = rng.random_range(0..=data.len());
            Change::Write(*at, data[..end].to_vec()).apply(image);
        }
        Change::Write(at, data) if rng.random_bool(0.3) => {
            for (n, sector) in data.chunks(SECTOR).enumerate() {
                if rng.random_bool(0.5) {
                    Change::Write(at + n * SECTOR, sector.to_vec()).apply(image);
                }
            }
        }
        whole => whole.apply(image),
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock();
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        let found = state
            .seen
            .get(at..at + out.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::Resize(
            usize::try_from(len).map_err(io::Error::other)?,
        ))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        self.power(&mut state)?;
        if state.lies {
            return Ok(());
        }
        let unsynced = std::mem::take(&mut state.unsynced);
        for change in unsynced {
            change.apply(&mut state.durable);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        self.change(Change::Write(at, data.to_vec()))
    }
}
