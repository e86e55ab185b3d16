//! How much this node and its apps serve at a time, and who finds no place.
//!
//! Counts places and bytes; it knows neither sockets nor streams nor what the bytes
//! are. A place is a value, and dropping it gives it back. Bytes per second are
//! measured over the last seconds and decide on newcomers only: who has a place keeps
//! it. Invariants: never more places than the bound; memory is that of the apps that
//! are configured and of the addresses that have a place.

mod address;
mod metrics;
mod rate;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::registry::Registry;
use tokio::time::Instant;

pub use address::{AddressPlace, network};
pub use metrics::Limit;

use crate::id::{AppName, StreamGuid};
use address::Addresses;
use metrics::Refusals;
use rate::Rate;

/// What the node, or one app, serves at most. `None` is as much as there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Players at a time, over all protocols.
    pub subscribers: Option<u64>,
    /// Bytes a second to players.
    pub bytes_per_second: Option<u64>,
    /// Bytes a second from publishers.
    pub publish_bytes_per_second: Option<u64>,
}

/// There is no place: which limit was reached, and whose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The limit.
    pub limit: Limit,
    /// The app whose limit it is; the node's when there is none.
    pub app: Option<AppName>,
}

/// For the peer, and for its operator: it names the key of the configuration.
impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whose, key) = match &self.app {
            Some(app) => ("the app", format!("apps.{app}.{}", self.limit.as_str())),
            None if self.limit == Limit::ConnectionsPerAddress => {
                ("the address", self.limit.key().to_owned())
            }
            None => ("the node", self.limit.key().to_owned()),
        };
        write!(f, "{whose} is at its limit, {key}")
    }
}

impl std::error::Error for Refused {}

/// The counters. A cheap handle.
#[derive(Clone, Debug, Default)]
pub struct Limits(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    node: Arc<Share>,
    /// The apps with bounds of their own, by name.
    apps: BTreeMap<AppName, Arc<Share>>,
    addresses: Arc<Addresses>,
    refusals: Refusals,
    born: Instant,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            node: Arc::default(),
            apps: BTreeMap::new(),
            addresses: Arc::default(),
            refusals: Refusals::default(),
            born: Instant::now(),
        }
    }
}

/// What the node or an app serves now.
#[derive(Debug, Default)]
struct Share {
    bounds: Bounds,
    app: Option<AppName>,
    subscribers: AtomicU64,
    sent: Rate,
    received: Rate,
}

impl Limits {
    /// Nobody is served yet.
    pub fn new(
        node: Bounds,
        apps: impl IntoIterator<Item = (AppName, Bounds)>,
        connections_per_address: Option<u32>,
    ) -> Self {
        let share = |bounds, app| Share {
            bounds,
            app,
            ..Share::default()
        };
        let bounded = apps
            .into_iter()
            .filter(|(_, bounds)| *bounds != Bounds::default());
        let apps = bounded.map(|(app, bounds)| (app.clone(), share(bounds, Some(app)).into()));
        Self(Arc::new(Inner {
            node: share(node, None).into(),
            apps: apps.collect(),
            addresses: Addresses::new(connections_per_address).into(),
            ..Inner::default()
        }))
    }

    /// Registers what it counts.
    pub fn register(&self, registry: &mut Registry) {
        self.0.refusals.register(registry);
    }

    /// A place for one more player of a stream.
    pub fn subscriber(&self, stream: &StreamGuid) -> Result<SubscriberPlace, Refused> {
        let shares = self.shares(stream);
        let second = self.second();
        let mut place = SubscriberPlace {
            sent: Sent {
                limits: self.clone(),
                shares: Shares::default(),
            },
            taken: true,
        };
        for (at, share) in shares.into_iter().enumerate() {
            let Some(share) = share else { continue };
            let fast = share.bounds.bytes_per_second;
            if fast.is_some_and(|most| share.sent.per_second(second) >= most) {
                return Err(self.refuse(share.refused(Limit::BytesPerSecond)));
            }
            if !share.enter() {
                return Err(self.refuse(share.refused(Limit::Subscribers)));
            }
            // From here on it leaves with the place, also when the next share has no room.
            place.sent.shares[at] = Some(share);
        }
        Ok(place)
    }

