//! What an error of etcd means: was anything done, and may it be tried elsewhere.
//!
//! Pure. etcd tells its errors apart by gRPC code and text; texts are looked at where one
//! code stands for what was done and what was not.

use std::error::Error as StdError;
use std::sync::Arc;

use tonic::{Code, Status};

use crate::store::Error;

/// A member that sees no leader says so before it does anything (rpctypes, ErrNoLeader).
const NO_LEADER: &str = "etcdserver: no leader";
/// The text of a lease that is gone, for an error that the client made itself.
const CLIENT_LEASE: &str = "lease not found";

/// Why a member did not do what was asked.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing was done: ask another member.
    NotDone(Cause),
    /// It may have been done, now or later.
    Unknown(Cause),
    /// There is no such lease.
    NoSuchLease,
    /// The revision is compacted, not there yet, or the answer larger than allowed.
    OutOfRange(Cause),
}

pub(super) type Cause = Arc<dyn StdError + Send + Sync>;

impl Failure {
    /// Of an error of the client.
    pub(super) fn of(error: etcd_client::Error) -> Self {
        match error {
            etcd_client::Error::GRpcStatus(status) => Self::of_status(status),
            etcd_client::Error::LeaseKeepAliveError(text) if text == CLIENT_LEASE => {
                Self::NoSuchLease
            }
            // These are made before anything is sent.
            error @ (etcd_client::Error::InvalidArgs(_)
            | etcd_client::Error::InvalidUri(_)
            | etcd_client::Error::TransportError(_)
            | etcd_client::Error::InvalidMetadataValue(_)) => Self::NotDone(Arc::new(error)),
            error => Self::Unknown(Arc::new(error)),
        }
    }

    fn of_status(status: Status) -> Self {
        match status.code() {
            Code::NotFound => Self::NoSuchLease,
            Code::OutOfRange => Self::OutOfRange(Said::cause(&status)),
            // Wrong or old credentials, a full disk, a request that etcd's settings forbid.
            Code::Unauthenticated
            | Code::PermissionDenied
            | Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::ResourceExhausted
            | Code::Unimplemented => Self::NotDone(Said::cause(&status)),
            Code::Unavailable if status.message() == NO_LEADER || unconnected(&status) => {
                Self::NotDone(Said::cause(&status))
            }
            _ => Self::Unknown(Said::cause(&status)),
        }
    }

    /// It took too long.
    pub(super) fn late() -> Self {
        Self::Unknown(Arc::new(NoAnswer))
    }

    /// A watch that etcd ended, with etcd's reason.
    pub(super) fn refused(why: &str) -> Self {
        Self::NotDone(Arc::new(Refused(why.to_owned())))
    }

    /// Whether the connection and its login are of no more use.
    pub(super) fn spoils_client(&self) -> bool {
        let (Self::NotDone(cause) | Self::Unknown(cause)) = self else {
            return false;
        };
        if cause.is::<NoAnswer>() {
            return true;
        }
        let code = cause.downcast_ref::<Said>().map(|said| said.code);
        // The last is etcd's for a login from before the users were changed.
        matches!(code, Some(Code::Unauthenticated | Code::InvalidArgument))
    }

    /// As callers of the store see it.
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::NotDone(cause) | Self::Unknown(cause) | Self::OutOfRange(cause) => {
                Error::Unavailable(cause)
            }
            Self::NoSuchLease => Error::NoSuchLease,
        }
    }
}

/// What etcd, or the way to it, said.
#[derive(Debug, thiserror::Error)]
#[error("{text} ({code:?})")]
pub(super) struct Said {
    code: Code,
    text: String,
}

impl Said {
    /// Short: a status shows each error of a chain twice.
    fn cause(status: &Status) -> Cause {
        let mut last: Option<&dyn StdError> = None;
        let mut source = status.source();
        while let Some(error) = source {
            last = Some(error);
            source = error.source();
        }
        let text = last.map_or_else(|| status.message().to_owned(), ToString::to_string);
        Arc::new(Self {
            code: status.code(),
            text,
        })
    }
}

/// A watch was ended.
#[derive(Debug, thiserror::Error)]
#[error("etcd ended the watch: {0:?}")]
struct Refused(String);

/// No member answered in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer of etcd in time")]
pub(super) struct NoAnswer;

/// Whether nothing was sent because there is no connection.
fn unconnected(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_certainly_not_done_may_be_done_again() {
        let of = |code, text: &str| Failure::of_status(Status::new(code, text));
        assert!(matches!(
            of(Code::Unavailable, NO_LEADER),
            Failure::NotDone(_)
        ));
        let lost = of(Code::Unavailable, "etcdserver: leader changed");
        assert!(matches!(lost, Failure::Unknown(_)));
        assert!(matches!(of(Code::Unknown, ""), Failure::Unknown(_)));
        assert!(matches!(of(Code::NotFound, ""), Failure::NoSuchLease));
        assert!(of(Code::Unauthenticated, "").spoils_client());
        assert!(Failure::late().spoils_client());
        assert!(of(Code::Unavailable, "").into_error().retryable());
    }
}
