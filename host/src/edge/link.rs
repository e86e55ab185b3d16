//! One pull from the node that holds the stream.
//!
//! Dials, feeds the stream, and tells when it is granted and when it is over; when to
//! dial, and whom, is not decided here. Dropping it ends the pull.

use std::net::SocketAddr;
use std::sync::Arc;

use restreamd_rtmp::session::Purpose;
use restreamd_rtmp::url::RtmpUrl;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, debug, info, info_span};

use super::Origin;
use super::course::News;
use super::dials::Dials;
use crate::rtmp::dial::{Class, Dialed, Failure, Heard, Options, Patience};
use crate::rtmp::policy::Policy;
use crate::stream::{Feed, FeedId, Stream, Unit};

/// What a link tells, by its number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) link: u64,
    pub(super) news: Word,
}

/// Its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// For the course.
    News(News),
    /// Its media is what viewers get now.
    OnAir,
}

/// A pull. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Link {
    id: u64,
    feed: FeedId,
    _task: AbortOnDropHandle<()>,
}

impl Link {
    /// Dials as soon as it is its turn.
    pub(super) fn open(
        id: u64,
        origin: Origin,
        token: &str,
        stream: &Arc<Stream>,
        dials: &Arc<Dials>,
        tell: mpsc::Sender<Told>,
    ) -> Self {
        let feed = stream.relay(None);
        let feed_id = feed.id();
        let url = url(&origin, stream, token);
        let span = info_span!("pull", node = %origin.node, epoch = origin.epoch);
        let puller = Puller {
            id,
            feed,
            stream: stream.clone(),
            dials: dials.clone(),
            tell,
        };
        let pull = Box::pin(puller.run(origin.rtmp, url));
        Self {
            id,
            feed: feed_id,
            _task: AbortOnDropHandle::new(tokio::spawn(pull.instrument(span))),
        }
    }

    /// Its number.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Whether viewers get its media.
    pub(super) fn is_on_air(&self, stream: &Stream) -> bool {
        stream.on_air() == Some(self.feed)
    }
}

/// The token goes as players bring theirs.
fn url(origin: &Origin, stream: &Stream, token: &str) -> Result<RtmpUrl, Failure> {
    let url = format!("rtmp://{}/{}?token={token}", origin.rtmp, stream.guid());
    RtmpUrl::parse(&url).map_err(|error| Failure::new(Class::Invalid, error))
}

struct Puller {
    id: u64,
    feed: Feed,
    stream: Arc<Stream>,
    dials: Arc<Dials>,
    tell: mpsc::Sender<Told>,
}

impl Puller {
    async fn run(mut self, to: SocketAddr, url: Result<RtmpUrl, Failure>) {
        let failure = match url {
            Ok(url) => self.pull(to, &url).await,
            Err(failure) => failure,
        };
        let bytes = self.feed.progress().lock().bytes();
        info!(class = failure.class.as_str(), reason = %failure, bytes, "edge pull ended");
        let Self { id, feed, tell, .. } = self;
        drop(feed);
        let told = failure.class == Class::Ended;
        let news = Word::News(News::Lost { told });
        let _ = tell.send(Told { link: id, news }).await;
    }

    async fn pull(&mut self, to: SocketAddr, url: &RtmpUrl) -> Failure {
        let policy = Arc::new(Policy::only(to));
        let options = Options {
            patience: Patience::NODE,
            moments: self.dials.moments().clone(),
            ..Options::default()
        };
        let turn = self.dials.turn(to).await;
        self.say(Word::News(News::Dialing)).await;
        let dial = Dialed::open(url, Purpose::Play, &options, &policy);
        let mut dialed = match turn.take(dial).await {
            Ok(dialed) => dialed,
            Err(failure) => return failure,
        };
        debug!("granted");
        self.say(Word::News(News::Granted)).await;
        self.feed.attach();
        let mut on_air = false;
        loop {
            // Who waits for the window anyway is read once a window.
            let window = on_air.then(|| self.stream.window());
            dialed.set_pause(window.unwrap_or_default());
            let mut heard = dialed.next().await.map(Some);
            while let Ok(Some(Heard::Media(media))) = heard {
                if let Some(unit) = Unit::classify(media) {
                    self.feed.push(&unit);
                }
                heard = dialed.at_hand();
            }
            self.feed.depart_before(dialed.next_read());
            match (on_air, self.stream.on_air() == Some(self.feed.id())) {
                (false, true) => {
                    on_air = true;
                    self.say(Word::OnAir).await;
                }
                (true, false) => return Failure::new(Class::Cancelled, "others feed the stream"),
                _ => {}
            }
            // A node that asks to be left gives its streams away, and that is heard of.
            if let Err(failure) = heard {
                return failure;
            }
        }
    }

    async fn say(&self, news: Word) {
        let link = self.id;
        let _ = self.tell.send(Told { link, news }).await;
    }
}
