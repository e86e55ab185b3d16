//! Harness of the black-box suites: starts the real binary and real peers.
//!
//! It knows the documents (REST, RTMP, configuration, log lines), never the
//! host's code: nothing here depends on the `restreamd` crate. Every wait has a
//! deadline, every process is ended by its own id, and a missing tool fails the
//! test with the name of the package that brings it.

pub mod amf;
pub mod api;
pub mod appends;
pub mod author;
pub mod black_hole;
pub mod browser;
pub mod certificate;
pub mod clip;
pub mod clock;
pub mod closed_window;
pub mod cluster;
pub mod continuity;
pub mod curl;
pub mod dns;
pub mod etcd;
pub mod eventually;
pub mod ffmpeg;
pub mod gst;
pub mod guest;
pub mod host;
pub mod http_flv;
pub mod log;
pub mod modern;
pub mod multi_publisher;
pub mod muzzle;
pub mod netns;
pub mod network;
pub mod nginx;
pub mod player;
pub mod plugins;
pub mod port;
pub mod proc;
pub mod provision;
pub mod publisher;
pub mod reader;
pub mod receiver;
pub mod resolver;
pub mod rtmpdump;
pub mod sightings;
pub mod source;
pub mod stamp;
pub mod tap;
pub mod token;
pub mod trap;
pub mod webhook;
