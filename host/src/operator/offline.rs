//! Snapshots of a store whose nodes are down: the file under `data_dir`, or etcd itself.

use std::sync::Arc;

use anyhow::Context as _;
use serde_json::Value;

use crate::app::open_store;
use crate::cluster::record::NODES;
use crate::cluster::snapshot;
use crate::config::{Config, StoreKind};
use crate::store::{Embedded, OpenError, Page, Store};

const RUNS: &str = "a node runs on this store; without --offline it is asked";

/// What the store holds. To be called on a runtime, as is [`import_offline`].
///
/// # Errors
/// Why it cannot be opened or read.
pub async fn export_offline(config: &Config) -> anyhow::Result<Value> {
    if config.store == StoreKind::Embedded {
        let name = || config.data_dir.display().to_string();
        let there = Embedded::is_in(&config.data_dir).with_context(name)?;
        anyhow::ensure!(there, "{}: no node has kept its state here", name());
    }
    let exported = snapshot::export(&*open(config)?).await;
    exported.map_err(anyhow::Error::msg)
}

/// Takes a snapshot in, all or nothing.
///
/// # Errors
/// Why the store cannot be opened, or does not take it. Where nodes run on it, one of them
/// has to be asked: it knows who publishes.
pub async fn import_offline(config: &Config, snapshot: &Value) -> anyhow::Result<()> {
    let store = open(config)?;
    let nodes = store.list(NODES, Page::first().limit(1)).await?;
    anyhow::ensure!(nodes.entries.is_empty(), RUNS);
    snapshot::import(&*store, snapshot).await?;
    Ok(())
}

fn open(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    anyhow::ensure!(
        config.store != StoreKind::Memory,
        "store: one in memory is gone when its node is down"
    );
    open_store(config).map_err(|error| match error.downcast_ref::<OpenError>() {
        Some(OpenError::Locked { .. }) => error.context(RUNS),
        _ => error,
    })
}
