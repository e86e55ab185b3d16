//! The transaction that carries out a change, and what its refusal means.
//!
//! Pure: knows the keys, not the store that holds them.

use std::collections::BTreeMap;

use super::error::{Error, unexpected};
use super::{Provision, keys};
use crate::id::{NodeGroup, ProvisionGuid, StreamGuid};
use crate::store::{self, Precondition, Revision, Txn};

/// A stored provision and the revision it was read at.
pub(super) struct Held {
    pub(super) provision: Provision,
    pub(super) revision: Revision,
}

/// A transaction, and what it means in names.
#[derive(Default)]
pub(super) struct Change {
    /// To be done whole.
    pub(super) txn: Txn,
    guids: Vec<ProvisionGuid>,
    /// Names fed from now on.
    pub(super) claimed: Vec<StreamGuid>,
}

impl Change {
    /// Writes a provision and what it is found by, over the one `held` if there is one.
    pub(super) fn put(
        &mut self,
        group: &NodeGroup,
        provision: Provision,
        held: Option<Held>,
    ) -> Result<(), Error> {
        let key = keys::provision(group, &provision.guid);
        let mut txn = std::mem::take(&mut self.txn).put(key.clone(), provision.to_document());
        txn = match &held {
            Some(held) => txn.revision_is(key, held.revision),
            None => txn.absent(key),
        };
        let before = held.map(|held| index(group, &held.provision));
        let after = index(group, &provision);
        if before
            .as_ref()
            .is_some_and(|before| !same_streams(before, &after))
        {
            return Err(Error::StreamsChanged(provision.guid));
        }
        let before = before.unwrap_or_default();
        for (key, fed) in after.iter().filter(|(key, _)| !before.contains_key(*key)) {
            txn = txn.put(key.clone(), provision.guid.as_str().to_owned());
            if let Indexed {
                stream,
                feeds: true,
            } = fed
            {
                txn = txn.absent(key.clone());
                self.claimed.push(stream.clone());
            }
        }
        for key in before.into_keys().filter(|key| !after.contains_key(key)) {
            txn = txn.delete(key);
        }
        self.txn = txn;
        self.guids.push(provision.guid);
        Ok(())
    }

    pub(super) fn delete(group: &NodeGroup, held: Held) -> Self {
        let guid = held.provision.guid.clone();
        let key = keys::provision(group, &guid);
        let mut txn = Txn::new()
            .revision_is(key.clone(), held.revision)
            .delete(key)
            .delete(keys::assignment(group, &guid));
        for key in index(group, &held.provision).into_keys() {
            txn = txn.delete(key);
        }
        Self {
            txn,
            guids: vec![guid],
            claimed: Vec::new(),
        }
    }

    /// Deletes a provision of which only the keys are known.
    pub(super) fn delete_unreadable(
        group: &NodeGroup,
        guid: &ProvisionGuid,
        revision: Revision,
        index: Vec<String>,
    ) -> Self {
        let key = keys::provision(group, guid);
        let txn = Txn::new()
            .revision_is(key.clone(), revision)
            .delete(key)
            .delete(keys::assignment(group, guid));
        Self {
            txn: index.into_iter().fold(txn, Txn::delete),
            guids: vec![guid.clone()],
            claimed: Vec::new(),
        }
    }

    /// What the store's refusal of this change means.
    pub(super) fn refusal(&self, group: &NodeGroup, cause: store::Error) -> Error {
        let store::Error::Failed { precondition } = cause else {
            return unexpected(cause);
        };
        let Precondition::Absent(key) = precondition else {
            return Error::Busy;
        };
        let guid = self
            .guids
            .iter()
            .find(|guid| keys::provision(group, guid) == key);
        let name = self
            .claimed
            .iter()
            .find(|name| keys::name(group, name) == key);
        match (guid, name) {
            (Some(guid), _) => Error::Exists(guid.clone()),
            (None, Some(name)) => Error::NameHeld(name.clone()),
            (None, None) => Error::Busy,
        }
    }
}

#[derive(PartialEq, Eq)]
struct Indexed {
    stream: StreamGuid,
    feeds: bool,
}

/// The keys a provision is found by.
fn index(group: &NodeGroup, provision: &Provision) -> BTreeMap<String, Indexed> {
    let keyed = provision.streams.iter().map(|stream| {
        let key = match stream.feeds {
            true => keys::name(group, &stream.guid),
            false => keys::reader(group, &stream.guid, &provision.guid),
        };
        (
            key,
            Indexed {
                stream: stream.guid.clone(),
                feeds: stream.feeds,
            },
        )
    });
    keyed.collect()
}

fn same_streams(before: &BTreeMap<String, Indexed>, after: &BTreeMap<String, Indexed>) -> bool {
    let sorted = |index: &BTreeMap<String, Indexed>| {
        let mut streams: Vec<StreamGuid> = index
            .values()
            .map(|indexed| indexed.stream.clone())
            .collect();
        streams.sort();
        streams
    };
    sorted(before) == sorted(after)
}
