//! The message streams of one client.
//!
//! It does not know messages. Invariants: there are at most `max` streams; ids
//! are the smallest free ones, so a client's first is 1, which is the one that
//! shared media is addressed to.

/// What a message stream is used for.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Use {
    Idle,
    PublishAsked(String),
    Publishing(String),
    PlayAsked,
    Playing,
}

pub(super) struct Streams {
    streams: Vec<(u32, Use)>,
    max: usize,
}

impl Streams {
    pub(super) fn new(max: usize) -> Self {
        Self {
            streams: Vec::new(),
            max,
        }
    }

    /// A new stream; `None` when there are too many.
    pub(super) fn create(&mut self) -> Option<u32> {
        if self.streams.len() >= self.max {
            return None;
        }
        let id = (1..=u32::MAX).find(|id| self.get(*id).is_none())?;
        self.streams.push((id, Use::Idle));
        Some(id)
    }

    pub(super) fn get(&self, id: u32) -> Option<&Use> {
        self.streams.iter().find(|(i, _)| *i == id).map(|(_, u)| u)
    }

    /// Sets what a stream is used for; gives what it was used for.
    pub(super) fn set(&mut self, id: u32, now: Use) -> Option<Use> {
        let (_, used) = self.streams.iter_mut().find(|(i, _)| *i == id)?;
        Some(std::mem::replace(used, now))
    }

    pub(super) fn delete(&mut self, id: u32) -> Option<Use> {
        let at = self.streams.iter().position(|(i, _)| *i == id)?;
        Some(self.streams.remove(at).1)
    }

    pub(super) fn is_publishing(&self, id: u32) -> bool {
        matches!(self.get(id), Some(Use::Publishing(_)))
    }

    /// The stream a request is for. Some clients ask on stream 0; with one
    /// stream it is clear which they mean.
    pub(super) fn addressed(&self, id: u32) -> Option<u32> {
        match (id, &self.streams[..]) {
            (0, [(only, _)]) => Some(*only),
            _ => self.get(id).map(|_| id),
        }
    }

    /// The streams that publish `name`, or ask to.
    pub(super) fn publishing(&self, name: &str) -> Vec<u32> {
        let named = |used: &Use| match used {
            Use::PublishAsked(n) | Use::Publishing(n) => n == name,
            _ => false,
        };
        let streams = self.streams.iter();
        streams.filter(|(_, u)| named(u)).map(|(i, _)| *i).collect()
    }
}
