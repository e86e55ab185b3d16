//! What this node has to do with the others of its group beside the store: it brings
//! their streams, and follows their figures.

use std::sync::Arc;
use std::time::Duration;

use crate::auth::Auth;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::drain::Drain;
use crate::edge::{self, Edges};
use crate::figures::{self, Figures, Trust};
use crate::stream::Streams;

/// After its last viewer a stream of another node is kept for the next one.
const LINGER: Duration = Duration::from_secs(5);

/// Begins both, for a node of a cluster. What others say of their streams is in the answer.
pub(super) fn follow(
    cluster: &Cluster,
    config: &Config,
    streams: &Streams,
    auth: &Auth,
    drain: &Drain,
) -> Figures {
    let edges = edge::Config {
        orphan_wait: config.cluster.orphan_wait(),
        linger: LINGER,
    };
    let (me, cluster) = (config.node_id.clone(), Arc::new(cluster.clone()));
    Edges::start(
        me.clone(),
        streams,
        cluster.clone(),
        auth.clone(),
        edges,
        drain.clone(),
    );
    let trust = match config.cluster.tls_verify {
        true => Trust::Verify,
        false => Trust::Skip,
    };
    let figures = Figures::default();
    drain.spawn(figures::run(
        me,
        figures.clone(),
        cluster,
        auth.clone(),
        trust,
        drain.clone(),
    ));
    figures
}
