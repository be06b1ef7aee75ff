//! Answers whose parts arrive over the relay: put in order, asked for again
//! when they do not come, given up when the client is gone.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sockerless_shared::answer::Part;
use sockerless_shared::ids::AnswerId;
use sockerless_shared::protocol::control::FrontendMessage;
use thiserror::Error;
use tokio::sync::{Notify, mpsc};

/// Parts kept ahead of a slow client, and their bytes; what comes beyond it is
/// dropped and asked for again when its turn comes.
const WINDOW_PARTS: u64 = 256;
const WINDOW_BYTES: usize = 1024 * 1024;

/// How long a gap may be filled by a message that was overtaken.
const GAP_PATIENCE: Duration = Duration::from_millis(150);

/// How long nothing may come before it is asked whether something was lost;
/// doubled each time up to the maximum.
const SILENCE: Duration = Duration::from_secs(1);
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// Answers of which a part came before the answer itself was known.
const MAX_UNCLAIMED: usize = 64;

/// Answers whose end is remembered, so that it can be said again.
const MAX_DONE: usize = 1024;

/// The control plane does not know the answer any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the control plane no longer has the rest of this answer; repeat the request")]
pub struct AnswerLost;

/// All answers of this frontend that are under way.
pub(super) struct Answers {
    state: Mutex<State>,
    outgoing: mpsc::Sender<FrontendMessage>,
    connected: AtomicBool,
}

#[derive(Default)]
struct State {
    live: HashMap<AnswerId, Arc<Inbox>>,
    unclaimed: VecDeque<AnswerId>,
    done: HashSet<AnswerId>,
    done_order: VecDeque<AnswerId>,
}

#[derive(Default)]
struct Inbox {
    state: Mutex<InboxState>,
    changed: Notify,
}

#[derive(Default)]
struct InboxState {
    /// The number of the first part not yet taken.
    next: u64,
    parts: BTreeMap<u64, Part>,
    bytes: usize,
    /// A part was dropped for want of room.
    overflowed: bool,
    lost: bool,
}

/// The parts of one answer, in order. Dropping it before its end tells the control plane that
/// the answer is done with; after it nothing is left there that would not go by itself, unless
/// it is blobs.
pub struct AnswerParts {
    id: AnswerId,
    inbox: Arc<Inbox>,
    /// Whether the end was taken.
    ended: bool,
    /// Whether a blob was.
    blobs: bool,
    /// `None` for an answer that came whole: nothing more is to be received or said of it.
    answers: Option<Arc<Answers>>,
}

impl Answers {
    pub(super) fn new(outgoing: mpsc::Sender<FrontendMessage>) -> Self {
        Self {
            state: Mutex::default(),
            outgoing,
            connected: AtomicBool::new(false),
        }
    }

    /// An answer was given, with its first parts.
    pub(super) fn claim(self: &Arc<Self>, id: AnswerId, first: Vec<Part>) -> AnswerParts {
        let whole = first.last() == Some(&Part::End);
        let inbox = if whole {
            Arc::default()
        } else {
            let mut state = lock(&self.state);
            state.unclaimed.retain(|unclaimed| *unclaimed != id);
            Arc::clone(state.live.entry(id.clone()).or_default())
        };
        for (seq, part) in (0..).zip(first) {
            inbox.put(seq, part);
        }
        AnswerParts {
            id,
            inbox,
            ended: false,
            blobs: false,
            answers: (!whole).then(|| Arc::clone(self)),
        }
    }

    /// A part came.
    pub(super) fn deliver(&self, id: &AnswerId, seq: u64, part: Part) {
        let mut state = lock(&self.state);
        if state.done.contains(id) {
            drop(state);
            self.send(FrontendMessage::Done { answer: id.clone() });
            return;
        }
        let inbox = state.inbox(id);
        drop(state);
        inbox.put(seq, part);
    }

    /// The control plane does not know this answer.
    pub(super) fn lost(&self, id: &AnswerId) {
        let inbox = lock(&self.state).live.get(id).cloned();
        if let Some(inbox) = inbox {
            lock(&inbox.state).lost = true;
            inbox.changed.notify_one();
        }
    }

    /// The relay is connected, or not any more.
    pub(super) fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
    }

    /// What to ask for after a reconnect: the rest of every answer.
    pub(super) fn resumes(&self) -> Vec<FrontendMessage> {
        let state = lock(&self.state);
        let unclaimed: HashSet<&AnswerId> = state.unclaimed.iter().collect();
        state
            .live
            .iter()
            .filter(|(id, _)| !unclaimed.contains(id))
            .map(|(id, inbox)| FrontendMessage::Resume {
                answer: id.clone(),
                from: lock(&inbox.state).next,
            })
            .collect()
    }

    /// Nothing more is wanted of an answer; `tell` the control plane or let its records expire.
    fn finish(&self, id: &AnswerId, tell: bool) {
        let mut state = lock(&self.state);
        state.live.remove(id);
        if state.done.insert(id.clone()) {
            state.done_order.push_back(id.clone());
        }
        if state.done_order.len() > MAX_DONE
            && let Some(oldest) = state.done_order.pop_front()
        {
            state.done.remove(&oldest);
        }
        drop(state);
        if tell {
            self.send(FrontendMessage::Done { answer: id.clone() });
        }
    }

    /// Sends if the relay is connected. What is lost otherwise is said again:
    /// `Resume` after the reconnect, `Done` when another part comes.
    fn send(&self, message: FrontendMessage) {
        if self.connected.load(Ordering::Relaxed) {
            let _ = self.outgoing.try_send(message);
        }
    }
}

