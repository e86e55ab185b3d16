//! The host of `describe` and `check`: nothing may be dialed or waited for.

use std::time::Duration;

use crate::restreamer::host::{
    Claim, Class, ConnectOptions, Facts, Failure, FetchFuture, FileOptions, Host, Level,
    PublishOptions, Request, SourceId, SourceState, TargetFacts, TargetId, TargetState, WaitFuture,
};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offline;

fn refuse<T>() -> Result<T, Failure> {
    Err(Failure::new(Class::Blocked, "nothing is dialed before run"))
}

impl Host for Offline {
    fn connect(&mut self, _: &str, _: ConnectOptions) -> Result<SourceId, Failure> {
        refuse()
    }

    fn publish(&mut self, _: &str, _: PublishOptions) -> Result<TargetId, Failure> {
        refuse()
    }

    fn target_url(&mut self, _: TargetId) -> String {
        String::new()
    }

    fn target_facts(&mut self, _: TargetId) -> TargetFacts {
        TargetFacts {
            state: TargetState::Ended,
            bytes: 0,
            frames: 0,
            dropped: 0,
            flowing: Duration::ZERO,
            lag: Duration::ZERO,
        }
    }

    fn close_target(&mut self, _: TargetId) {}

    fn open_file(&mut self, _: &str, _: FileOptions) -> Result<SourceId, Failure> {
        refuse()
    }

    fn url(&mut self, _: SourceId) -> String {
        String::new()
    }

    fn facts(&mut self, _: SourceId) -> Facts {
        Facts {
            state: SourceState::Ended,
            attached: false,
            on_air: false,
            video: None,
            audio: None,
            more: crate::restreamer::host::MoreTracks::default(),
            gop: None,
            bytes: 0,
            flowing: Duration::ZERO,
            stall: None,
        }
    }

    fn attach(&mut self, _: SourceId) -> Result<(), Failure> {
        refuse()
    }

    fn close(&mut self, _: SourceId) {}

    fn fetch(&mut self, _: Request) -> FetchFuture<'_> {
        Box::pin(std::future::ready(refuse()))
    }

    fn wait(&mut self, _: Option<Duration>) -> WaitFuture<'_> {
        Box::pin(std::future::pending()) // the caller's limit ends it
    }

    fn log(&mut self, _: Level, _: &str) {}

    fn now_ms(&mut self) -> u64 {
        0
    }

    fn random(&mut self) -> u32 {
        0
    }

    fn set_status(&mut self, _: Claim, _: &str, _: Option<Duration>) {}

    fn checkpoint(&mut self, _: Vec<u8>) {}
}
