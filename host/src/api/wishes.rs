//! What a caller wishes of the nodes it is sent to: the query that all placements share.
//!
//! The one place where its parameters are declared, described and read.

use utoipa::IntoParams;

use super::error::Error;
use super::extract::Query;
use crate::cluster::Constraints;

/// The parameters as they were given.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Wishes {
    /// Only nodes of the subgroup, and exactly `endpoints` of them
    strict: Option<bool>,
    /// Also `subGroup` or `region`
    subgroup: Option<String>,
    /// At most so many nodes
    #[param(minimum = 1)]
    endpoints: Option<usize>,
    /// PUBLISH, SUBSCRIBE; others are refused
    capabilities: Option<String>,
    /// true is refused
    transcode: Option<bool>,
}

impl Wishes {
    /// Those of a query, or the parameter that cannot be read.
    pub(super) fn of(query: &Query) -> Result<Self, Error> {
        let text = |names: &[&str]| query.text(names).map(str::to_owned);
        Ok(Self {
            strict: query.flag("strict", false).map(Some)?,
            subgroup: text(&["region", "subgroup", "subGroup"]),
            endpoints: query.count("endpoints")?,
            capabilities: text(&["capabilities"]),
            transcode: query.flag("transcode", false).map(Some)?,
        })
    }

    /// What they ask of a node; refuses what no node of ours can do.
    pub(super) fn constraints(self) -> Result<Constraints, Error> {
        if self.transcode == Some(true) {
            return Err(Error::validation(
                "transcode",
                "this host does not transcode",
            ));
        }
        let offered = |name: &str| {
            matches!(
                name.trim().to_ascii_uppercase().as_str(),
                "" | "PUBLISH" | "SUBSCRIBE"
            )
        };
        let capabilities = self.capabilities.unwrap_or_default();
        if !capabilities.split(',').all(offered) {
            return Err(Error::validation(
                "capabilities",
                "this host offers PUBLISH and SUBSCRIBE",
            ));
        }
        Ok(Constraints {
            sub_group: self.subgroup.filter(|name| !name.is_empty()),
            strict: self.strict.unwrap_or(false),
            endpoints: self.endpoints.unwrap_or(1),
        })
    }
}
