//! The task of one edge: carries out what the course says.
//!
//! Two pulls at most: while a new holder is dialed the old one is read on, until the new
//! one is on air.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::info;

use super::Edges;
use super::course::{Course, News, Seen, Step};
use super::link::{Link, Told, Word};
use crate::stream::{Feeder, Stream};

/// Viewers come and go without a word: how late that is noticed.
const LOOK: Duration = Duration::from_secs(1);
/// Words of two pulls that wait to be heard.
const WORDS: usize = 8;

/// Follows a stream until it is over here, or fed here.
pub(super) async fn run(edges: Edges, stream: Arc<Stream>) {
    let mut task = Task::new(&edges, &stream);
    info!("edge begins");
    let reason = tokio::select! {
        reason = task.run() => reason,
        () = edges.0.drain.started() => {
            edges.end(&stream);
            "the node drains"
        }
    };
    info!(reason, "edge ended");
}

struct Task<'a> {
    edges: &'a Edges,
    stream: &'a Arc<Stream>,
    course: Course,
    /// The pull of the last dial.
    link: Option<Link>,
    /// The one before, while it is on air.
    former: Option<Link>,
    links: u64,
    told: (mpsc::Sender<Told>, mpsc::Receiver<Told>),
}

impl<'a> Task<'a> {
    fn new(edges: &'a Edges, stream: &'a Arc<Stream>) -> Self {
        // One that was fed here had media, or its viewers wait for their first picture.
        let began = stream.snapshot().bytes_in > 0;
        Self {
            edges,
            stream,
            course: Course::new(edges.0.config, began, Instant::now()),
            link: None,
            former: None,
            links: 0,
            told: mpsc::channel(WORDS),
        }
    }

    async fn run(&mut self) -> &'static str {
        let mut changes = self.edges.0.holders.changes();
        let mut feeder = self.stream.feeder_changes();
        loop {
            // Seen before looking, so that what changes meanwhile wakes us again.
            changes.mark_unchanged();
            let fed_here = *feeder.borrow_and_update() != Feeder::Edge;
            let now = Instant::now();
            let until = if fed_here || self.stream.is_ended() {
                // Until media of this node's own is on air, viewers keep what there is.
                if !self.is_on_air() && self.edges.hand_back(self.stream) {
                    return "the stream is fed here, or over";
                }
                now + LOOK
            } else {
                // As where it is fed; a change there is as late here as viewers are noticed.
                let latency = self.edges.0.holders.latency(self.stream.guid());
                self.stream.set_latency(latency);
                match self.course.step(&self.seen(), now) {
                    Step::Dial(origin) => {
                        self.dial(origin);
                        continue;
                    }
                    Step::LetGo if self.edges.let_go(self.stream) => return "nobody watches",
                    Step::LetGo => continue,
                    Step::End(why) => {
                        self.edges.end(self.stream);
                        return why;
                    }
                    Step::Wait(until) => until.min(now + LOOK),
                }
            };
            tokio::select! {
                told = self.told.1.recv() => if let Some(told) = told {
                    self.hear(told);
                },
                _ = changes.changed() => {}
                _ = feeder.changed() => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    /// Whether viewers get what a pull brings.
    fn is_on_air(&self) -> bool {
        let mut links = [&self.link, &self.former].into_iter().flatten();
        links.any(|link| link.is_on_air(self.stream))
    }

    fn seen(&self) -> Seen {
        let (guid, holders) = (self.stream.guid(), &self.edges.0.holders);
        Seen {
            holder: holders.holder(guid),
            exists: holders.exists(guid),
            viewers: self.stream.viewers(),
            wanted: self.edges.wanted(guid),
        }
    }

    fn dial(&mut self, origin: super::Origin) {
        info!(node = %origin.node, epoch = origin.epoch, "pulling from the node that has the stream");
        self.links += 1;
        let (token, tell) = (self.edges.token(), self.told.0.clone());
        let dials = &self.edges.0.dials;
        let link = Link::open(self.links, origin, &token, self.stream, dials, tell);
        let before = self.link.replace(link);
        if let Some(before) = before.filter(|link| link.is_on_air(self.stream)) {
            self.former = Some(before);
        }
    }

    fn hear(&mut self, Told { link, news }: Told) {
        if self.link.as_ref().map(Link::id) != Some(link) {
            if matches!(news, Word::News(News::Lost { .. })) {
                self.former.take_if(|former| former.id() == link);
            }
            return;
        }
        match news {
            Word::OnAir => self.former = None,
            Word::News(news) => {
                if matches!(news, News::Lost { .. }) {
                    self.link = None;
                }
                self.course.hear(news, Instant::now());
            }
        }
    }
}
