//! What nodes tell each other through the store: who they are, and what they hold.
//!
//! Three kinds of entries, all under the lease of the node that wrote them, so that they
//! end with it. Shapes only: nothing here reads a store or a clock. Nodes of other
//! versions are in the same cluster: what is not known is passed over, and what an older
//! one does not say has a default.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{AppName, InvalidName, NodeGroup, NodeId, RestreamType, StreamGuid};

/// Begins the keys of the nodes of all groups.
pub const NODES: &str = "nodes/";
/// Begins the keys of the claims of all groups.
pub const CLAIMS: &str = "claims/";

/// Where a node's record lies.
pub fn node_key(group: &NodeGroup, node: &NodeId) -> String {
    format!("{NODES}{group}/{node}")
}

/// Where the claim of a stream lies.
pub fn claim_key(group: &NodeGroup, stream: &StreamGuid) -> String {
    format!("{CLAIMS}{group}/{stream}")
}

/// Where a node says that it can begin with a stream.
pub fn ready_key(group: &NodeGroup, stream: &StreamGuid) -> String {
    format!("ready/{group}/{stream}")
}

/// Names one membership of a node: a process has a new one each time it has to join
/// anew, so that what is said of an earlier one is never taken for the later. 32
/// hexadecimal digits, made of 128 random bits.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId(String);

impl InstanceId {
    /// From 128 random bits.
    pub fn from_bits(bits: u128) -> Self {
        Self(format!("{bits:032x}"))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InstanceId {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() != 32 || !text.bytes().all(digit) {
            return Err(InvalidName("must be 32 hexadecimal digits"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for InstanceId {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<InstanceId> for String {
    fn from(id: InstanceId) -> String {
        id.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a node takes work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeState {
    /// It does.
    #[default]
    InService,
    /// It hands over what it has and leaves. Also what a later version may call
    /// something that is not in service.
    #[serde(other)]
    Draining,
}

/// A node of the cluster: there as long as its lease is alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Which membership of the node this is.
    pub instance: InstanceId,
    /// `serverAddress`: where clients are sent.
    pub address: String,
    /// Where other nodes reach its RTMP.
    pub rtmp: SocketAddr,
    /// Where other nodes reach its REST API.
    pub api: SocketAddr,
    /// Whether the REST API speaks TLS.
    #[serde(default)]
    pub api_tls: bool,
    /// What it does; `origin`, or what a later version says.
    #[serde(default = "origin")]
    pub role: String,
    /// Its subgroup.
    #[serde(default = "default_sub_group")]
    pub sub_group: String,
    /// Restreamers it may run.
    #[serde(default)]
    pub capacity: u64,
    /// The same for the streams of single apps.
    #[serde(default)]
    pub app_capacity: BTreeMap<AppName, u64>,
    /// Types it offers, with the digest of the plugin of each.
    #[serde(default)]
    pub plugins: BTreeMap<RestreamType, String>,
    /// Whether it takes work.
    #[serde(default)]
    pub state: NodeState,
}

fn origin() -> String {
    "origin".to_owned()
}

fn default_sub_group() -> String {
    "default".to_owned()
}

/// Who may append media to a stream: the lock itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The node.
    pub node: NodeId,
    /// Its membership.
    pub instance: InstanceId,
    /// The assignment's, 0 for a publisher.
    #[serde(default)]
    pub epoch: u64,
    /// Whether a publisher has the stream, not a provision.
    #[serde(default)]
    pub published: bool,
}

/// Says that a node has media of a stream at hand and waits for its claim alone: who has
/// the claim and is to hand it over can let go without a gap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// The node that waits.
    pub node: NodeId,
    /// The epoch it waits with.
    pub epoch: u64,
}

/// Who holds the claim of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The node.
    pub node: NodeId,
    /// The claim's epoch.
    pub epoch: u64,
    /// What the node says of itself.
    pub record: NodeRecord,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A node that has room for ten pulls.
    pub(in crate::cluster) fn record(instance: u128) -> NodeRecord {
        NodeRecord {
            instance: InstanceId::from_bits(instance),
            address: "127.0.0.2".to_owned(),
            rtmp: "127.0.0.2:1935".parse().expect("an address"),
            api: "127.0.0.2:5080".parse().expect("an address"),
            api_tls: false,
            role: origin(),
            sub_group: default_sub_group(),
            capacity: 10,
            app_capacity: BTreeMap::new(),
            plugins: [("rtmp".parse().expect("legal"), "sha256:0".to_owned())].into(),
            state: NodeState::InService,
        }
    }

    #[test]
    fn records_of_older_and_newer_nodes_are_read() {
        let instance = "0".repeat(31) + "7";
        let old = format!(
            r#"{{"instance":"{instance}","address":"a","rtmp":"1.2.3.4:1","api":"[::1]:2"}}"#
        );
        let old: NodeRecord = serde_json::from_str(&old).expect("older");
        assert_eq!(old.instance, InstanceId::from_bits(7));
        assert_eq!((old.state, old.capacity), (NodeState::InService, 0));
        let mut new = serde_json::to_value(record(7)).expect("JSON");
        new["state"] = "Hibernating".into();
        new["moons"] = 3.into();
        let new: NodeRecord = serde_json::from_value(new).expect("newer");
        assert_eq!(new.state, NodeState::Draining, "it takes no work");
        let claim = format!(r#"{{"node":"n1","instance":"{instance}","why":1}}"#);
        let claim: Claim = serde_json::from_str(&claim).expect("newer");
        assert_eq!((claim.epoch, claim.published), (0, false));
    }

    #[test]
    fn an_instance_is_32_hexadecimal_digits() {
        for bad in ["", "7", &"g".repeat(32), &"0".repeat(33), &"A".repeat(32)] {
            assert!(bad.parse::<InstanceId>().is_err(), "{bad}");
        }
        assert_eq!(InstanceId::from_bits(u128::MAX).as_str(), "f".repeat(32));
    }

    #[test]
    fn a_record_survives_being_written() {
        let written = serde_json::to_vec(&record(1)).expect("JSON");
        let read: NodeRecord = serde_json::from_slice(&written).expect("JSON");
        assert_eq!(read, record(1));
    }
}
