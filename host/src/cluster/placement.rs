//! Which node gets a provision. Pure: nodes and wishes in, a node or the reason out.

use crate::id::{NodeId, RestreamType};

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
    /// Types its plugins offer.
    pub types: Vec<RestreamType>,
}

/// What is asked of a node.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Types that it must offer.
    pub types: &'a [RestreamType],
    /// Restreamers that come with it.
    pub restreamers: u64,
    /// A subgroup, preferred or demanded.
    pub sub_group: Option<&'a str>,
    /// Demanded: nothing else will do.
    pub strict: bool,
}

/// Why no node fits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoFit {
    /// None could ever.
    #[error("{0}")]
    None(String),
    /// All that could are full.
    #[error("every node that fits is at its limit of restreamers")]
    Full,
}

/// Chooses: the wanted subgroup first, then the fewest restreamers per capacity,
/// then by name so that every node chooses alike.
pub fn place<'a>(nodes: &'a [Candidate], wanted: Wanted<'_>) -> Result<&'a Candidate, NoFit> {
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
    let free = fitting
        .into_iter()
        .filter(|node| node.restreamers + wanted.restreamers <= node.capacity);
    let load =
        |node: &Candidate| (u128::from(node.restreamers) << 32) / u128::from(node.capacity.max(1));
    free.min_by_key(|node| (!near(node), load(node), node.id.clone()))
        .ok_or(NoFit::Full)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str, sub_group: &str, restreamers: u64) -> Candidate {
        Candidate {
            id: id.parse().expect("legal"),
            in_service: true,
            sub_group: sub_group.to_owned(),
            restreamers,
            capacity: 10,
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
            restreamers: 1,
            sub_group,
            strict,
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
    }

    #[test]
    fn full_draining_and_unable_nodes_are_left_out() {
        let types = ["rtmp".parse().expect("legal")];
        let other = ["srt".parse().expect("legal")];
        let full = [node("a", "x", 10)];
        assert_eq!(
            place(&full, wanted(&types, None, false)).err(),
            Some(NoFit::Full)
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
}