impl State {
    fn inbox(&mut self, id: &AnswerId) -> Arc<Inbox> {
        if let Some(inbox) = self.live.get(id) {
            return Arc::clone(inbox);
        }
        if self.unclaimed.len() >= MAX_UNCLAIMED
            && let Some(oldest) = self.unclaimed.pop_front()
        {
            self.live.remove(&oldest);
        }
        self.unclaimed.push_back(id.clone());
        Arc::clone(self.live.entry(id.clone()).or_default())
    }
}

impl Inbox {
    fn put(&self, seq: u64, part: Part) {
        let mut state = lock(&self.state);
        if seq < state.next || state.parts.contains_key(&seq) {
            return;
        }
        let wanted = seq == state.next;
        let room = seq - state.next < WINDOW_PARTS && state.bytes < WINDOW_BYTES;
        if !wanted && !room {
            state.overflowed = true;
            return;
        }
        state.bytes += size(&part);
        state.parts.insert(seq, part);
        drop(state);
        self.changed.notify_one();
    }
}

impl InboxState {
    fn take(&mut self) -> Option<Part> {
        let part = self.parts.remove(&self.next)?;
        self.next += 1;
        self.bytes -= size(&part);
        Some(part)
    }

    fn has_gap(&self) -> bool {
        !self.parts.is_empty()
    }
}

impl AnswerParts {
    /// The next part, as soon as it is there.
    ///
    /// # Errors
    /// [`AnswerLost`] when it never will be.
    pub async fn next(&mut self) -> Result<Part, AnswerLost> {
        let mut silence = SILENCE;
        loop {
            let (next, patience) = {
                let mut state = lock(&self.inbox.state);
                if let Some(part) = state.take() {
                    self.ended |= part == Part::End;
                    self.blobs |= matches!(part, Part::Blob { .. });
                    return Ok(part);
                }
                if state.lost {
                    return Err(AnswerLost);
                }
                let overflowed = std::mem::take(&mut state.overflowed);
                let patience = if overflowed {
                    Duration::ZERO
                } else if state.has_gap() {
                    GAP_PATIENCE
                } else {
                    silence
                };
                (state.next, patience)
            };
            let changed = tokio::time::timeout(patience, self.inbox.changed.notified());
            if changed.await.is_err() {
                let Some(answers) = &self.answers else {
                    // Read beyond its end.
                    return Err(AnswerLost);
                };
                answers.send(FrontendMessage::Resume {
                    answer: self.id.clone(),
                    from: next,
                });
                silence = (silence * 2).min(LONGEST_SILENCE);
            }
        }
    }

    /// The next part if it is there already.
    pub fn next_now(&mut self) -> Option<Part> {
        let part = lock(&self.inbox.state).take()?;
        self.ended |= part == Part::End;
        self.blobs |= matches!(part, Part::Blob { .. });
        Some(part)
    }
}

impl Drop for AnswerParts {
    fn drop(&mut self) {
        if let Some(answers) = &self.answers {
            answers.finish(&self.id, self.blobs || !self.ended);
        }
    }
}

/// What a part takes of the window.
fn size(part: &Part) -> usize {
    const FIXED: usize = 64;
    match part {
        Part::Data { data } => FIXED + data.len(),
        Part::Stream(target) | Part::Ask { target, .. } => FIXED + target.grant.len(),
        Part::Head(head) => {
            let headers = head.headers.iter();
            FIXED + headers.map(|(n, v)| n.len() + v.len()).sum::<usize>()
        }
        Part::Blob { .. } | Part::EndAfter { .. } | Part::End => FIXED,
    }
}

