//! Dialing out: from a URL to media, or to the one reason why not.
//!
//! Resolves, checks every address against the policy, connects to what it checked,
//! and drives the client session; answers challenges and follows redirects. It
//! decides nothing about when to try again.

mod connect;
mod failure;
mod intake;
mod lent;
mod moments;
mod own;
mod patience;
mod publishing;
mod reach;
#[cfg(test)]
pub(crate) mod rehearsal;
mod resolve;
mod route;
mod scrub;
mod socket;
mod tls;
mod transport;

use std::io;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use restreamd_rtmp::session::{
    ClientConfig, ClientEvent, ClientSession, Media, Purpose, Rejection, SessionError,
};
use restreamd_rtmp::url::{RtmpUrl, Scheme};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::debug;

pub use failure::{Class, Failure};
pub use moments::Moments;
pub use own::{Feeding, OwnPulls};
pub use patience::Patience;
pub use publishing::Publishing;
pub use reach::{reach, reach_at};
pub use scrub::Scrub;
pub use tls::{Trust, verifying};

use super::outbox::Outbox;
use super::policy::Policy;
use intake::Intake;
use patience::{Pulse, Verdict};
use route::Route;
use transport::Transport;

/// A peer that takes nothing for so long is gone; what is left then is one TLS record.
const FLUSH: Duration = Duration::from_secs(10);

/// What is said of a peer that is given up.
const SILENT: &str = "the peer is silent and answers no ping";

/// All sources of a process are read at moments counted from here.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// How to dial.
#[derive(Clone, Default)]
pub struct Options {
    /// `swfUrl` of connect.
    pub swf_url: Option<String>,
    /// `pageUrl` of connect.
    pub page_url: Option<String>,
    /// `flashVer` of connect.
    pub flash_ver: Option<String>,
    /// Send FCSubscribe before play.
    pub fc_subscribe: bool,
    /// Whom to trust when the URL is `rtmps://`.
    pub trust: Trust,
    /// What is dialed for, when it is to feed a stream of this node.
    pub feeds: Option<Feeding>,
    /// How long it may be silent.
    pub patience: Patience,
    /// Where the sources of the node wait to be read.
    pub moments: Moments,
}

/// URLs of a player's page and file hold tokens and are not shown.
impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("fc_subscribe", &self.fc_subscribe)
            .field("trust", &self.trust)
            .finish_non_exhaustive()
    }
}

/// What a connection brought.
#[derive(Debug)]
pub enum Heard {
    /// Media.
    Media(Media),
    /// The peer asks to be left for another connection, here or at this URL. It plays
    /// on until then.
    Reconnect(Option<RtmpUrl>),
}

/// A connection to a remote RTMP server. [`Dialed::next`] is cancel safe.
#[derive(Debug)]
pub struct Dialed {
    io: Transport,
    /// Where it leads, after all redirects.
    url: RtmpUrl,
    session: ClientSession,
    /// What happened, while what there is to say about it is still to be sent.
    event: Option<Result<ClientEvent, SessionError>>,
    outbox: Outbox,
    /// The secrets of all URLs on the way here: peers repeat what they were asked for.
    scrub: Scrub,
    pulse: Pulse,
    born: Instant,
    intake: Intake,
    moments: Moments,
    /// While it leads to this node itself.
    _own: Option<own::Noted>,
}

impl Dialed {
    /// Dials and asks for the stream; returns when a server granted it. Goes where it
    /// is sent, and checks each address it is sent to.
    pub async fn open(
        url: &RtmpUrl,
        purpose: Purpose,
        options: &Options,
        policy: &Arc<Policy>,
    ) -> Result<Self, Failure> {
        let mut route = Route::new(url.clone());
        let mut scrub = Scrub::default();
        for url in [&options.swf_url, &options.page_url].into_iter().flatten() {
            scrub.add_query_of(url);
        }
        loop {
            scrub.add_url(route.url());
            let next = Self::follow(&mut route, purpose, options, policy).await;
            if let Some(dialed) = next.map_err(|failure| failure.scrubbed(&scrub))? {
                return Ok(Self { scrub, ..dialed });
            }
        }
    }

