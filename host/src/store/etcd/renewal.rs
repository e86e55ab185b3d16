//! Keeps leases alive: each member is asked each time, and any answer counts.
//!
//! Over the death of etcd's leader a renewal waits at the member it was sent to, which
//! looks for a new leader once a second (etcd 3.4, `waitLeader`). What is asked after the
//! election is answered at once, but not on a stream on which something waits already: so
//! each renewal that finds the one before unanswered has a stream of its own. A request
//! answers those who asked before it was sent, never those who asked after: a lease's time
//! is counted from the asking, and an answer that was read late must not add to it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{LeaseKeepAliveStream, LeaseKeeper};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::Instrument;

use super::failure::{Failure, NoAnswer};
use super::member::Member;
use super::members::Members;
use super::transaction::raw_lease;
use crate::store::{Error, LeaseId};

/// How long one answer is waited for. Over a change of leader a member may hold a request
/// for 2 s; a connection that is silent for longer is made anew.
const PATIENCE: Duration = Duration::from_secs(3);
/// Streams of a lease that nobody renews end; longer than any pause between renewals.
const IDLE: Duration = Duration::from_secs(30);
/// Before a member that did not renew is asked again for whoever still waits.
const PAUSE: Duration = Duration::from_millis(50);

/// Renewals of a lease that one member is asked for at a time: as many as are wanted while
/// one is waited for.
const AT_A_TIME: usize = 10;

/// How far the renewals of a lease are answered.
#[derive(Clone, Copy, Debug, Default)]
struct Answered {
    /// Those who asked by then.
    turn: u64,
    /// What was granted to them.
    ttl: Duration,
    /// The lease is gone, for whoever asks.
    gone: bool,
}

/// A lease that is kept alive.
struct Renewal {
    /// Counts the asking.
    asked: watch::Sender<u64>,
    answered: watch::Sender<Answered>,
}

pub(super) struct Renewals {
    members: Arc<Members>,
    leases: Mutex<HashMap<LeaseId, Arc<Renewal>>>,
}

impl Renewals {
    pub(super) fn new(members: Arc<Members>) -> Self {
        Self {
            members,
            leases: Mutex::default(),
        }
    }

    /// Renews a lease; answers how long it lasts, counted from when this was called.
    pub(super) async fn renew(&self, lease: LeaseId) -> Result<Duration, Error> {
        let renewal = self.of(lease);
        let mut answered = renewal.answered.subscribe();
        let mut turn = 0;
        renewal.asked.send_modify(|asked| {
            *asked += 1;
            turn = *asked;
        });
        let reached = answered.wait_for(|answered| answered.gone || answered.turn >= turn);
        let reached = tokio::time::timeout(self.members.timeout(), reached).await;
        match reached.map(|done| done.map(|answered| *answered)) {
            Ok(Ok(Answered { gone: true, .. })) => {
                self.end(lease);
                Err(Error::NoSuchLease)
            }
            Ok(Ok(Answered { ttl, .. })) => Ok(ttl),
            _ => Err(Error::Unavailable(Arc::new(NoAnswer))),
        }
    }

    /// Renews it no more.
    pub(super) fn end(&self, lease: LeaseId) {
        self.leases.lock().remove(&lease);
    }

    /// The streams of a lease, begun anew where they had ended.
    fn of(&self, lease: LeaseId) -> Arc<Renewal> {
        let mut leases = self.leases.lock();
        leases.retain(|_, renewal| renewal.asked.receiver_count() > 0);
        let begin = || Arc::new(Renewal::begin(lease, &self.members));
        Arc::clone(leases.entry(lease).or_insert_with(begin))
    }
}

impl Renewal {
    /// The streams end when this is dropped, or by themselves when nobody asks.
    fn begin(lease: LeaseId, members: &Members) -> Self {
        let renewal = Self {
            asked: watch::Sender::new(0),
            answered: watch::Sender::default(),
        };
        for member in members.all() {
            let renewer = Renewer {
                member: Arc::clone(member),
                lease: raw_lease(lease),
                answered: renewal.answered.clone(),
            };
            let span = tracing::info_span!("lease", member = member.endpoint());
            tokio::spawn(renewer.run(renewal.asked.subscribe()).instrument(span));
        }
        renewal
    }
}

