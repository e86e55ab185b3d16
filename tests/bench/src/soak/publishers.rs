//! Publishers that come, publish for a while, and leave, with a word or without.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use restreamd_rtmp::session::{
    ClientConfig, ClientEvent, ClientSession, Media, MediaKind, Purpose,
};
use restreamd_rtmp::url::RtmpUrl;
use restreamd_tests::clip::{AUDIO, Clip, VIDEO};

use super::node::Places;
use super::weather::{Dice, Weather};

/// How many there are.
pub(super) const PUBLISHERS: usize = 5;
/// Frames leave together when they are due within it.
const TICK: Duration = Duration::from_millis(20);

/// Starts them.
pub(super) fn start(node: &Places, weather: &Arc<Weather>) -> Vec<JoinHandle<()>> {
    let clip = Clip::small();
    let actor = |n: usize| {
        let (url, weather, clip) = (
            node.url(&format!("live/p{n}")),
            weather.clone(),
            clip.clone(),
        );
        std::thread::spawn(move || {
            let mut dice = Dice::new(100 + n as u64);
            weather.each_rough(|| {
                let life = dice.time(2_000, 15_000);
                // A publisher that is refused or cut off is part of the weather.
                let _ended = publish(&url, &clip, life, dice.roll(2) == 0, &weather);
                weather.rough_for(dice.time(500, 3_000));
            });
        })
    };
    (0..PUBLISHERS).map(actor).collect()
}

fn publish(
    url: &str,
    clip: &Clip,
    life: Duration,
    politely: bool,
    weather: &Weather,
) -> anyhow::Result<()> {
    let url = RtmpUrl::parse(url)?;
    let mut stream = TcpStream::connect((url.host(), url.port()))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TICK))?;
    let mut session = ClientSession::new(ClientConfig {
        url,
        purpose: Purpose::Publish,
        flash_ver: None,
        swf_url: None,
        page_url: None,
        fc_subscribe: false,
    });
    let mut bytes = [0; 4096];
    let mut begun = None;
    let born = Instant::now();
    let mut tags = (0u32..).flat_map(|round| {
        let offset = round * clip.period();
        clip.tags()
            .iter()
            .map(move |tag| (offset + tag.timestamp, tag))
    });
    let mut next = tags.next();
    while weather.is_rough() && born.elapsed() < life {
        while let Some(output) = session.take_output() {
            stream.write_all(&output)?;
        }
        match stream.read(&mut bytes) {
            Ok(0) => bail!("closed"),
            Ok(n) => {
                session.buffer().extend_from_slice(&bytes[..n]);
                session.received(n);
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(e) => return Err(e.into()),
        }
        while let Some(event) = session.poll()? {
            match event {
                ClientEvent::PublishAccepted => begun = Some(Instant::now()),
                ClientEvent::Rejected(no) => bail!("{}", no.code),
                _ => {}
            }
        }
        let Some(begun) = begun else {
            ensure!(born.elapsed() < Duration::from_secs(10), "no answer");
            continue;
        };
        while let Some((timestamp, tag)) = next {
            if Duration::from_millis(timestamp.into()) > begun.elapsed() {
                break;
            }
            let kind = match tag.kind {
                VIDEO => MediaKind::Video,
                AUDIO => MediaKind::Audio,
                _ => MediaKind::Data,
            };
            session.send_media(&Media {
                kind,
                timestamp,
                payload: tag.body.clone(),
            });
            next = tags.next();
        }
    }
    if politely {
        session.finish();
    }
    while let Some(output) = session.take_output() {
        stream.write_all(&output)?;
    }
    Ok(())
}
