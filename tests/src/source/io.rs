//! The two transports of a source.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use rustls::{ServerConnection, StreamOwned};

use crate::certificate::Certificate;

/// TCP, or TLS over it.
pub(super) enum Io {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Io {
    pub(super) fn new(stream: TcpStream, tls: Option<&Certificate>) -> anyhow::Result<Self> {
        Ok(match tls {
            None => Self::Plain(stream),
            Some(certificate) => {
                let connection = ServerConnection::new(certificate.server())?;
                Self::Tls(Box::new(StreamOwned::new(connection, stream)))
            }
        })
    }
}

impl Read for Io {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buf),
            Self::Tls(stream) => stream.read(buf),
        }
    }
}

impl Write for Io {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(buf),
            Self::Tls(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
