//! Which publishes and plays of a connection wait for a verdict.
//!
//! Each act on each stream is judged by others once, however often the peer asks.
//! Invariant: a wish that was given up gets no answer, and nothing here makes what the
//! connection does already wait.

use std::collections::HashMap;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

use crate::gate::{Act, Denied, Verdict};
use crate::id::StreamGuid;

/// What is judged.
pub(super) type Subject = (Act, StreamGuid);

/// A verdict that came, and the message streams that waited for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answered {
    pub(super) subject: Subject,
    pub(super) verdict: Result<(), Denied>,
    pub(super) streams: Vec<u32>,
}

/// The verdicts of a connection, those that came and those to come. Bounded by the
/// requests that a session takes.
#[derive(Debug, Default)]
pub(super) struct Asking {
    /// `None` while it is being asked.
    verdicts: HashMap<Subject, Option<Result<(), Denied>>>,
    waiting: HashMap<u32, Subject>,
    answers: FuturesUnordered<BoxFuture<'static, (Subject, Result<(), Denied>)>>,
}

impl Asking {
    /// A message stream wants something. The verdict when there is one already, else
    /// [`Asking::answered`] has it later.
    pub(super) fn want(
        &mut self,
        stream_id: u32,
        subject: Subject,
        judge: impl FnOnce() -> Verdict,
    ) -> Option<Result<(), Denied>> {
        match self.verdicts.get(&subject) {
            Some(Some(verdict)) => return Some(*verdict),
            Some(None) => {}
            None => match judge() {
                Verdict::Now(verdict) => return Some(verdict),
                Verdict::Later(answer) => {
                    let asked = subject.clone();
                    self.answers
                        .push(Box::pin(async move { (asked, answer.await) }));
                    self.verdicts.insert(subject.clone(), None);
                }
            },
        }
        self.waiting.insert(stream_id, subject);
        None
    }

    /// It is wanted no longer.
    pub(super) fn forget(&mut self, stream_id: u32) {
        self.waiting.remove(&stream_id);
    }

    /// The next verdict. Never, when none is to come. Cancel safe.
    pub(super) async fn answered(&mut self) -> Answered {
        let Some((subject, verdict)) = self.answers.next().await else {
            return std::future::pending().await;
        };
        self.verdicts.insert(subject.clone(), Some(verdict));
        let mine = self.waiting.extract_if(|_, waits| *waits == subject);
        let mut streams: Vec<u32> = mine.map(|(stream_id, _)| stream_id).collect();
        streams.sort_unstable();
        Answered {
            subject,
            verdict,
            streams,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::oneshot;

    use super::*;

    fn subject(act: Act, stream: &str) -> Subject {
        (act, stream.parse().expect("legal"))
    }

    fn later(answer: oneshot::Receiver<Result<(), Denied>>) -> Verdict {
        Verdict::Later(Box::pin(async { answer.await.expect("answered") }))
    }

    #[tokio::test]
    async fn an_act_on_a_stream_is_asked_about_once_and_all_who_wait_hear_it() {
        let mut asking = Asking::default();
        let asked = Arc::new(AtomicUsize::new(0));
        let (tell, answer) = oneshot::channel();
        let mut answer = Some(answer);
        let play = subject(Act::Play, "live/a");
        for stream_id in [1, 2, 3] {
            let verdict = asking.want(stream_id, play.clone(), || {
                asked.fetch_add(1, Ordering::Relaxed);
                later(answer.take().expect("asked once"))
            });
            assert_eq!(verdict, None);
        }
        asking.forget(2);
        tell.send(Ok(())).expect("it waits");
        let heard = asking.answered().await;
        let expected = Answered {
            subject: play.clone(),
            verdict: Ok(()),
            streams: vec![1, 3],
        };
        assert_eq!(heard, expected);
        let again = asking.want(4, play, || panic!("asked twice"));
        assert_eq!(again, Some(Ok(())));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        // Another act is another question.
        let publish = subject(Act::Publish, "live/a");
        let verdict = asking.want(5, publish, || Verdict::Now(Err(Denied::Off)));
        assert_eq!(verdict, Some(Err(Denied::Off)));
    }

    #[tokio::test]
    async fn who_gave_up_and_asks_again_waits_for_the_same_answer() {
        let mut asking = Asking::default();
        let (tell, answer) = oneshot::channel();
        let play = subject(Act::Play, "live/a");
        assert_eq!(asking.want(1, play.clone(), || later(answer)), None);
        asking.forget(1);
        assert_eq!(asking.want(1, play, || panic!("asked twice")), None);
        tell.send(Err(Denied::Refused)).expect("it waits");
        let heard = asking.answered().await;
        assert_eq!(
            (heard.verdict, heard.streams),
            (Err(Denied::Refused), vec![1])
        );
    }
}
