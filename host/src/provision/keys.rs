//! Where provisions lie in the store.
//!
//! Group names hold no slash and guids no empty segment, so no key of one kind can be
//! mistaken for another, and `//` ends a stream's name.

use crate::id::{NodeGroup, ProvisionGuid, StreamGuid};

/// A provision's document.
pub fn provision(group: &NodeGroup, guid: &ProvisionGuid) -> String {
    format!("provisions/{group}/{guid}")
}

/// Begins the keys of all provisions of a group.
pub fn provisions(group: &NodeGroup) -> String {
    format!("provisions/{group}/")
}

/// Which provision feeds a stream; its value is the provision's guid.
pub fn name(group: &NodeGroup, stream: &StreamGuid) -> String {
    format!("names/{group}/{stream}")
}

/// Says that a provision reads a stream; its value is the provision's guid.
pub fn reader(group: &NodeGroup, stream: &StreamGuid, guid: &ProvisionGuid) -> String {
    format!("readers/{group}/{stream}//{guid}")
}

/// Begins the keys of all provisions that read a stream.
pub fn readers(group: &NodeGroup, stream: &StreamGuid) -> String {
    format!("readers/{group}/{stream}//")
}

/// Begin the keys whose values are guids of provisions of a group.
pub fn indexes(group: &NodeGroup) -> [String; 2] {
    [format!("names/{group}/"), format!("readers/{group}/")]
}

/// The node a provision was given to.
pub fn assignment(group: &NodeGroup, guid: &ProvisionGuid) -> String {
    format!("assignments/{group}/{guid}")
}
