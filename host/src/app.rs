//! Puts the services together, starts them in order, and stops them.
//!
//! Wiring only: every decision is in a module of its own.

pub mod metrics;
pub mod tls;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum_server::Handle;
use tracing::{Instrument, info, info_span, warn};

use crate::auth::{self, Auth};
use crate::cluster::{Cluster, Identity};
use crate::config::{Config, StoreKind};
use crate::drain::Drain;
use crate::flv::MediaDir;
use crate::id::StreamGuid;
use crate::plugin::{Plugins, Runtime};
use crate::provision::{self, NameTaken, Names};
use crate::restreamer::{Limits, Restreamers};
use crate::rtmp::connection::{self, Act, VerifyToken};
use crate::rtmp::listener::Listener;
use crate::rtmp::policy::Policy;
use crate::secrets::Secrets;
use crate::store::Store;
use crate::store::embedded::Embedded;
use crate::store::memory::Memory;
use crate::stream::Streams;
use crate::{api, rtmp, telemetry};

/// How long connections and restreamers may take to finish.
const DRAIN: Duration = Duration::from_secs(8);
/// How long requests may take to finish then.
const API_DRAIN: Duration = Duration::from_secs(3);

/// A node that runs.
pub struct App {
    /// Where the REST API listens.
    pub api: SocketAddr,
    /// Where RTMP listens.
    pub rtmp: SocketAddr,
    /// Whether the REST API speaks TLS.
    pub tls: bool,
    /// Makes tokens.
    pub auth: Auth,
    /// Stops the node.
    pub drain: Drain,
    restreamers: Restreamers,
    api_handle: Handle<SocketAddr>,
    api_task: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("api", &self.api)
            .field("rtmp", &self.rtmp)
            .finish_non_exhaustive()
    }
}

impl App {
    /// Starts a node. When this returns it serves.
    pub async fn start(config: Config, secrets: &Secrets) -> anyhow::Result<Self> {
        let drain = Drain::new();
        let store = open_store(config.store, &config.data_dir)?;
        let auth = Auth::new(&auth_settings(&config, secrets))?;
        let rtmp_listener = Listener::bind(config.rtmp_listen, config.limits.connections)
            .with_context(|| format!("rtmp_listen {}", config.rtmp_listen))?;
        let rtmp_addr = rtmp_listener.addr()?;
        let api_listener = TcpListener::bind(config.api_listen)
            .with_context(|| format!("api_listen {}", config.api_listen))?;
        api_listener.set_nonblocking(true)?;
        let api_addr = api_listener.local_addr()?;

        let runtime =
            Runtime::start().map_err(|error| anyhow::anyhow!("the plugin engine: {error:#}"))?;
        let plugins = Plugins::load(runtime, config.plugins.clone()).await?;
        let streams = Streams::new(config.stream.clone());
        let policy = Arc::new(Policy::new(config.dial.clone(), vec![rtmp_addr]));
        let limits = Limits {
            sources: config.limits.sources,
            log_lines: config.limits.guest_log_lines,
        };
        let restreamers = Restreamers::new(
            plugins.clone(),
            streams.clone(),
            policy.clone(),
            MediaDir::new(config.media_dir.clone(), config.limits.media_file_bytes),
            limits,
            drain.clone(),
        );
        let identity = Identity {
            id: config.node_id.clone(),
            group: config.node_group.clone(),
            sub_group: "default".to_owned(),
            address: config
                .advertise
                .clone()
                .unwrap_or_else(|| rtmp_addr.ip().to_string()),
            capacity: config.limits.pulls,
        };
        let cluster = Cluster::new(
            identity,
            store.clone(),
            restreamers.clone(),
            streams.clone(),
            drain.clone(),
        );
        drain.spawn(cluster.clone().run().instrument(info_span!("cluster")));
        cluster.started().await;
        follow_swaps(&plugins, &restreamers, &drain);

        let context = rtmp_context(&config, &streams, &auth, &drain);
        drain.spawn(rtmp_listener.run(Arc::new(context)));
        info!(service = "rtmp", addr = %rtmp_addr, "listening");

        let provisions = provision::Service::new(
            store,
            Arc::new(plugins.clone()),
            Arc::new(StreamNames(streams.clone())),
            provision::Config {
                is_self: is_self(policy),
            },
        );
        let mut registry = telemetry::registry();
        let api_metrics = api::Metrics::register(&mut registry);
        metrics::register(&mut registry, &streams, &restreamers, &plugins);
        let state = api::State {
            plugins,
            restreamers: restreamers.clone(),
            streams,
            cluster,
            provisions,
            auth: auth.clone(),
            config: Arc::new(config.api.clone()),
            registry: Arc::new(registry),
            metrics: api_metrics,
        };
        let api_handle = Handle::new();
        let api_task = tls::serve(
            api_listener,
            &config.api,
            api::router(state),
            api_handle.clone(),
            &drain,
        )
        .await?;
        let tls = config.api.tls_cert.is_some();
        info!(service = "api", addr = %api_addr, tls, "listening");
        Ok(Self {
            api: api_addr,
            rtmp: rtmp_addr,
            tls,
            auth,
            drain,
            restreamers,
            api_handle,
            api_task,
        })
    }

