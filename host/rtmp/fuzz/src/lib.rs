//! What the fuzz targets do with an input, without the fuzzer.
//!
//! One module a target, each with one function that takes any bytes and panics
//! when something is wrong. `fuzz_targets` hands them what libFuzzer finds;
//! `tests/corpus.rs` of the crate includes this file by its path and hands them
//! the corpus, on any toolchain. Hence nothing here names a crate that the
//! tests do not have, and paths begin with `super`.
//!
//! Run one with `cargo fuzz run -s none TARGET` in the folder above `fuzz`;
//! `-s none` needs no nightly compiler. What was found goes into the corpus.

pub mod amf0;
pub mod chunk_reader;
pub mod client_session;
pub mod flv;
mod heard;
mod input;
mod script;
pub mod server_session;
pub mod url;

/// A target: takes any bytes, panics when an invariant does not hold.
pub type Target = fn(&[u8]);

/// All targets by the name of their corpus.
pub const TARGETS: [(&str, Target); 6] = [
    ("amf0", amf0::run),
    ("chunk_reader", chunk_reader::run),
    ("client_session", client_session::run),
    ("flv", flv::run),
    ("server_session", server_session::run),
    ("url", url::run),
];