/// Nothing that holds one of these locks can panic half-way through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> AnswerId {
        AnswerId::from_random([n; 16])
    }

    fn data(text: &'static str) -> Part {
        Part::Data { data: text.into() }
    }

    fn answers() -> (Arc<Answers>, mpsc::Receiver<FrontendMessage>) {
        let (sender, receiver) = mpsc::channel(16);
        let answers = Arc::new(Answers::new(sender));
        answers.set_connected(true);
        (answers, receiver)
    }

    #[tokio::test]
    async fn parts_come_out_in_order_once() {
        let (answers, mut sent) = answers();
        // The first one overtakes the answer itself.
        answers.deliver(&id(1), 2, data("c"));
        let mut parts = answers.claim(id(1), vec![data("a")]);
        answers.deliver(&id(1), 3, data("d"));
        answers.deliver(&id(1), 0, data("repeated"));
        answers.deliver(&id(1), 1, data("b"));
        answers.deliver(&id(1), 1, data("repeated"));
        for text in ["a", "b", "c", "d"] {
            assert_eq!(parts.next().await, Ok(data(text)));
        }
        assert_eq!(parts.next_now(), None);
        drop(parts);
        let done = FrontendMessage::Done { answer: id(1) };
        assert_eq!(sent.try_recv().ok(), Some(done.clone()));
        // The control plane did not hear it.
        answers.deliver(&id(1), 4, data("e"));
        assert_eq!(sent.try_recv().ok(), Some(done));
        assert!(lock(&answers.state).live.is_empty());
    }

    #[tokio::test]
    async fn of_an_answer_that_came_whole_nothing_is_said() {
        let (answers, mut sent) = answers();
        let mut parts = answers.claim(id(1), vec![data("a"), Part::End]);
        assert_eq!(answers.resumes(), vec![]);
        assert_eq!(parts.next().await, Ok(data("a")));
        assert_eq!(parts.next().await, Ok(Part::End));
        drop(parts);
        assert!(sent.try_recv().is_err());
    }

    #[tokio::test]
    async fn of_an_answer_that_was_taken_to_its_end_only_blobs_are_given_back() {
        for blobs in [false, true] {
            let (answers, mut sent) = answers();
            let mut parts = answers.claim(id(1), vec![data("a")]);
            if blobs {
                let blob = sockerless_shared::ids::BlobId::from_random([2; 16]);
                answers.deliver(&id(1), 1, Part::Blob { blob });
            } else {
                answers.deliver(&id(1), 1, data("b"));
            }
            answers.deliver(&id(1), 2, Part::End);
            while parts.next().await != Ok(Part::End) {}
            drop(parts);
            let done = FrontendMessage::Done { answer: id(1) };
            assert_eq!(sent.try_recv().ok(), blobs.then_some(done));
            assert_eq!(answers.resumes(), vec![]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_come_is_asked_for_again() {
        let (answers, mut sent) = answers();
        let mut parts = answers.claim(id(1), vec![data("a")]);
        parts.next().await.unwrap();
        answers.deliver(&id(1), 2, data("c"));
        let begin = tokio::time::Instant::now();
        let waiting = tokio::spawn(async move {
            let part = parts.next().await;
            (part, parts)
        });
        let resume = sent.recv().await;
        let from_1 = FrontendMessage::Resume {
            answer: id(1),
            from: 1,
        };
        assert_eq!(resume, Some(from_1.clone()));
        assert!(begin.elapsed() < Duration::from_secs(1));
        assert_eq!(answers.resumes(), vec![from_1]);
        answers.deliver(&id(1), 1, data("b"));
        let (part, mut parts) = waiting.await.unwrap();
        assert_eq!(part, Ok(data("b")));
        assert_eq!(parts.next().await, Ok(data("c")));
        let waiting = tokio::spawn(async move { parts.next().await });
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            let begin = tokio::time::Instant::now();
            assert!(matches!(
                sent.recv().await,
                Some(FrontendMessage::Resume { from: 3, .. })
            ));
            assert_eq!(begin.elapsed().as_secs(), expected);
        }
        answers.lost(&id(1));
        assert_eq!(waiting.await.unwrap(), Err(AnswerLost));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_client_does_not_fill_the_memory() {
        let (answers, mut sent) = answers();
        let mut parts = answers.claim(id(1), vec![]);
        let part = Part::Data {
            data: vec![0; 64 * 1024].into(),
        };
        let count = 200;
        for seq in 0..count {
            answers.deliver(&id(1), seq, part.clone());
        }
        assert!(lock(&parts.inbox.state).bytes <= WINDOW_BYTES + 2 * size(&part));
        let again = part.clone();
        let resender = tokio::spawn(async move {
            while let Some(FrontendMessage::Resume { answer, from }) = sent.recv().await {
                for seq in from..count {
                    answers.deliver(&answer, seq, again.clone());
                }
            }
        });
        for _ in 0..count {
            assert_eq!(parts.next().await, Ok(part.clone()));
        }
        drop(parts);
        resender.await.unwrap();
    }

    #[tokio::test]
    async fn answers_that_nobody_claims_are_forgotten() {
        let (answers, _sent) = answers();
        for n in 0..=255 {
            answers.deliver(&id(n), 0, Part::End);
        }
        assert_eq!(lock(&answers.state).live.len(), MAX_UNCLAIMED);
        assert_eq!(answers.resumes(), vec![]);
        assert_eq!(answers.claim(id(255), vec![]).next().await, Ok(Part::End));
    }
}