/// A stream of renewals. What is asked on it is answered one after the other.
type Stream = (LeaseKeeper, LeaseKeepAliveStream);

/// Renews one lease at one member.
struct Renewer {
    member: Arc<Member>,
    lease: i64,
    answered: watch::Sender<Answered>,
}

impl Renewer {
    async fn run(self, mut asked: watch::Receiver<u64>) {
        let mut sent = 0;
        let mut idle: Option<Stream> = None;
        let mut under_way = FuturesUnordered::new();
        loop {
            let more = asked.wait_for(|asked| *asked > sent);
            tokio::select! {
                more = tokio::time::timeout(IDLE, more), if under_way.len() < AT_A_TIME => {
                    let Ok(Ok(turn)) = more.map(|done| done.map(|turn| *turn)) else {
                        return;
                    };
                    // Whoever asks from now on is not answered by this.
                    sent = turn;
                    under_way.push(self.once(turn, idle.take()));
                }
                Some(done) = under_way.next() => match done {
                    (turn, Ok((ttl, stream))) => {
                        self.publish(turn, ttl);
                        idle = Some(stream);
                    }
                    (_, Err(Failure::NoSuchLease)) => {
                        self.answered.send_modify(|answered| answered.gone = true);
                        return;
                    }
                    (_, Err(failure)) => {
                        tracing::debug!(error = %failure.into_error(), "not renewed here");
                    }
                },
                // An election may take longer than any one answer is waited for.
                () = tokio::time::sleep(PAUSE), if under_way.is_empty() && self.is_waited_for(sent) => {
                    under_way.push(self.once(sent, idle.take()));
                }
            }
        }
    }

    /// Whether somebody waits for an answer that no member has given.
    fn is_waited_for(&self, sent: u64) -> bool {
        self.answered.receiver_count() > 0 && self.answered.borrow().turn < sent
    }

    fn publish(&self, turn: u64, ttl: Duration) {
        self.answered.send_if_modified(|answered| {
            let newer = turn > answered.turn;
            if newer {
                (answered.turn, answered.ttl) = (turn, ttl);
            }
            newer
        });
    }

    /// Asks once and waits for the answer.
    async fn once(
        &self,
        turn: u64,
        open: Option<Stream>,
    ) -> (u64, Result<(Duration, Stream), Failure>) {
        (turn, self.ask(open).await)
    }

    async fn ask(&self, open: Option<Stream>) -> Result<(Duration, Stream), Failure> {
        let (mut keeper, mut stream) = match open {
            Some(open) => open,
            None => self.open().await?,
        };
        let ask = async {
            keeper.keep_alive().await?;
            let answer = stream.message().await?;
            Ok::<_, etcd_client::Error>((answer, keeper, stream))
        };
        let answered = tokio::time::timeout(PATIENCE, ask).await;
        let (answer, keeper, stream) = match answered {
            Ok(done) => done.map_err(Failure::of)?,
            Err(_) => {
                self.member.forget();
                return Err(Failure::late());
            }
        };
        self.member.answered();
        let answer = answer.ok_or_else(Failure::late)?;
        match u64::try_from(answer.ttl()) {
            Ok(seconds) if seconds > 0 => Ok((Duration::from_secs(seconds), (keeper, stream))),
            _ => Err(Failure::NoSuchLease),
        }
    }

