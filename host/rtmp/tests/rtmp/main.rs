//! Behaviour of the crate through its public API.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(unreachable_pub, reason = "modules of one test binary")]

mod amf;
mod captured;
mod chunks;
mod crash_inputs;
mod media_headers;
mod negotiation;
mod parameter_sets;
mod peer;
mod properties;
mod server_replies;
mod sessions;
mod tracks;
mod urls;
