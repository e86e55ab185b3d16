//! What a test has broken in this node, to see that the judges of appends notice.
//!
//! In builds with debug assertions alone, asked for by the environment variable
//! [`VARIABLE`]: `gate` and `claim` are its words. No other build looks at it.

use crate::stream::Gate;

/// The environment variable. It is not part of the configuration.
#[cfg(debug_assertions)]
const VARIABLE: &str = "RESTREAMD_BREAK";

/// What is broken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sabotage {
    /// Nothing.
    #[default]
    None,
    /// A stream that was admitted once stays so when the lease is over. Who is told to bar
    /// it still does: it takes a node that hears nothing of its cluster to see it.
    Gate,
    /// A stream that is assigned to the node is admitted at once, whoever has its claim.
    Claim,
}

impl Sabotage {
    /// What the environment asks for.
    pub fn asked_for() -> Self {
        #[cfg(debug_assertions)]
        if let Ok(word) = std::env::var(VARIABLE) {
            tracing::warn!(part = word, "broken on purpose, for a test");
            return match word.as_str() {
                "gate" => Self::Gate,
                "claim" => Self::Claim,
                _ => Self::None,
            };
        }
        Self::None
    }

    /// The gate of a permit.
    pub(super) fn gate(self, gate: Gate) -> Gate {
        match self {
            Self::Gate => Gate::always(),
            Self::None | Self::Claim => gate,
        }
    }
}
