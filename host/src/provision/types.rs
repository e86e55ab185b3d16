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
        let (kind, description) = offered.ok_or_else(|| unknown(name, &self.types()))?;
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

/// Types of Red5 that nobody has built for this host, with the names its pages give them.
const OF_RED5: [&str; 9] = [
    "ipcam",
    "rtsp",
    "srt",
    "srt-caller",
    "mpegts",
    "whip-push",
    "zixi",
    "zixi-pull",
    "zixi-push",
];
/// Types that are shipped beside the program.
const SHIPPED: [&str; 4] = ["rtmp-push", "file", "failover", "resolve"];

/// What to say about a type that is not there.
pub(super) fn unknown(name: &str, installed: &[RestreamType]) -> String {
    let names: Vec<&str> = installed.iter().map(RestreamType::as_str).collect();
    let installed = names.join(", ");
    if OF_RED5.contains(&name) {
        return format!(
            "is a type that Red5 has and restreamd does not have yet; installed are: {installed}"
        );
    }
    if SHIPPED.contains(&name) {
        return format!(
            "is shipped with restreamd as a plugin and not installed here: {name}.wasm belongs into plugin_dir; installed are: {installed}"
        );
    }
    format!("is no installed type; installed are: {installed}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_that_is_not_there_is_told_from_one_that_nobody_knows() {
        let installed = ["rtmp".parse().expect("legal")];
        let says = |name| unknown(name, &installed);
        assert!(says("srt-caller").contains("Red5 has and restreamd does not have yet"));
        assert!(says("rtmp-push").contains("rtmp-push.wasm belongs into plugin_dir"));
        assert!(says("ndi").starts_with("is no installed type"));
        for name in ["srt-caller", "rtmp-push", "ndi"] {
            assert!(says(name).ends_with("installed are: rtmp"), "{name}");
        }
    }
}
