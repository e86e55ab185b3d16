//! The interop suite: the real tools that people publish and play with.
//!
//! Each test names its peer. A tool that is missing fails the test with the name
//! of its package.

mod captures;
mod enhanced;
mod far_clocks;
mod http_flv;
mod play;
mod publish;
mod pull;
mod rtmps;

use std::time::Duration;

use restreamd_tests::host::Builder;

/// A bound for what has no promised time, on a slow machine with other tests at work.
const SOON: Duration = Duration::from_secs(15);

/// A node on ports of its own.
fn node() -> Builder {
    Builder::new(env!("CARGO_BIN_EXE_restreamd"))
}