    /// One server of the route: it grants the stream, or says where to go on.
    async fn follow(
        route: &mut Route,
        purpose: Purpose,
        options: &Options,
        policy: &Policy,
    ) -> Result<Option<Self>, Failure> {
        let mut dialed = Self::connect(route, purpose, options, policy).await?;
        match dialed.granted().await? {
            None => Ok(Some(dialed)),
            Some(rejection) => route.rejected(&rejection, rand::random()).map(|()| None),
        }
    }

    async fn connect(
        route: &Route,
        purpose: Purpose,
        options: &Options,
        policy: &Policy,
    ) -> Result<Self, Failure> {
        let url = route.url();
        let io = connect::connect(url.host(), url.port(), policy).await?;
        let own = own(&io, options, policy);
        let io = match url.scheme() {
            Scheme::Rtmp => Transport::Plain(io.into()),
            Scheme::Rtmps => Transport::Tls(tls::handshake(io, url.host(), options.trust).await?),
        };
        let mut session = ClientSession::new(ClientConfig {
            url: url.clone(),
            purpose,
            flash_ver: options.flash_ver.clone(),
            swf_url: options.swf_url.clone(),
            page_url: options.page_url.clone(),
            fc_subscribe: options.fc_subscribe,
        });
        if let Some(query) = route.query() {
            session.set_app_query(query);
        }
        let now = Instant::now();
        Ok(Self {
            io,
            url: url.clone(),
            session,
            event: None,
            outbox: Outbox::default(),
            scrub: Scrub::default(),
            pulse: Pulse::new(options.patience, now),
            born: now,
            intake: Intake::new(*EPOCH, now),
            moments: options.moments.clone(),
            _own: own,
        })
    }

    /// Waits for the grant, or for the no that the route may know an answer to.
    async fn granted(&mut self) -> Result<Option<Rejection>, Failure> {
        loop {
            match self.event().await? {
                ClientEvent::PlayStarted | ClientEvent::PublishAccepted => return Ok(None),
                ClientEvent::Rejected(rejection) => return Ok(Some(rejection)),
                event => drop(self.judge(event)?),
            }
        }
    }

    /// The next media message or request, or why there is none.
    pub async fn next(&mut self) -> Result<Heard, Failure> {
        loop {
            let event = self.event().await?;
            if let Some(heard) = self.heard(event)? {
                return Ok(heard);
            }
        }
    }

    /// What a granted peer says.
    fn heard(&mut self, event: ClientEvent) -> Result<Option<Heard>, Failure> {
        let heard = self.judge(event);
        heard.map_err(|failure| failure.scrubbed(&self.scrub))
    }

    /// What arrived together with what [`Dialed::next`] gave, without waiting.
    pub fn at_hand(&mut self) -> Result<Option<Heard>, Failure> {
        while let Some(event) = self.session.poll()? {
            if let Some(heard) = self.heard(event)? {
                return Ok(Some(heard));
            }
        }
        Ok(None)
    }

    /// How long to let media gather in the kernel between two reads; zero reads at once
    /// what comes.
    pub fn set_pause(&mut self, pause: Duration) {
        self.intake.set_pause(pause);
    }

    /// When it is read next, if it is not read as bytes come.
    pub fn next_read(&self) -> Option<Instant> {
        self.intake.rest()
    }

    /// Sends one media message, for a connection that publishes.
    pub async fn send(&mut self, media: &Media) -> Result<(), Failure> {
        self.session.send_media(media);
        self.flush().await
    }

    /// Says goodbye, for a connection that publishes.
    pub async fn finish(mut self) {
        self.session.finish();
        // The peer may be gone already; it will notice the closed socket anyway.
        let _ = self.flush().await;
    }

