//! What a type's plugin is granted, as the policy its restreamers dial under.

use std::net::IpAddr;
use std::sync::Arc;

use super::hosts::Hosts;
use crate::id::RestreamType;
use crate::plugin::Grants;
use crate::rtmp::policy::Narrow;

/// The grants of a type, as a narrowing that names itself.
#[derive(Debug)]
struct Granted {
    kind: RestreamType,
    grants: Grants,
}

impl Narrow for Granted {
    fn refusal(&self, host: &str, addr: Option<IpAddr>, port: u16) -> Option<String> {
        let missing = self.grants.missing(host, addr, port)?;
        Some(format!(
            "plugins.overrides.{}.grants: {missing} do not cover {host}:{port}",
            self.kind
        ))
    }
}

/// The remote hosts as a type's restreamers may dial them.
pub(super) fn hosts(all: &Arc<Hosts>, kind: &RestreamType, grants: Grants) -> Arc<Hosts> {
    if !grants.narrows() {
        return all.clone();
    }
    let granted = Granted {
        kind: kind.clone(),
        grants,
    };
    Arc::new(all.under(all.policy().narrowed(Arc::new(granted))))
}
