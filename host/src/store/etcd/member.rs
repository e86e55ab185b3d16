//! One member of the etcd cluster, connected to when it is first needed.
//!
//! Knows nothing of other members. A connection that broke is made anew by the client;
//! one that went silent, or whose login is of no more use, is forgotten here.

use std::time::{Duration, Instant};

use etcd_client::{Client, ConnectOptions};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use super::failure::Failure;

/// Pings on a connection with a call under way: etcd ends one that is pinged more often
/// than every 5 s.
const PING: Duration = Duration::from_secs(6);
/// How long the answer to a ping may take.
const PONG: Duration = Duration::from_secs(2);

/// A call, on a connected client.
pub(super) type Call<T> = BoxFuture<'static, Result<T, etcd_client::Error>>;

pub(super) struct Member {
    endpoint: String,
    options: ConnectOptions,
    client: Mutex<Option<Client>>,
    /// When it last answered anything.
    heard: Mutex<Option<Instant>>,
}

impl Member {
    /// `host:port`, with options that name no keep-alive.
    pub(super) fn new(endpoint: &str, options: ConnectOptions) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            options: options
                .with_keep_alive(PING, PONG)
                .with_keep_alive_while_idle(false),
            client: Mutex::default(),
            heard: Mutex::default(),
        }
    }

    /// `host:port`.
    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Makes a call; the whole of it takes no longer than `within`.
    pub(super) async fn call<T>(
        &self,
        within: Duration,
        call: impl FnOnce(Client) -> Call<T>,
    ) -> Result<T, Failure> {
        let call = async { call(self.client().await?).await };
        let done = match tokio::time::timeout(within, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Failure::of(error)),
            Err(_) => Err(Failure::late()),
        };
        match &done {
            Ok(_) | Err(Failure::NoSuchLease | Failure::OutOfRange(_)) => self.answered(),
            Err(failure) if failure.spoils_client() => self.forget(),
            Err(_) => {}
        }
        done
    }

    /// It answered, just now.
    pub(super) fn answered(&self) {
        *self.heard.lock() = Some(Instant::now());
    }

    /// How long ago it last answered.
    pub(super) fn silent(&self) -> Option<Duration> {
        self.heard.lock().map(|at| at.elapsed())
    }

    /// The next call connects anew; streams that are open go on.
    pub(super) fn forget(&self) {
        self.client.lock().take();
    }

    /// A client that may not be connected yet, but has logged in where it must.
    async fn client(&self) -> Result<Client, etcd_client::Error> {
        let known = self.client.lock().clone();
        if let Some(client) = known {
            return Ok(client);
        }
        let connect = Client::connect([&self.endpoint], Some(self.options.clone()));
        // Seldom, and large.
        let client = Box::pin(connect).await?;
        // Two that connect at once keep the later: both work.
        *self.client.lock() = Some(client.clone());
        Ok(client)
    }
}