    fn judge(&mut self, event: ClientEvent) -> Result<Option<Heard>, Failure> {
        match event {
            ClientEvent::Media(media) => Ok(Some(Heard::Media(media))),
            ClientEvent::Ended(end) => Err(Failure::ended(end)),
            ClientEvent::Rejected(rejection) => Err(Failure::rejected(&rejection)),
            ClientEvent::Reconnect { tc_url, .. } => Ok(self.reconnect(tc_url.as_deref())),
            ClientEvent::Connected
            | ClientEvent::PlayStarted
            | ClientEvent::PublishAccepted
            | ClientEvent::Pong { .. } => Ok(None),
        }
    }

    /// A request to go where nobody can go is none.
    fn reconnect(&self, tc_url: Option<&str>) -> Option<Heard> {
        match tc_url.map(|tc_url| self.url.reconnected(tc_url)) {
            None => Some(Heard::Reconnect(None)),
            Some(Ok(url)) => Some(Heard::Reconnect(Some(url))),
            Some(Err(error)) => {
                debug!(%error, "the peer asks for a reconnect to no usable URL");
                None
            }
        }
    }

    async fn event(&mut self) -> Result<ClientEvent, Failure> {
        loop {
            // Kept here: whoever waits may stop waiting in the midst of the flush.
            self.event = self
                .event
                .take()
                .or_else(|| self.session.poll().transpose());
            self.flush().await?;
            if let Some(event) = self.event.take() {
                return Ok(event?);
            }
            self.read().await?;
        }
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        if let Some(bytes) = self.session.take_output() {
            self.outbox.push(bytes);
        }
        let sending = |e: std::io::Error| Failure::io("sending", &e);
        if self.outbox.is_empty() {
            return Ok(());
        }
        self.outbox.flush(&mut self.io).await.map_err(sending)?;
        // TLS may have kept a part of the last record; TCP has nothing to flush.
        let flushed = tokio::time::timeout(FLUSH, self.io.flush()).await;
        flushed
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
            .map_err(sending)
    }

    async fn read(&mut self) -> Result<(), Failure> {
        lent::take_back(self.session.buffer());
        match self.look().await {
            Some(looked) => looked,
            None => self.wait().await,
        }
        .map_err(|error| Failure::io("receiving", &error))
        .and_then(|read| match read {
            Some(0) => Err(Failure::new(
                Class::Closed,
                "the peer closed the connection",
            )),
            _ => Ok(()),
        })
    }

    /// What gathered since the last read, of a connection that is read so. Nothing when
    /// it is to be waited for.
    async fn look(&mut self) -> Option<io::Result<Option<usize>>> {
        let rest = self.intake.rest();
        if let Some(rest) = rest {
            if rest > Instant::now() {
                self.moments.until(rest).await;
            } else {
                tokio::task::coop::consume_budget().await;
            }
        }
        let socket = self.io.plain()?;
        if rest.is_none() {
            return socket.watch().err().map(Err);
        }
        // Leaving the event loop costs little beside the arrivals that wake nobody.
        if let Err(error) = socket.park() {
            return Some(Err(error));
        }
        match socket.look(self.session.buffer()) {
            Ok(read) => Some(Ok(Some(self.received(read, lent::ROOM)))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.intake.nothing(Instant::now());
                Some(Ok(None))
            }
            Err(error) => Some(Err(error)),
        }
    }

    /// Waits for bytes; a peer that is silent for long is pinged, or given up.
    async fn wait(&mut self) -> io::Result<Option<usize>> {
        let room = self.intake.size();
        let receiving = self.io.receive(self.session.buffer(), room);
        if let Ok(read) = tokio::time::timeout_at(self.pulse.due(), receiving).await {
            return Ok(Some(self.received(read?, room)));
        }
        match self.pulse.verdict(Instant::now()) {
            Verdict::Ping => {
                self.session.ping(self.born.elapsed().as_millis() as u32);
                Ok(None)
            }
            Verdict::GiveUp => Err(io::Error::new(io::ErrorKind::TimedOut, SILENT)),
        }
    }

