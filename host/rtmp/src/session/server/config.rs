//! What a server announces and allows.

use super::super::link::DEFAULT_WINDOW;

/// Settings of a server session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerConfig {
    /// The client acknowledges after this many bytes.
    pub window_ack: u32,
    /// The bandwidth limit we announce, in bytes.
    pub peer_bandwidth: u32,
    /// Message streams a client may have at a time; real ones have one or two.
    pub max_streams: usize,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            window_ack: DEFAULT_WINDOW,
            peer_bandwidth: DEFAULT_WINDOW,
            max_streams: 8,
        }
    }
}
