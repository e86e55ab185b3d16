//! Which node gets a provision. Pure: nodes and wishes in, a node or the reason out.

use crate::id::{AppName, NodeId, RestreamType, StreamGuid};

/// A node as placement sees it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its name.
    pub id: NodeId,
    /// Takes new work.
    pub in_service: bool,
    /// Its subgroup.
    pub sub_group: String,
    /// Restreamers it runs.
    pub restreamers: u64,
    /// Restreamers it may run.
    pub capacity: u64,
    /// The same for the streams of the apps that have a limit.
    pub apps: Vec<AppShare>,
    /// Types its plugins offer.
    pub types: Vec<RestreamType>,
}

/// What a node runs of one app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppShare {
    /// The app.
    pub app: AppName,
    /// Restreamers of its streams.
    pub restreamers: u64,
    /// As many as there may be.
    pub capacity: u64,
}

fn of_app<'a>(app: &AppName, streams: impl IntoIterator<Item = &'a StreamGuid>) -> u64 {
    let of = |stream: &&StreamGuid| stream.app_name() == app.as_str();
    streams.into_iter().filter(of).count() as u64
}

/// What is asked of a node.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Types that it must offer.
    pub types: &'a [RestreamType],
    /// The streams of the restreamers that come with it.
    pub streams: &'a [StreamGuid],
    /// A subgroup, preferred or demanded.
    pub sub_group: Option<&'a str>,
    /// Demanded: nothing else will do.
    pub strict: bool,
    /// The node that has what is read, preferred to all others.
    pub near: Option<&'a NodeId>,
}

/// Why no node fits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoFit {
    /// None could ever.
    #[error("{0}")]
    None(String),
    /// All that could are full: the node as a whole, or this app's share of it.
    #[error("every node that fits is at its limit of restreamers")]
    Full(Option<AppName>),
}

/// Chooses the best, see [`rank`].
pub fn place<'a>(nodes: &'a [Candidate], wanted: Wanted<'_>) -> Result<&'a Candidate, NoFit> {
    let best = rank(nodes, wanted)?.into_iter().next();
    best.ok_or(NoFit::Full(None))
}

/// All that fit, one at least, the best first: where the stream is that is read, then the wanted subgroup, then the
/// fewest restreamers per capacity, then by name so that every node chooses alike.
pub fn rank<'a>(nodes: &'a [Candidate], wanted: Wanted<'_>) -> Result<Vec<&'a Candidate>, NoFit> {
    let in_service = || nodes.iter().filter(|node| node.in_service);
    if in_service().next().is_none() {
        return Err(NoFit::None("no node is in service".to_owned()));
    }
    let able: Vec<_> = in_service()
        .filter(|node| wanted.types.iter().all(|kind| node.types.contains(kind)))
        .collect();
    if able.is_empty() {
        let types: Vec<&str> = wanted.types.iter().map(RestreamType::as_str).collect();
        return Err(NoFit::None(format!(
            "no node offers the type {}",
            types.join(", ")
        )));
    }
    let near = |node: &Candidate| wanted.sub_group.is_none_or(|wish| wish == node.sub_group);
    let fitting: Vec<_> = able
        .into_iter()
        .filter(|node| !wanted.strict || near(node))
        .collect();
    if fitting.is_empty() {
        return Err(NoFit::None(format!(
            "no node is in the subgroup {}",
            wanted.sub_group.unwrap_or_default()
        )));
    }
    let mut full = None;
    let mut free: Vec<_> = fitting
        .into_iter()
        .filter(|node| match node.full(wanted.streams) {
            Some(whose) => {
                full = Some(whose);
                false
            }
            None => true,
        })
        .collect();
    let load =
        |node: &Candidate| (u128::from(node.restreamers) << 32) / u128::from(node.capacity.max(1));
    free.sort_by_cached_key(|node| {
        let away = wanted.near.is_some_and(|at| *at != node.id);
        (away, !near(node), load(node), node.id.clone())
    });
    match free.is_empty() {
        true => Err(NoFit::Full(full.flatten())),
        false => Ok(free),
    }
}

impl Candidate {
    /// Whether there is room for the restreamers of these streams.
    pub(super) fn has_room(&self, streams: &[StreamGuid]) -> bool {
        self.full(streams).is_none()
    }

