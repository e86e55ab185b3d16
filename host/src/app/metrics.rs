//! What `/metrics` shows of streams, restreamers and plugins: read when asked.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::plugin::Plugins;
use crate::restreamer::{Phase, Restreamers};
use crate::stream::Streams;

/// Every phase, so that a series never vanishes.
const PHASES: [Phase; 7] = [
    Phase::Waiting,
    Phase::Dialing,
    Phase::Live,
    Phase::Stalled,
    Phase::BackingOff,
    Phase::Stopping,
    Phase::Failed,
];

#[derive(Debug)]
struct Node {
    streams: Streams,
    restreamers: Restreamers,
    plugins: Plugins,
    runtime: tokio::runtime::Handle,
}

/// Adds the node's figures to a registry. Called within the runtime.
pub fn register(
    registry: &mut Registry,
    streams: &Streams,
    restreamers: &Restreamers,
    plugins: &Plugins,
) {
    let (streams, restreamers, plugins) = (streams.clone(), restreamers.clone(), plugins.clone());
    registry.register_collector(Box::new(Node {
        streams,
        restreamers,
        plugins,
        runtime: tokio::runtime::Handle::current(),
    }));
}

impl Collector for Node {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let snapshots = self.streams.snapshots();
        let mut gauge = |name: &str, help: &str, value: u64| {
            let metric = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        gauge(
            "stream_streams_count",
            "Streams that exist",
            snapshots.len() as u64,
        )?;
        gauge(
            "stream_live_count",
            "Streams whose media moves",
            snapshots.iter().filter(|s| s.live).count() as u64,
        )?;
        gauge(
            "stream_edges_count",
            "Streams that come from another node",
            snapshots.iter().filter(|s| s.edge).count() as u64,
        )?;
        gauge(
            "stream_subscribers_count",
            "Attached subscribers",
            snapshots.iter().map(|s| s.subscribers).sum(),
        )?;
        gauge(
            "stream_ring_bytes",
            "Media that streams keep for their subscribers",
            snapshots.iter().map(|s| s.ring_bytes as u64).sum(),
        )?;
        gauge(
            "runtime_tasks_count",
            "Tasks of the process that have not ended",
            self.runtime.metrics().num_alive_tasks() as u64,
        )?;
        self.encode_phases(&mut encoder)?;
        self.encode_plugins(&mut encoder)
    }
}

impl Node {
    fn encode_phases(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let phases = self.restreamers.phases();
        let kind = ConstGauge::new(0i64).metric_type();
        let mut family = encoder.encode_descriptor(
            "restreamer_phase_count",
            "Restreamers by phase",
            None,
            kind,
        )?;
        for phase in PHASES {
            let count = phases.get(&phase).copied().unwrap_or(0);
            ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX))
                .encode(family.encode_family(&[("phase", phase.as_str())])?)?;
        }
        Ok(())
    }

    fn encode_plugins(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let kind = ConstGauge::new(0i64).metric_type();
        let mut family = encoder.encode_descriptor(
            "plugin_instances_count",
            "Running instances by type",
            None,
            kind,
        )?;
        for plugin in self.plugins.list() {
            let instances = ConstGauge::new(i64::try_from(plugin.instances).unwrap_or(i64::MAX));
            instances.encode(family.encode_family(&[("type", plugin.kind.as_str())])?)?;
        }
        let kind = ConstCounter::new(0u64).metric_type();
        let mut family = encoder.encode_descriptor(
            "plugin_crashes",
            "Traps, overruns and memory kills by type",
            None,
            kind,
        )?;
        for (plugin, crashes) in self.plugins.crashes() {
            ConstCounter::new(crashes)
                .encode(family.encode_family(&[("type", plugin.as_str())])?)?;
        }
        let mut family = encoder.encode_descriptor(
            "plugin_builds_withdrawn",
            "Builds rolled back or quarantined because they crashed, by type and reason",
            None,
            kind,
        )?;
        for (plugin, reason, withdrawn) in self.plugins.withdrawn() {
            let labels = [("type", plugin.as_str()), ("reason", reason)];
            ConstCounter::new(withdrawn).encode(family.encode_family(&labels)?)?;
        }
        let mut family = encoder.encode_descriptor(
            "plugin_rejections",
            "Files that were not admitted, by type and reason",
            None,
            kind,
        )?;
        for (plugin, reason, rejections) in self.plugins.rejections() {
            let labels = [("type", plugin.as_str()), ("reason", reason)];
            ConstCounter::new(rejections).encode(family.encode_family(&labels)?)?;
        }
        let mut family = encoder.encode_descriptor(
            "plugin_upgrades_unanswered",
            "Restreamers that did not hand over in time and stayed on their build, by type",
            None,
            kind,
        )?;
        for (plugin, unanswered) in self.plugins.unanswered() {
            ConstCounter::new(unanswered)
                .encode(family.encode_family(&[("type", plugin.as_str())])?)?;
        }
        Ok(())
    }
}
