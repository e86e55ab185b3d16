//! An HTTP/2 client that lets the server send nothing: its windows are closed.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

/// What every client begins with (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_STREAM_AND_HEADERS: u8 = 5;
/// The client's first stream.
const STREAM: u32 = 1;

/// A client that asked for something and takes none of it. It hangs up when dropped.
#[derive(Debug)]
pub struct ClosedWindow {
    _stream: TcpStream,
}

impl ClosedWindow {
    /// Asks for a path, without TLS.
    ///
    /// # Panics
    /// When the server is not there.
    pub fn get(server: SocketAddr, path: &str) -> Self {
        // SETTINGS_INITIAL_WINDOW_SIZE is 0.
        let settings = [0, 4, 0, 0, 0, 0];
        let mut head = vec![0x82, 0x86]; // GET, http
        for (index, value) in [(0x04, path), (0x01, "host")] {
            let length = u8::try_from(value.len()).expect("short");
            assert!(length < 127, "the path is too long for one byte");
            head.extend([index, length]);
            head.extend(value.as_bytes());
        }
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(SETTINGS, 0, 0, &settings));
        bytes.extend(frame(HEADERS, END_STREAM_AND_HEADERS, STREAM, &head));
        let mut stream = TcpStream::connect(server).expect("the server listens");
        stream.write_all(&bytes).expect("the server reads");
        Self { _stream: stream }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}
