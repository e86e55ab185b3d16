//! What a provision needs to know of the installed plugins.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::spec::Kind;
use crate::id::RestreamType;
use crate::plugin::{CheckError, Description, Direction, Plugins};

/// The installed types. [`Plugins`] is the one there is; tests bring their own.
pub trait Types: Send + Sync {
    /// What a type name means, aliases resolved; else what to tell the caller.
    fn kind_of(&self, name: &str) -> Result<Kind, String>;
    /// What the type says about itself; `None` when it is not installed.
    fn describe(&self, kind: &RestreamType) -> Option<Arc<Description>>;
    /// Asks the type's plugin about a stream's properties.
    fn check<'a>(
        &'a self,
        kind: &'a RestreamType,
        properties: &'a [(String, String)],
    ) -> BoxFuture<'a, Result<(), CheckError>>;
}

impl Types for Plugins {
    fn kind_of(&self, name: &str) -> Result<Kind, String> {
        let offered = self
            .resolve(name)
            .and_then(|kind| self.describe(&kind).map(|description| (kind, description)));
        let (kind, description) = offered.ok_or_else(|| unknown(&self.types()))?;
        Ok(Kind {
            kind,
            feeds: matches!(description.direction, Direction::Feeds),
        })
    }

    fn describe(&self, kind: &RestreamType) -> Option<Arc<Description>> {
        self.describe(kind)
    }

    fn check<'a>(
        &'a self,
        kind: &'a RestreamType,
        properties: &'a [(String, String)],
    ) -> BoxFuture<'a, Result<(), CheckError>> {
        Box::pin(self.check(kind, properties))
    }
}

/// What to say about a type that is not there.
pub(super) fn unknown(installed: &[RestreamType]) -> String {
    let names: Vec<&str> = installed.iter().map(RestreamType::as_str).collect();
    format!("is no installed type; installed are: {}", names.join(", "))
}
