//! A guest's stdout and stderr, as lines for the log.
//!
//! For language runtimes that print; the contract's own `log` is the better way.
//! Bounded: a line is cut, and lines that nobody took yet are left out.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};

/// Bytes of one line; the rest of it is left out.
const LINE: usize = 8 << 10;
/// Lines that wait for the guest's next host call.
const WAITING: usize = 100;

#[derive(Debug, Default)]
struct Lines {
    begun: Vec<u8>,
    whole: Vec<String>,
}

/// Where a guest prints to. Clones are the same place.
#[derive(Clone, Debug, Default)]
pub(super) struct Stdio(Arc<Mutex<Lines>>);

impl Stdio {
    /// The lines printed since the last call.
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().whole)
    }

    /// The same, and what has no line end yet: the guest is gone.
    pub(super) fn finish(&self) -> Vec<String> {
        self.0.lock().end_line();
        self.take()
    }

    fn print(&self, bytes: &[u8]) {
        let mut lines = self.0.lock();
        for byte in bytes {
            match byte {
                b'\n' => lines.end_line(),
                byte if lines.begun.len() < LINE => lines.begun.push(*byte),
                _ => {}
            }
        }
    }
}

impl Lines {
    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&self.begun).trim_end().to_owned();
        self.begun.clear();
        if !line.is_empty() && self.whole.len() < WAITING {
            self.whole.push(line);
        }
    }
}

impl AsyncWrite for Stdio {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.print(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl IsTerminal for Stdio {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stdio {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_whole_and_bounded() {
        let stdio = Stdio::default();
        stdio.print(b"one\ntw");
        stdio.print(b"o\r\n\nthree");
        assert_eq!(stdio.take(), ["one", "two"]);
        assert_eq!(stdio.finish(), ["three"]);
        for _ in 0..10_000 {
            stdio.print(&[b'x'; 100]);
        }
        assert_eq!(stdio.finish()[0].len(), LINE);
        (0..10_000).for_each(|_| stdio.print(b"line\n"));
        assert_eq!(stdio.take().len(), WAITING);
    }
}