    /// A place for another node, which plays for viewers that have places there. None is
    /// taken here; what goes out counts.
    pub fn edge(&self, stream: &StreamGuid) -> SubscriberPlace {
        SubscriberPlace {
            sent: Sent {
                limits: self.clone(),
                shares: self.shares(stream),
            },
            taken: false,
        }
    }

    /// A place for one more publisher of a stream.
    pub fn publisher(&self, stream: &StreamGuid) -> Result<PublisherPlace, Refused> {
        let shares = self.shares(stream);
        let second = self.second();
        for share in shares.iter().flatten() {
            let most = share.bounds.publish_bytes_per_second;
            if most.is_some_and(|most| share.received.per_second(second) >= most) {
                return Err(self.refuse(share.refused(Limit::PublishBytesPerSecond)));
            }
        }
        Ok(PublisherPlace {
            limits: self.clone(),
            shares,
        })
    }

    /// A place for one more connection of an address.
    pub fn address(&self, address: IpAddr) -> Result<AddressPlace, Refused> {
        let place = self.0.addresses.enter(address);
        place.ok_or_else(|| self.refused(Limit::ConnectionsPerAddress, None))
    }

    /// Notes that a limit was reached which is kept elsewhere.
    pub fn refused(&self, limit: Limit, app: Option<AppName>) -> Refused {
        self.refuse(Refused { limit, app })
    }

    fn refuse(&self, refused: Refused) -> Refused {
        self.0.refusals.count(&refused);
        refused
    }

    /// The node's share and the app's, if it has one.
    fn shares(&self, stream: &StreamGuid) -> Shares {
        let app = self.0.apps.get(stream.app_name()).cloned();
        [Some(self.0.node.clone()), app]
    }

    fn second(&self) -> u64 {
        self.0.born.elapsed().as_secs()
    }
}

type Shares = [Option<Arc<Share>>; 2];

impl Share {
    fn enter(&self) -> bool {
        let most = self.bounds.subscribers.unwrap_or(u64::MAX);
        let one_more = |now: u64| (now < most).then(|| now + 1);
        let entered = self
            .subscribers
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        entered.is_ok()
    }

    fn refused(&self, limit: Limit) -> Refused {
        Refused {
            limit,
            app: self.app.clone(),
        }
    }
}

/// A player's place; dropping it gives it back.
#[derive(Debug)]
pub struct SubscriberPlace {
    sent: Sent,
    /// It is one of those there are.
    taken: bool,
}

impl SubscriberPlace {
    /// So many bytes went out.
    pub fn sent(&self, bytes: u64) {
        self.sent.count(bytes);
    }

    /// The same for who has no place of its own.
    pub fn meter(&self) -> Sent {
        self.sent.clone()
    }
}

/// Counts what goes out from a place.
#[derive(Clone, Debug)]
pub struct Sent {
    limits: Limits,
    shares: Shares,
}

impl Sent {
    /// So many bytes went out.
    pub fn count(&self, bytes: u64) {
        let second = self.limits.second();
        for share in self.shares.iter().flatten() {
            share.sent.add(second, bytes);
        }
    }
}

