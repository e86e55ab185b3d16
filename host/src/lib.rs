//! restreamd: an open restream host.
//!
//! A client creates a *provision* over REST; its type selects a *plugin*, a
//! WebAssembly component that decides what to dial, when, and when to try again;
//! the host does the RTMP, owns the stream's timeline, and serves subscribers.
//!
//! ```text
//! main -> app, author, demo, operator -> everything (wiring only)
//! api -> auth, provision, restreamer, stream, plugin, cluster, limits, figures
//! provision -> store, plugin, stream (latency)
//! restreamer -> plugin, stream, rtmp (dial, policy), flv
//! plugin -> restreamer::host
//! cluster -> store, provision, restreamer, stream, limits, edge, figures (who others are)
//! edge -> auth, stream, rtmp (dial, policy)
//! figures -> auth, rtmp (dial, policy)
//! rtmp, flv -> auth (secrets), gate, stream, limits
//! gate -> auth
//! ```
//!
//! Pure, without tokio, clocks and randomness: the `restreamd-rtmp` crate,
//! `stream::{ring, timeline, headers, latency, progress}`, `provision::spec`,
//! `cluster::placement`.

pub mod api;
pub mod app;
pub mod auth;
pub mod author;
pub mod cluster;
pub mod config;
pub mod demo;
pub mod drain;
pub mod edge;
pub mod figures;
pub mod flv;
pub mod gate;
pub mod http;
pub mod id;
pub mod limits;
pub mod memory;
pub mod operator;
pub mod plugin;
pub mod provision;
pub mod restreamer;
pub mod rtmp;
pub mod secrets;
pub mod store;
pub mod stream;
pub mod telemetry;
