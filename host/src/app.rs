//! Puts the services together, starts them in order, and stops them.
//!
//! Wiring only: every decision is in a module of its own.

mod advertise;
mod flv;
mod gate;
pub mod metrics;
mod nodes;
mod socket;
pub mod tls;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum_server::Handle;
use gate::Gates;
use tracing::{Instrument, info, info_span, warn};

use crate::auth::{self, Auth};
use crate::cluster::{self, Cluster, Home, Identity, Membership, Proof, Sabotage};
use crate::config::{Config, StoreKind, host_of};
use crate::drain::Drain;
use crate::figures::{Figures, Teller};
use crate::flv::MediaDir;
use crate::gate::{Gate, Protocol};
use crate::id::{AppName, NodeGroup, StreamGuid};
use crate::limits::Limits;
use crate::plugin::{self, Plugins, Runtime};
use crate::provision::{self, NameTaken, Names};
use crate::restreamer::{self, Restreamers};
use crate::rtmp::connection;
use crate::rtmp::listener::Listener;
use crate::rtmp::policy::Policy;
use crate::secrets::Secrets;
use crate::store::embedded::Embedded;
#[cfg(feature = "etcd")]
use crate::store::etcd::Etcd;
use crate::store::memory::Memory;
use crate::store::{Revision, Store};
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
    /// Stops the node at once.
    pub drain: Drain,
    /// The node among others; it is told to leave here.
    pub cluster: Cluster,
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
        let store = open_store(&config)?;
        let auth = Auth::new(&auth_settings(&config, secrets))?;
        let rtmp_listener = Listener::bind(config.rtmp_listen, config.limits.connections)
            .with_context(|| format!("rtmp_listen {}", config.rtmp_listen))?;
        let rtmp_addr = rtmp_listener.addr()?;
        let rtmps_listener = bind_rtmps(&config, &rtmp_listener, &drain).await?;
        let mut own = vec![rtmp_addr];
        if let Some(listener) = &rtmps_listener {
            own.push(listener.addr()?);
        }
        let api_listener = TcpListener::bind(config.api_listen)
            .with_context(|| format!("api_listen {}", config.api_listen))?;
        api_listener.set_nonblocking(true)?;
        let api_addr = api_listener.local_addr()?;
        let flv_listener = flv::bind(&config.flv)?;

        let runtime =
            Runtime::start().map_err(|error| anyhow::anyhow!("the plugin engine: {error:#}"))?;
        let plugins = Plugins::load(runtime, plugin_config(&config)).await?;
        let shared = is_shared(&config.store);
        let streams = match shared {
            true => Streams::of_a_cluster(config.stream.clone()),
            false => Streams::new(config.stream.clone()),
        };
        let policy = Arc::new(Policy::new(config.dial.clone(), own));
        let bounds = restreamer::Limits {
            sources: config.limits.sources,
            log_lines: config.limits.guest_log_lines,
        };
        let restreamers = Restreamers::new(
            plugins.clone(),
            streams.clone(),
            policy.clone(),
            MediaDir::new(config.media_dir.clone(), config.limits.media_file_bytes),
            bounds,
            drain.clone(),
        );
        let limits = limits(&config);
        let identity = Identity {
            id: config.node_id.clone(),
            group: config.node_group.clone(),
            sub_group: config.sub_group.clone(),
            address: advertise::address(config.advertise.as_deref(), rtmp_addr),
            rtmp: advertise::reachable(config.advertise.as_deref(), rtmp_addr),
            api: advertise::reachable(config.advertise.as_deref(), api_addr),
            api_tls: config.api.tls_cert.is_some(),
            capacity: config.limits.pulls,
            app_capacity: app_pulls(&config),
        };
        let membership = shared.then(|| membership(&config, &identity)).transpose()?;
        let cluster = Cluster::new(
            identity,
            store.clone(),
            restreamers.clone(),
            streams.clone(),
            limits.clone(),
            drain.clone(),
            membership,
        );
        drain.spawn(cluster.clone().run().instrument(info_span!("cluster")));
        cluster.started().await;
        cluster.joined().await?;
        follow_swaps(&plugins, &restreamers, &drain);
        drain.spawn(plugins.clone().follow(drain.clone()));

        let figures = match shared {
            true => nodes::follow(&cluster, &config, &streams, &auth, &drain),
            false => Figures::default(),
        };

        let mut registry = telemetry::registry();
        let gates = Gates::new(&config, &auth, &mut registry).await?;
        if let Some(listener) = rtmps_listener {
            let addr = listener.addr()?;
            let gate = gates.of(&config, addr);
            let context = rtmp_context(
                &config,
                gate,
                Protocol::Rtmps,
                (&streams, &restreamers),
                &cluster,
                &limits,
                &drain,
            );
            drain.spawn(listener.run(Arc::new(context)));
            info!(service = "rtmps", %addr, "listening");
        }
        let gate = gates.of(&config, rtmp_addr);
        let context = rtmp_context(
            &config,
            gate.clone(),
            Protocol::Rtmp,
            (&streams, &restreamers),
            &cluster,
            &limits,
            &drain,
        );
        drain.spawn(rtmp_listener.run(Arc::new(context)));
        info!(service = "rtmp", addr = %rtmp_addr, "listening");

        let provisions = provision::Service::new(
            store,
            Arc::new(plugins.clone()),
            Arc::new(StreamNames {
                group: config.node_group.clone(),
                streams: streams.clone(),
                cluster: cluster.clone(),
            }),
            provision::Config {
                is_self: is_self(policy, own_names(&config), rtmp_addr.port()),
            },
        );
        let api_metrics = api::Metrics::register(&mut registry);
        limits.register(&mut registry);
        metrics::register(&mut registry, &streams, &restreamers, &plugins);
        let mut beside = flv::router(&config, &streams, &gate, &limits, &drain, &mut registry);
        let api_handle = Handle::new();
        if let Some(listener) = flv_listener {
            let (addr, routes) = (listener.local_addr()?, std::mem::take(&mut beside));
            let routes = api::alone(routes, api_metrics.clone());
            // Its end is the API's: one handle stops both, and its responses heed the drain.
            tls::serve(
                listener,
                &config,
                &limits,
                routes,
                api_handle.clone(),
                &drain,
            )
            .await?;
            info!(service = "flv", %addr, tls = config.api.tls_cert.is_some(), "listening");
        }
        let state = api::State {
            figures,
            teller: Teller::new(drain.clone()),
            plugins,
            restreamers: restreamers.clone(),
            streams,
            cluster: cluster.clone(),
            provisions,
            auth: auth.clone(),
            config: Arc::new(config.api.clone()),
            document: api::document(flv::described(&config.flv)),
            registry: Arc::new(registry),
            metrics: api_metrics,
        };
        let api_task = tls::serve(
            api_listener,
            &config,
            &limits,
            api::router(state, beside),
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
            cluster,
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

/// The store that the configuration names. To be called on a runtime.
pub fn open_store(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    Ok(match &config.store {
        StoreKind::Embedded => Arc::new(Embedded::open(&config.data_dir)?),
        StoreKind::Memory => Arc::new(Memory::new()),
        #[cfg(feature = "etcd")]
        StoreKind::Etcd(members) => Arc::new(Etcd::open(members, &config.etcd)?),
        #[cfg(not(feature = "etcd"))]
        StoreKind::Etcd(_) => anyhow::bail!("store: this build has no feature `etcd`"),
    })
}

/// Whether other nodes have the same store.
fn is_shared(kind: &StoreKind) -> bool {
    match kind {
        StoreKind::Embedded | StoreKind::Memory => false,
        StoreKind::Etcd(_) => true,
    }
}

/// What makes this node one of many.
fn membership(config: &Config, identity: &Identity) -> anyhow::Result<Membership> {
    advertise::warn_of(&identity.address);
    let proof = std::env::var_os(cluster::proof::VARIABLE)
        .map(|path| Proof::open(Path::new(&path), identity.id.clone()));
    Ok(Membership {
        config: config.cluster.clone(),
        home: Some(Home::open(&config.data_dir)?),
        proof: proof.transpose()?,
        sabotage: Sabotage::asked_for(),
    })
}

/// A node that forgets keeps no compiled code either.
fn plugin_config(config: &Config) -> plugin::Config {
    let keeps = config.store != StoreKind::Memory;
    plugin::Config {
        cache: keeps.then(|| config.data_dir.join("compiled")),
        ..config.plugins.clone()
    }
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

async fn bind_rtmps(
    config: &Config,
    plain: &Listener,
    drain: &Drain,
) -> anyhow::Result<Option<Listener>> {
    let rtmp::Config {
        tls_cert, tls_key, ..
    } = &config.rtmp;
    let (Some(addr), Some(cert), Some(key)) = (config.rtmps_listen, tls_cert, tls_key) else {
        return Ok(None);
    };
    let tls = tls::rtmps(cert, key, drain).await?;
    let listener = plain.bind_tls(addr, tls);
    listener
        .with_context(|| format!("rtmps_listen {addr}"))
        .map(Some)
}

fn limits(config: &Config) -> Limits {
    let apps = config.apps.iter();
    Limits::new(
        config.limits.bounds(),
        apps.map(|(app, own)| (app.clone(), own.bounds())),
        config.limits.connections_per_address.map(NonZeroU32::get),
    )
}

fn app_pulls(config: &Config) -> BTreeMap<AppName, u64> {
    let apps = config.apps.iter();
    apps.filter_map(|(app, own)| Some((app.clone(), own.pulls?)))
        .collect()
}

fn rtmp_context(
    config: &Config,
    gate: Gate,
    protocol: Protocol,
    (streams, restreamers): (&Streams, &Restreamers),
    cluster: &Cluster,
    limits: &Limits,
    drain: &Drain,
) -> connection::Context {
    connection::Context {
        streams: streams.clone(),
        config: config.rtmp.clone(),
        gate,
        protocol,
        limits: limits.clone(),
        own_pulls: restreamers.own_pulls(),
        elsewhere: elsewhere(cluster.clone(), protocol),
        drain: drain.clone(),
    }
}

/// Where other nodes have the streams of this one, for players that can go there. Where
/// these listen with TLS is not known here.
fn elsewhere(cluster: Cluster, protocol: Protocol) -> connection::Elsewhere {
    Arc::new(move |stream| {
        let holder = cluster.holder(stream)?;
        let away = holder.node != cluster.this_node() && matches!(protocol, Protocol::Rtmp);
        away.then(|| {
            let address = advertise::with_port(&holder.record.address, holder.record.rtmp.port());
            format!("rtmp://{address}/{}", stream.app())
        })
    })
}

/// Restreamers hand over when their plugin was swapped.
fn follow_swaps(plugins: &Plugins, restreamers: &Restreamers, drain: &Drain) {
    let (mut swaps, restreamers, stop) = (plugins.swaps(), restreamers.clone(), drain.clone());
    let plugins = plugins.clone();
    drain.spawn(async move {
        loop {
            tokio::select! {
                swapped = swaps.recv() => match swapped {
                    Ok(swap) => restreamers.swapped(&swap),
                    Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {
                        plugins.swap_all().iter().for_each(|swap| restreamers.swapped(swap));
                    }
                    Err(_) => return,
                },
                () = stop.started() => return,
            }
        }
    });
}

/// What this node is called: the advertised address and the machine's own name.
fn own_names(config: &Config) -> Vec<String> {
    let advertised = config
        .advertise
        .as_deref()
        .map(|address| host_of(address).to_owned());
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let names = advertised.into_iter().chain(machine);
    names
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

/// Whether a URL is a stream on this very node, judged by its host as written: the
/// dial policy decides on addresses later.
fn is_self(policy: Arc<Policy>, names: Vec<String>, port: u16) -> provision::IsSelf {
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
        let own = |name: &String| name.eq_ignore_ascii_case(host);
        if url.port() == port && names.iter().any(own) {
            return true;
        }
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

/// The stream registry as the provision service sees it. Names of other groups are not
/// this node's to keep.
struct StreamNames {
    group: NodeGroup,
    streams: Streams,
    cluster: Cluster,
}

impl Names for StreamNames {
    fn reserve(&self, group: &NodeGroup, guid: &StreamGuid) -> Result<(), NameTaken> {
        if *group != self.group {
            return Ok(());
        }
        // Also of a publisher on another node, as far as this one has heard of it.
        if self.cluster.is_published(group, guid) {
            return Err(NameTaken);
        }
        self.streams.reserve(guid).map_err(|_| NameTaken)
    }

    fn settle(&self, group: &NodeGroup, guid: &StreamGuid, done: Option<Revision>) {
        if *group == self.group {
            self.streams.settle(guid, done);
        }
    }

    fn undecided(&self, group: &NodeGroup, guids: Vec<StreamGuid>) {
        if *group == self.group {
            self.cluster.undecided(guids);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_knows_itself_by_its_addresses_and_names() {
        let config = Config {
            advertise: Some("Node.example:1935".to_owned()),
            ..Config::default()
        };
        let names = own_names(&config);
        assert_eq!(names[0], "Node.example");
        let listens = "127.0.0.1:1935".parse().expect("an address");
        let policy = Arc::new(Policy::new(Default::default(), vec![listens]));
        let stream = "live/a".parse().expect("legal");
        let is_self = is_self(policy, names.clone(), 1935);
        let mut own = vec![
            "rtmp://localhost/live/a".to_owned(),
            "rtmp://127.0.0.1/live/a".to_owned(),
            "rtmp://node.EXAMPLE/live/a".to_owned(),
        ];
        own.extend(names.get(1).map(|host| format!("rtmp://{host}/live/a")));
        for url in own {
            assert!(is_self(&url, &stream), "{url}");
        }
        for url in [
            "rtmp://node.example:1936/live/a",
            "rtmp://node.example/live/b",
            "rtmp://other.example/live/a",
        ] {
            assert!(!is_self(url, &stream), "{url}");
        }
        let bare = |advertise: &str| {
            own_names(&Config {
                advertise: Some(advertise.to_owned()),
                ..Config::default()
            })
        };
        assert_eq!(bare("[2001:db8::1]:1935")[0], "2001:db8::1");
        assert_eq!(bare("2001:db8::1")[0], "2001:db8::1");
    }
}