impl Drop for SubscriberPlace {
    fn drop(&mut self) {
        for share in self.sent.shares.iter().flatten().filter(|_| self.taken) {
            share.subscribers.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A publisher's place.
#[derive(Debug)]
pub struct PublisherPlace {
    limits: Limits,
    shares: Shares,
}

impl PublisherPlace {
    /// So many bytes came in.
    pub fn received(&self, bytes: u64) {
        let second = self.limits.second();
        for share in self.shares.iter().flatten() {
            share.received.add(second, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn stream(text: &str) -> StreamGuid {
        text.parse().expect("legal")
    }

    fn limits(node: Bounds, live: Bounds) -> Limits {
        Limits::new(node, [("live".parse().expect("legal"), live)], None)
    }

    fn subscribers(most: u64) -> Bounds {
        Bounds {
            subscribers: Some(most),
            ..Bounds::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn another_node_takes_no_viewers_place_and_its_bytes_count() {
        let node = Bounds {
            subscribers: Some(1),
            bytes_per_second: Some(1_000),
            ..Bounds::default()
        };
        let limits = limits(node, Bounds::default());
        let edges: Vec<_> = (0..5).map(|_| limits.edge(&stream("live/a"))).collect();
        let viewer = limits.subscriber(&stream("live/a")).expect("the one place");
        drop(edges);
        assert!(limits.subscriber(&stream("live/a")).is_err(), "still taken");
        drop(viewer);
        for _ in 0..20 {
            limits.edge(&stream("live/a")).sent(1_000);
            tokio::time::advance(Duration::from_millis(500)).await;
        }
        let refused = text(limits.subscriber(&stream("live/a")));
        assert!(refused.contains("bytes_per_second"), "{refused}");
    }

    fn text<T>(refused: Result<T, Refused>) -> String {
        refused.err().map(|why| why.to_string()).unwrap_or_default()
    }

    #[tokio::test]
    async fn subscribers_are_bounded_for_the_node_and_for_each_app_and_leaving_frees_the_place() {
        let limits = limits(subscribers(3), subscribers(2));
        let live = [stream("live/a"), stream("live/room/b")];
        let mut places: Vec<_> = live
            .iter()
            .map(|stream| limits.subscriber(stream).expect("free"))
            .collect();
        let full = "the app is at its limit, apps.live.subscribers";
        for _ in 0..3 {
            assert_eq!(text(limits.subscriber(&live[0])), full);
        }
        // What the app refused took nothing of the node's.
        places.push(limits.subscriber(&stream("other/a")).expect("free"));
        let full = "the node is at its limit, limits.subscribers";
        assert_eq!(text(limits.subscriber(&stream("other/a"))), full);
        places.truncate(1);
        limits.subscriber(&live[1]).expect("free again");
        places.clear();
        let shares = limits.shares(&live[0]);
        let left = shares
            .iter()
            .flatten()
            .map(|share| share.subscribers.load(Ordering::Relaxed));
        assert_eq!(left.collect::<Vec<_>>(), [0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn newcomers_are_refused_while_the_measured_rate_is_at_the_limit() {
        let app = Bounds {
            bytes_per_second: Some(1_000),
            publish_bytes_per_second: Some(500),
            ..Bounds::default()
        };
        let limits = limits(Bounds::default(), app);
        let (live, other) = (stream("live/a"), stream("other/a"));
        let player = limits.subscriber(&live).expect("nothing was sent yet");
        let publisher = limits.publisher(&live).expect("nothing came yet");
        for _ in 0..4 {
            player.sent(1_000);
            publisher.received(500);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let full = "the app is at its limit, apps.live.bytes_per_second";
        assert_eq!(text(limits.subscriber(&live)), full);
        let full = "the app is at its limit, apps.live.publish_bytes_per_second";
        assert_eq!(text(limits.publisher(&live)), full);
        limits.subscriber(&other).expect("another app");
        limits.publisher(&other).expect("another app");
        // A second with less, and there is room again.
        tokio::time::advance(Duration::from_secs(1)).await;
        limits.subscriber(&live).expect("below the limit");
        limits.publisher(&live).expect("below the limit");
    }

    #[test]
    fn many_threads_at_once_get_no_place_too_many_and_leave_none_behind() {
        let limits = limits(subscribers(10), Bounds::default());
        let live = stream("live/a");
        let most = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let places: Vec<_> = (0..3)
                            .filter_map(|_| limits.subscriber(&live).ok())
                            .collect();
                        let now = limits.0.node.subscribers.load(Ordering::Relaxed);
                        most.fetch_max(now, Ordering::Relaxed);
                        drop(places);
                    }
                });
            }
        });
        assert!(most.into_inner() <= 10);
        assert_eq!(limits.0.node.subscribers.load(Ordering::Relaxed), 0);
    }
}
