//! Tells a restreamer that reads its stream when media moves in it.
//!
//! The stream is somebody else's and may be there or not. Bounded: one look at a time.

use std::sync::Arc;
use std::time::Duration;

use super::inbox::Inbox;
use crate::id::StreamGuid;
use crate::stream::{Stream, Streams};

/// How often a stream that is there is looked at: media that begins, or stalls, is noticed
/// so late.
const LOOK: Duration = Duration::from_millis(250);

/// Follows the stream of a name until the restreamer stops.
pub(super) async fn follow(streams: Streams, guid: StreamGuid, inbox: Arc<Inbox>) {
    tokio::select! {
        () = look(&streams, &guid, &inbox) => {}
        () = inbox.stopped() => {}
    }
}

async fn look(streams: &Streams, guid: &StreamGuid, inbox: &Inbox) {
    let mut changes = streams.changes();
    let mut live: Option<Arc<Stream>> = None;
    loop {
        changes.mark_unchanged();
        let found = streams.find(guid);
        let moves = found
            .clone()
            .filter(|stream| stream.is_live() && stream.has_start());
        if let Some(former) = &live
            && moves.as_ref().is_none_or(|now| !Arc::ptr_eq(now, former))
        {
            inbox.stream(false);
        }
        if let Some(now) = &moves
            && live.as_ref().is_none_or(|former| !Arc::ptr_eq(now, former))
        {
            inbox.stream(true);
        }
        live = moves;
        let changed = changes.changed();
        match found {
            // The sender lives as long as the streams.
            None => drop(changed.await),
            Some(_) => drop(tokio::time::timeout(LOOK, changed).await),
        }
    }
}