    async fn open(&self) -> Result<Stream, Failure> {
        let lease = self.lease;
        let call = self.member.call(PATIENCE, |client| {
            Box::pin(async move { client.lease_client().keep_alive(lease).await })
        });
        call.await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::body::{Body, BodyDataStream, Bytes};
    use axum::extract::State;
    use axum::http::header::CONTENT_TYPE;
    use axum::response::IntoResponse;
    use axum::routing::post;
    use etcd_client::ConnectOptions;
    use futures_util::stream;

    use super::*;
    use crate::config::{self, StoreKind};

    /// Of lease 7, for three seconds, as gRPC frames it (rpc.proto, `LeaseKeepAliveResponse`).
    const ANSWER: &[u8] = &[0, 0, 0, 0, 4, 0x10, 7, 0x18, 3];
    /// A flag and the length of the message behind them.
    const HEAD: usize = 5;

    /// A member that loses its leader: what is asked on its first stream from then on waits
    /// for ever, as do those behind it.
    #[derive(Default)]
    struct Leaderless {
        streams: AtomicUsize,
        /// Changes when something waits.
        waits: watch::Sender<bool>,
    }

    /// Requests on the first stream that are answered: the one that opens it, and another.
    const BEFORE: usize = 2;

    async fn keep_alive(State(member): State<Arc<Leaderless>>, body: Body) -> impl IntoResponse {
        let first = member.streams.fetch_add(1, Ordering::Relaxed) == 0;
        let asked = (body.into_data_stream(), Vec::new(), 0);
        let answers = stream::unfold(asked, move |(mut body, mut rest, count)| {
            let member = member.clone();
            async move {
                request(&mut body, &mut rest).await?;
                if first && count == BEFORE {
                    member.waits.send_replace(true);
                    return std::future::pending().await;
                }
                let answer = Ok::<_, axum::Error>(Bytes::from_static(ANSWER));
                Some((answer, (body, rest, count + 1)))
            }
        });
        let kind = [(CONTENT_TYPE, "application/grpc")];
        (kind, Body::from_stream(answers))
    }

    /// The next one, whatever it says.
    async fn request(body: &mut BodyDataStream, rest: &mut Vec<u8>) -> Option<()> {
        loop {
            let length = rest.get(1..HEAD).map(|length| {
                let length = length.try_into().expect("four bytes");
                HEAD + u32::from_be_bytes(length) as usize
            });
            if let Some(length) = length.filter(|length| *length <= rest.len()) {
                rest.drain(..length);
                return Some(());
            }
            rest.extend_from_slice(&body.next().await?.ok()?);
        }
    }

    #[tokio::test]
    async fn what_is_asked_while_a_renewal_waits_is_answered_on_a_stream_of_its_own() {
        let member = Arc::<Leaderless>::default();
        let app = Router::new()
            .route("/etcdserverpb.Lease/LeaseKeepAlive", post(keep_alive))
            .with_state(member.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("loopback has a free port");
        let url = format!("etcd://{}", listener.local_addr().expect("bound"));
        let server = tokio::spawn(async move { axum::serve(listener, app).await });
        let Ok(StoreKind::Etcd(names)) = url.try_into() else {
            panic!("it is an etcd");
        };
        let settings = config::Etcd::default();
        let members = Members::new(&names, &settings, &ConnectOptions::new());
        let renewals = Arc::new(Renewals::new(Arc::new(members)));
        let lease = LeaseId::from_raw(7);
        let ttl = Duration::from_secs(3);
        assert_eq!(renewals.renew(lease).await.expect("answered"), ttl);
        let waiting = {
            let renewals = renewals.clone();
            tokio::spawn(async move { renewals.renew(lease).await })
        };
        let mut waits = member.waits.subscribe();
        waits.wait_for(|waits| *waits).await.expect("it waits");
        // Sooner than the first one is given up, and answers that one too.
        let both = async { (renewals.renew(lease).await, waiting.await) };
        let both = tokio::time::timeout(PATIENCE / 2, both).await;
        let (later, waited) = both.expect("in time");
        assert_eq!(later.expect("answered"), ttl);
        assert_eq!(waited.expect("no panic").expect("answered"), ttl);
        assert_eq!(member.streams.load(Ordering::Relaxed), 2);
        server.abort();
    }
}