    fn received(&mut self, read: usize, room: usize) -> usize {
        let now = Instant::now();
        self.pulse.heard(now);
        self.session.received(read);
        self.intake.took(read, room, now);
        read
    }
}

/// Notes a connection to one of the node's own listeners.
fn own(io: &TcpStream, options: &Options, policy: &Policy) -> Option<own::Noted> {
    let feeds = options.feeds.as_ref()?;
    let to = io.peer_addr().ok().filter(|to| policy.is_own(*to));
    to.and_then(|_| Some(feeds.from(io.local_addr().ok()?)))
}

#[cfg(test)]
mod tests {
    use restreamd_rtmp::message::type_id;
    use tokio::io::AsyncReadExt;

    use super::rehearsal::{media, ping, pong};
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_is_lost_when_waiting_for_it_is_given_up_again_and_again() {
        const FRAMES: u32 = 100;
        let url = RtmpUrl::parse("rtmp://h/live/s").expect("legal");
        // What comes is there at once, and each pong waits to be sent.
        let ((from_peer, mut to), (to_peer, mut from)) =
            (tokio::io::duplex(64 * 1024), tokio::io::duplex(8));
        let near = tokio::io::join(from_peer, to_peer);
        let mut dialed = Dialed::rehearsed(&url, near);
        let sending = tokio::spawn(async move {
            for at in 0..FRAMES {
                let frame = media(type_id::AUDIO, at, &[0x2f, 7]);
                let bytes = [ping(), frame].concat();
                to.write_all(&bytes).await.expect("it reads");
            }
            to
        });
        let reading = tokio::spawn(async move {
            let mut byte = [0];
            while from.read(&mut byte).await.is_ok_and(|read| read > 0) {
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
        });
        let mut heard = Vec::new();
        while heard.len() < FRAMES as usize {
            let next = tokio::time::timeout(Duration::from_millis(2), dialed.next()).await;
            let Ok(next) = next else {
                assert!(dialed.born.elapsed() < Duration::from_secs(60), "{heard:?}");
                continue;
            };
            match next.expect("the peer is there") {
                Heard::Media(media) => heard.push(media.timestamp),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(heard, (0..FRAMES).collect::<Vec<_>>());
        drop(sending.await);
        reading.abort();
    }

    /// A granted connection to a peer that a test plays.
    fn rehearsed(patience: Patience) -> (Dialed, tokio::io::DuplexStream) {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let url = RtmpUrl::parse("rtmp://h/live/s").expect("legal");
        let mut dialed = Dialed::rehearsed(&url, near);
        dialed.pulse = Pulse::new(patience, Instant::now());
        (dialed, far)
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_answers_no_ping_is_given_up() {
        let (mut dialed, _far) = rehearsed(Patience::NODE);
        let begin = Instant::now();
        let failure = dialed.next().await.expect_err("nobody is there");
        assert_eq!(failure.class, Class::Timeout, "{failure}");
        let after = begin.elapsed().as_millis();
        assert!((5_000..5_100).contains(&after), "{after}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_without_media_stays_while_it_answers_and_a_stranger_in_any_case() {
        let hour = Duration::from_secs(3_600);
        let (mut dialed, mut far) = rehearsed(Patience::NODE);
        let answering = tokio::spawn(async move {
            let (mut asked, mut pings) = ([0; 64], 0);
            while far.read(&mut asked).await.is_ok_and(|read| read > 0) {
                pings += u32::from(far.write_all(&pong()).await.is_ok());
            }
            pings
        });
        let heard = tokio::time::timeout(hour, dialed.next()).await;
        assert!(heard.is_err(), "{heard:?}");
        drop(dialed);
        let pings = answering.await.expect("no panic");
        assert!((1_700..=1_800).contains(&pings), "{pings}");
        let (mut dialed, _far) = rehearsed(Patience::STRANGER);
        let heard = tokio::time::timeout(hour, dialed.next()).await;
        assert!(heard.is_err(), "{heard:?}");
    }
}