    /// Runs until the drain starts, then stops everything in order.
    pub async fn run(self) {
        self.drain.started().await;
        info!("draining");
        self.restreamers.stop_all();
        self.api_handle.graceful_shutdown(Some(API_DRAIN));
        if !self.drain.finished(DRAIN).await {
            warn!("some connections did not finish in time and are dropped");
        }
        match self.api_task.await {
            Ok(Ok(())) => info!("stopped"),
            Ok(Err(error)) => warn!(%error, "the API ended with an error"),
            Err(_) => warn!("the API task failed"),
        }
    }
}

fn open_store(kind: StoreKind, data_dir: &Path) -> anyhow::Result<Arc<dyn Store>> {
    Ok(match kind {
        StoreKind::Embedded => Arc::new(Embedded::open(data_dir)?),
        StoreKind::Memory => Arc::new(Memory::new()),
    })
}

/// What tokens and logins are made with.
pub fn auth_settings(config: &Config, secrets: &Secrets) -> auth::Settings {
    auth::Settings {
        admin_user: config.admin_user.clone(),
        admin_password: secrets.admin_password.clone(),
        jwt_secret: secrets.jwt_secret.clone(),
        token_ttl: config.api.token_ttl,
    }
}

fn rtmp_context(
    config: &Config,
    streams: &Streams,
    auth: &Auth,
    drain: &Drain,
) -> connection::Context {
    let auth = auth.clone();
    let verify: VerifyToken = Arc::new(move |token, act, stream| {
        let act = match act {
            Act::Publish => auth::Act::Publish,
            Act::Play => auth::Act::Play,
        };
        auth.verify_stream(token, act, stream).is_ok()
    });
    connection::Context {
        streams: streams.clone(),
        config: rtmp::Config {
            ..config.rtmp.clone()
        },
        publish: config.publish_access(),
        verify,
        drain: drain.clone(),
    }
}

/// Restreamers hand over when their plugin was swapped.
fn follow_swaps(plugins: &Plugins, restreamers: &Restreamers, drain: &Drain) {
    let (mut swaps, restreamers, stop) = (plugins.swaps(), restreamers.clone(), drain.clone());
    drain.spawn(async move {
        loop {
            tokio::select! {
                swapped = swaps.recv() => match swapped {
                    Ok(kind) => restreamers.upgrade(&kind),
                    Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {
                        restreamers.types().iter().for_each(|kind| restreamers.upgrade(kind));
                    }
                    Err(_) => return,
                },
                () = stop.started() => return,
            }
        }
    });
}

/// Whether a URL is a stream on this very node, judged by its host as written: the
/// dial policy decides on addresses later.
fn is_self(policy: Arc<Policy>) -> provision::IsSelf {
    Arc::new(move |url, stream| {
        let Ok(url) = restreamd_rtmp::url::RtmpUrl::parse(url) else {
            return false;
        };
        let Ok(addressed) = rtmp::name::resolve(url.app(), url.name()) else {
            return false;
        };
        if addressed.guid != *stream {
            return false;
        }
        let host = url.host();
        let ip = match host.parse() {
            Ok(ip) => ip,
            Err(_) if host.eq_ignore_ascii_case("localhost") => {
                std::net::IpAddr::from([127, 0, 0, 1])
            }
            Err(_) => return false,
        };
        policy.is_own(SocketAddr::new(ip, url.port()))
    })
}

/// The stream registry as the provision service sees it.
struct StreamNames(Streams);

impl Names for StreamNames {
    fn reserve(&self, guid: &StreamGuid) -> Result<(), NameTaken> {
        self.0.reserve(guid).map_err(|_| NameTaken)
    }

    fn release(&self, guid: &StreamGuid) {
        self.0.release(guid);
    }
}
