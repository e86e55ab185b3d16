//! Why a call about provisions was refused.

use super::field::{Invalid, join};
use super::mask;
use crate::id::{ProvisionGuid, StreamGuid};
use crate::plugin::CheckError;
use crate::store;

/// Why a call was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The request is within its bounds, but more than the store takes at once.
    #[error("the request is too large for the store: {0}")]
    TooLarge(String),
    /// There is no such provision.
    #[error("there is no provision {0}")]
    Unknown(ProvisionGuid),
    /// There is one already.
    #[error("provision {0} already exists")]
    Exists(ProvisionGuid),
    /// Another provision feeds the stream.
    #[error("stream {0} is fed by another provision")]
    NameHeld(StreamGuid),
    /// A publisher is live on the stream's name.
    #[error("a publisher is live on {0}")]
    NameLive(StreamGuid),
    /// An update would change which streams the provision is about.
    #[error("the streams of provision {0} cannot change; delete it and create another")]
    StreamsChanged(ProvisionGuid),
    /// Others changed the same provisions again and again.
    #[error("the provision was changed by someone else at the same time")]
    Busy,
    /// The plugin could not judge the properties.
    #[error("the plugin failed to check the properties: {0}")]
    Plugin(String),
    /// The plugin crashed too often: nothing new runs on it for now.
    #[error("the plugin is quarantined: {0}")]
    Quarantined(String),
    /// The store is out of reach; the same call may succeed later. A write may have been done all the same.
    #[error("the store is unavailable")]
    Unavailable(#[source] store::Error),
    /// The store holds what nobody can read, or broke its promise.
    #[error("the store failed: {0}")]
    Broken(String),
}

/// A plugin may repeat what it was given, so its words are masked.
pub(super) fn refusal(cause: CheckError, kind: &str, at: &str, feeds: bool) -> Error {
    let masked = |text: &str| mask::mask_urls(text, !feeds);
    match cause {
        CheckError::UnknownType { installed } => {
            let text = super::types::unknown(kind, &installed);
            Invalid::at(format!("{at}.type"), text).into()
        }
        CheckError::Failed(text) => Error::Plugin(masked(&text)),
        CheckError::Quarantined(why) => Error::Quarantined(why),
        CheckError::Problems(problems) => match problems.into_iter().next() {
            Some(problem) => {
                let field = if problem.key.is_empty() {
                    at.to_owned()
                } else {
                    join(at, &problem.key)
                };
                Invalid::at(field, masked(&problem.message)).into()
            }
            None => Error::Plugin("refused without a reason".into()),
        },
    }
}

pub(super) fn unexpected(cause: store::Error) -> Error {
    match cause {
        store::Error::Unavailable(_) | store::Error::Closed => Error::Unavailable(cause),
        store::Error::TooLarge(bound) => Error::TooLarge(bound.to_string()),
        other => Error::Broken(other.to_string()),
    }
}
