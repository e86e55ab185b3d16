//! Sees every append and says what must not have been.

use std::collections::BTreeMap;
use std::time::Duration;

use super::TTL;
use crate::cluster::Assignment;
use crate::id::{ProvisionGuid, StreamGuid};

/// A stream is live when its last append is not longer ago.
const FRESH: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub(super) enum Violation {
    #[error(
        "{stream}: node {node} appends under {number} after node {newer_node} did under {newer}"
    )]
    TwoAppend {
        stream: StreamGuid,
        node: usize,
        number: u64,
        newer_node: usize,
        newer: u64,
    },
    #[error("{guid} was deleted at {at:?}, and node {node} appends to {stream}")]
    Undead {
        guid: ProvisionGuid,
        stream: StreamGuid,
        node: usize,
        at: Duration,
    },
    #[error("{guid} is assigned to node {node} as {epoch} and is not live there: {last}")]
    Dead {
        guid: ProvisionGuid,
        node: usize,
        epoch: u64,
        last: String,
    },
}

#[derive(Debug)]
struct Truth {
    stream: StreamGuid,
    #[allow(dead_code, reason = "shown when a seed fails")]
    persist: bool,
    deleted: Option<Duration>,
}

#[derive(Debug)]
struct Last {
    number: u64,
    node: usize,
    at: Duration,
    guid: Option<ProvisionGuid>,
}

#[derive(Debug, Default)]
pub(super) struct Judge {
    provisions: BTreeMap<ProvisionGuid, Truth>,
    streams: BTreeMap<StreamGuid, Last>,
    appends: u64,
    moves: u64,
}

impl Judge {
    pub(super) fn created(&mut self, guid: &ProvisionGuid, stream: StreamGuid, persist: bool) {
        let truth = Truth {
            stream,
            persist,
            deleted: None,
        };
        self.provisions.insert(guid.clone(), truth);
    }

    pub(super) fn deleted(&mut self, guid: &ProvisionGuid, at: Duration) {
        if let Some(truth) = self.provisions.get_mut(guid) {
            truth.deleted.get_or_insert(at);
        }
    }

    pub(super) fn alive(&self) -> impl Iterator<Item = &ProvisionGuid> {
        let alive = self.provisions.iter();
        let alive = alive.filter(|(_, truth)| truth.deleted.is_none());
        alive.map(|(guid, _)| guid)
    }

    pub(super) fn stream_of(&self, guid: &ProvisionGuid) -> Option<StreamGuid> {
        Some(self.provisions.get(guid)?.stream.clone())
    }

    pub(super) fn appends(&self) -> u64 {
        self.appends
    }

    /// How often a stream went on elsewhere.
    pub(super) fn moves(&self) -> u64 {
        self.moves
    }

    /// No append under an epoch after the first one under a later one. Epochs count for
    /// each provision; names go from one provision to the next in the order of these.
    pub(super) fn append(
        &mut self,
        stream: &StreamGuid,
        guid: Option<&ProvisionGuid>,
        number: u64,
        node: usize,
        now: Duration,
    ) -> Result<(), Violation> {
        self.appends += 1;
        let truth = guid.and_then(|guid| Some((guid, self.provisions.get(guid)?)));
        if let Some((guid, at)) = truth.and_then(|(guid, truth)| Some((guid, truth.deleted?)))
            && now > at + TTL + Duration::from_secs(1)
        {
            return Err(Violation::Undead {
                guid: guid.clone(),
                stream: stream.clone(),
                node,
                at,
            });
        }
        if let Some(last) = self.streams.get(stream) {
            let order = |guid: Option<&ProvisionGuid>, number: u64| {
                let created = guid.and_then(|guid| guid.as_str().strip_prefix("p-"));
                let created: Option<u64> = created.and_then(|n| n.parse().ok());
                (created, number)
            };
            let (now_is, was) = (order(guid, number), order(last.guid.as_ref(), last.number));
            if now_is < was || (now_is == was && node != last.node) {
                return Err(Violation::TwoAppend {
                    stream: stream.clone(),
                    node,
                    number,
                    newer_node: last.node,
                    newer: last.number,
                });
            }
        }
        let former = self.streams.get(stream);
        self.moves += u64::from(former.is_some_and(|last| last.node != node));
        let last = Last {
            number,
            node,
            at: now,
            guid: guid.cloned(),
        };
        self.streams.insert(stream.clone(), last);
        Ok(())
    }

    pub(super) fn is_live(
        &self,
        guid: &ProvisionGuid,
        node: usize,
        assigned: &Assignment,
        now: Duration,
    ) -> Result<(), Violation> {
        let stream = self.stream_of(guid).expect("it was created");
        let last = self.streams.get(&stream);
        let live = last.is_some_and(|last| {
            last.node == node
                && last.number == assigned.epoch
                && last.guid.as_ref() == Some(guid)
                && now < last.at + FRESH
        });
        match live {
            true => Ok(()),
            false => Err(Violation::Dead {
                guid: guid.clone(),
                node,
                epoch: assigned.epoch,
                last: format!("{last:?}"),
            }),
        }
    }

    pub(super) fn nothing_else_is_live(&self, now: Duration) -> Result<(), Violation> {
        for (stream, last) in &self.streams {
            let Some((guid, at)) = last.guid.as_ref().and_then(|guid| {
                let truth = self.provisions.get(guid)?;
                Some((guid, truth.deleted?))
            }) else {
                continue;
            };
            if now < last.at + FRESH {
                return Err(Violation::Undead {
                    guid: guid.clone(),
                    stream: stream.clone(),
                    node: last.node,
                    at,
                });
            }
        }
        Ok(())
    }
}
