//! A publisher of our own: sends whatever messages a test wants to see on the other side.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use restreamd_rtmp::session::{
    ClientConfig, ClientEvent, ClientSession, Media, MediaKind, Purpose,
};
use restreamd_rtmp::url::RtmpUrl;

use crate::clip::{AUDIO, VIDEO};

/// A server that says nothing for so long fails the test.
const PATIENCE: Duration = Duration::from_secs(20);

/// A publisher that was let in; it leaves at drop.
#[derive(Debug)]
pub struct Publisher {
    stream: TcpStream,
    session: ClientSession,
}

impl Publisher {
    /// Connects and is let in.
    ///
    /// # Panics
    /// When it is not.
    pub fn open(url: &str) -> Self {
        let url = RtmpUrl::parse(url).expect("a legal URL");
        let stream = TcpStream::connect((url.host(), url.port())).expect("the node listens");
        stream.set_nodelay(true).expect("a socket option");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a socket option");
        let session = ClientSession::new(ClientConfig {
            url,
            purpose: Purpose::Publish,
            flash_ver: None,
            swf_url: None,
            page_url: None,
            fc_subscribe: false,
        });
        let mut publisher = Self { stream, session };
        publisher.wait_until_accepted();
        publisher
    }

    fn wait_until_accepted(&mut self) {
        let mut bytes = vec![0; 4096];
        loop {
            self.flush();
            let count = self.stream.read(&mut bytes).expect("it is answered");
            assert!(count > 0, "the connection was closed");
            self.session.buffer().extend_from_slice(&bytes[..count]);
            self.session.received(count);
            while let Some(event) = self.session.poll().expect("a legal answer") {
                match event {
                    ClientEvent::PublishAccepted => return self.flush(),
                    ClientEvent::Rejected(rejection) => panic!("{rejection:?}"),
                    _ => {}
                }
            }
        }
    }

    /// Sends one message of [`AUDIO`], [`VIDEO`] or data.
    ///
    /// # Panics
    /// When the connection is gone.
    pub fn send(&mut self, kind: u8, timestamp: u32, payload: &[u8]) {
        let kind = match kind {
            AUDIO => MediaKind::Audio,
            VIDEO => MediaKind::Video,
            _ => MediaKind::Data,
        };
        self.session.send_media(&Media {
            kind,
            timestamp,
            payload: Bytes::copy_from_slice(payload),
        });
        self.flush();
    }

    fn flush(&mut self) {
        while let Some(output) = self.session.take_output() {
            self.stream.write_all(&output).expect("it is connected");
        }
    }
}
