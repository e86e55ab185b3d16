//! Who may publish and play on this node's listeners, as the configuration says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use prometheus_client::registry::Registry;
use rustls::{ClientConfig, RootCertStore};

use crate::auth::{Auth, Secret};
use crate::config::{App, Config};
use crate::gate::{Asks, Gate, Metrics, Rules, Url, Webhook};
use crate::id::AppName;
use crate::rtmp::dial;

/// Makes the gates of all listeners: they share their webhooks.
pub(super) struct Gates {
    auth: Auth,
    node: Option<Arc<Webhook>>,
    apps: BTreeMap<AppName, Arc<Webhook>>,
}

impl Gates {
    pub(super) async fn new(
        config: &Config,
        auth: &Auth,
        registry: &mut Registry,
    ) -> anyhow::Result<Self> {
        let asks = Asks::new(
            tls(config).await?,
            config.node_id.clone(),
            Duration::from_secs(config.rtmp.webhook_timeout_seconds),
            Metrics::register(registry),
        );
        let webhook = |url: &Option<Url>, secret: &Option<Secret>| {
            let webhook = url
                .clone()
                .map(|url| Webhook::new(asks.clone(), url, secret.as_ref()));
            anyhow::Ok(webhook.transpose()?.map(Arc::new))
        };
        let mut apps = BTreeMap::new();
        for (app, own) in &config.apps {
            if let Some(webhook) = webhook(&own.webhook, &own.webhook_secret)? {
                apps.insert(app.clone(), webhook);
            }
        }
        Ok(Self {
            auth: auth.clone(),
            node: webhook(&config.rtmp.webhook, &config.rtmp.webhook_secret)?,
            apps,
        })
    }

    /// The gate of a listener: its address decides where the configuration does not.
    pub(super) fn of(&self, config: &Config, listen: SocketAddr) -> Gate {
        let node = Rules {
            publish: config.publish_access(listen),
            play: config.rtmp.play,
            webhook: self.node.clone(),
        };
        let rules = |(app, own): (&AppName, &App)| {
            let webhook = self.apps.get(app).cloned();
            let rules = Rules {
                publish: own.publish.unwrap_or(node.publish),
                play: own.play.unwrap_or(node.play),
                webhook: webhook.or(node.webhook.clone()),
            };
            (app.clone(), rules)
        };
        let apps = config.apps.iter().map(rules).collect();
        Gate::new(node.clone(), apps, self.auth.clone())
    }
}

/// The machine's roots where a webhook speaks TLS; where none does they need not be there.
async fn tls(config: &Config) -> anyhow::Result<ClientConfig> {
    let apps = config.apps.values().map(|own| &own.webhook);
    let mut urls = apps.chain([&config.rtmp.webhook]).flatten();
    if urls.any(Url::is_secure) {
        let tls = dial::verifying().await.context("the webhook")?;
        return Ok((*tls).clone());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    Ok(builder
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}
