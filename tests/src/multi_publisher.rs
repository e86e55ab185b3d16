//! A publisher of our own: one connection that asks to publish several names at once,
//! which no real tool does, and sends a clip to the first.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::BytesMut;
use restreamd_rtmp::amf0::{self, Value};
use restreamd_rtmp::chunk::encode;
use restreamd_rtmp::type_id;

use crate::clip::Clip;

/// Nothing is waited for longer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Chunks of the size that holds before another is announced.
const CHUNK: u32 = 128;

/// A running publisher; it leaves at drop.
#[derive(Debug)]
pub struct MultiPublisher {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl MultiPublisher {
    /// Asks for all names of an app, and publishes the first once it is let in.
    pub fn start(clip: &Clip, server: SocketAddr, app: &str, names: &[&str]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (clip, app, flag) = (clip.clone(), app.to_owned(), Arc::clone(&stop));
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let thread = thread::spawn(move || {
            let mut stream = TcpStream::connect(server)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            ask(&mut stream, &app, &names)?;
            send(&mut stream, &clip, &flag)
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for MultiPublisher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What went wrong shows in what players get.
            let _ended = thread.join();
        }
    }
}

fn ask(stream: &mut TcpStream, app: &str, names: &[String]) -> anyhow::Result<()> {
    let mut hello = vec![0; 1 + 1536];
    hello[0] = 3;
    stream.write_all(&hello)?;
    let mut answer = vec![0; 1 + 1536 + 1536];
    stream.read_exact(&mut answer)?;
    stream.write_all(&answer[1..=1536])?;
    let mut out = BytesMut::new();
    let mut command = |stream_id, values: &[Value]| {
        let payload = amf0::encode(values);
        encode(
            3,
            type_id::COMMAND_AMF0,
            stream_id,
            0,
            &payload,
            CHUNK,
            &mut out,
        );
    };
    let object = Value::object([("app", Value::from(app))]);
    command(0, &[Value::from("connect"), Value::Number(1.0), object]);
    for (at, _) in names.iter().enumerate() {
        let transaction = Value::Number(2.0 + at as f64);
        command(0, &[Value::from("createStream"), transaction, Value::Null]);
    }
    for (id, name) in (1..).zip(names) {
        let call = [Value::from("publish"), Value::Number(0.0), Value::Null];
        let arguments = [Value::from(name.as_str()), Value::from("live")];
        command(id, &[call.as_slice(), &arguments].concat());
    }
    stream.write_all(&out)?;
    let mut said = Vec::new();
    let start = b"NetStream.Publish.Start";
    while !said.windows(start.len()).any(|part| part == start) {
        let mut bytes = [0; 4096];
        let read = stream.read(&mut bytes)?;
        ensure!(read > 0, "closed: {}", String::from_utf8_lossy(&said));
        said.extend_from_slice(&bytes[..read]);
    }
    Ok(())
}

fn send(stream: &mut TcpStream, clip: &Clip, stop: &AtomicBool) -> anyhow::Result<()> {
    let begin = Instant::now();
    for round in 0.. {
        for tag in clip.tags() {
            let at = round * clip.period() + tag.timestamp;
            let due = begin + Duration::from_millis(at.into());
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let mut out = BytesMut::new();
            encode(4, tag.kind, 1, at, &tag.body, CHUNK, &mut out);
            stream.write_all(&out)?;
        }
    }
    Ok(())
}