    /// Whether there is no room for these streams: for the node's sake, or for an app's.
    fn full(&self, streams: &[StreamGuid]) -> Option<Option<AppName>> {
        if self.restreamers + streams.len() as u64 > self.capacity {
            return Some(None);
        }
        let no_room =
            |share: &&AppShare| share.restreamers + of_app(&share.app, streams) > share.capacity;
        // Streams of other apps find room beside one that has more than it may by now.
        let wanted = |share: &&AppShare| of_app(&share.app, streams) > 0;
        let share = self.apps.iter().filter(wanted).find(no_room)?;
        Some(Some(share.app.clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;

    static ONE: OnceLock<[StreamGuid; 1]> = OnceLock::new();

    fn name(text: &str) -> StreamGuid {
        text.parse().expect("legal")
    }

    fn node(id: &str, sub_group: &str, restreamers: u64) -> Candidate {
        Candidate {
            id: id.parse().expect("legal"),
            in_service: true,
            sub_group: sub_group.to_owned(),
            restreamers,
            capacity: 10,
            apps: Vec::new(),
            types: vec!["rtmp".parse().expect("legal")],
        }
    }

    fn wanted<'a>(
        types: &'a [RestreamType],
        sub_group: Option<&'a str>,
        strict: bool,
    ) -> Wanted<'a> {
        Wanted {
            types,
            streams: ONE.get_or_init(|| [name("live/a")]),
            sub_group,
            strict,
            near: None,
        }
    }

    #[test]
    fn the_emptiest_node_of_the_wanted_subgroup_is_chosen() {
        let types = ["rtmp".parse().expect("legal")];
        let nodes = [
            node("a", "east", 5),
            node("b", "west", 1),
            node("c", "east", 3),
        ];
        let chosen = |w| place(&nodes, w).map(|node| node.id.to_string());
        assert_eq!(chosen(wanted(&types, None, false)), Ok("b".to_owned()));
        assert_eq!(
            chosen(wanted(&types, Some("east"), false)),
            Ok("c".to_owned())
        );
        assert_eq!(
            chosen(wanted(&types, Some("north"), false)),
            Ok("b".to_owned())
        );
        assert!(matches!(
            chosen(wanted(&types, Some("north"), true)),
            Err(NoFit::None(_))
        ));
        let ranked = rank(&nodes, wanted(&types, Some("east"), false)).expect("they fit");
        let ranked: Vec<&str> = ranked.iter().map(|node| node.id.as_str()).collect();
        assert_eq!(ranked, ["c", "a", "b"]);
    }

    #[test]
    fn what_reads_a_stream_goes_where_that_is_if_there_is_room() {
        let types = ["rtmp".parse().expect("legal")];
        let at: NodeId = "b".parse().expect("legal");
        let wanted = Wanted {
            near: Some(&at),
            ..wanted(&types, Some("east"), false)
        };
        let nodes = [node("a", "east", 0), node("b", "west", 9)];
        let chosen = place(&nodes, wanted).map(|node| node.id.to_string());
        assert_eq!(chosen, Ok("b".to_owned()));
        let nodes = [node("a", "east", 0), node("b", "west", 10)];
        let chosen = place(&nodes, wanted).map(|node| node.id.to_string());
        assert_eq!(chosen, Ok("a".to_owned()));
    }

    #[test]
    fn full_draining_and_unable_nodes_are_left_out() {
        let types = ["rtmp".parse().expect("legal")];
        let other = ["srt".parse().expect("legal")];
        let full = [node("a", "x", 10)];
        assert_eq!(
            place(&full, wanted(&types, None, false)).err(),
            Some(NoFit::Full(None))
        );
        assert!(matches!(
            place(&full, wanted(&other, None, false)),
            Err(NoFit::None(_))
        ));
        let draining = [Candidate {
            in_service: false,
            ..node("a", "x", 0)
        }];
        assert!(matches!(
            place(&draining, wanted(&types, None, false)),
            Err(NoFit::None(_))
        ));
    }
    #[test]
    fn an_apps_share_is_full_for_its_own_streams_only() {
        let types = ["rtmp".parse().expect("legal")];
        let live: AppName = "live".parse().expect("legal");
        let shares = vec![AppShare {
            app: live.clone(),
            restreamers: 2,
            capacity: 3,
        }];
        let nodes = [Candidate {
            apps: shares,
            ..node("a", "x", 3)
        }];
        let placed = |streams: &[&str]| {
            let streams: Vec<_> = streams.iter().map(|text| name(text)).collect();
            let wanted = Wanted {
                streams: &streams,
                ..wanted(&types, None, false)
            };
            place(&nodes, wanted).map(|node| node.id.to_string())
        };
        assert!(placed(&["live/c"]).is_ok());
        assert!(placed(&["live/c", "other/b"]).is_ok());
        assert_eq!(placed(&["live/c", "live/d"]), Err(NoFit::Full(Some(live))));
        assert!(placed(&["other/b", "other/c"]).is_ok());
    }
}
