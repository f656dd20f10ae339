//! Responses whose providers do not keep them: kept here for a while, so that a caller can go on from
//! one. In memory only, bounded by bytes and by time.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::protocol::canonical::Json;
use crate::protocol::json;

/// What one response takes beside its texts, in bytes, rather more than less.
const OVERHEAD: usize = 512;
/// … and for each text of its conversation.
const LINK: usize = 16;

/// The responses that are kept, each its maker's alone.
#[derive(Debug, Default)]
pub struct History {
    table: Mutex<Table>,
    held: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct Table {
    /// Of two makers with the same id each has their own.
    by_id: HashMap<Arc<str>, Vec<Arc<Kept>>>,
    in_order: VecDeque<Arc<Kept>>,
}

/// One response, and the conversation up to it.
#[derive(Debug)]
pub struct Kept {
    id: Arc<str>,
    owner: Arc<str>,
    /// Unix milliseconds.
    made_at: i64,
    /// Lists of items, one behind the other: the last two are the call's own and its answer's. Those
    /// before belong to the responses it goes on from as well.
    items: Vec<Arc<Piece>>,
    /// The response as its caller got it, without the value of `output`, which belongs at `place`.
    envelope: Box<str>,
    place: usize,
    _share: Share,
}

/// A list of items: a JSON array.
#[derive(Debug)]
struct Piece {
    items: Json,
    _share: Share,
}

/// Bytes that are held, until dropped.
#[derive(Debug)]
struct Share {
    bytes: usize,
    held: Arc<AtomicUsize>,
}

/// What became of a question for a response.
#[derive(Debug)]
pub enum Found {
    Kept(Arc<Kept>),
    /// It is somebody else's.
    Others,
    Unknown,
}

/// A response that is being made, and is to be kept.
#[derive(Debug)]
pub struct Draft {
    history: Arc<History>,
    owner: Arc<str>,
    items: Vec<Arc<Piece>>,
    most: usize,
}

// === impl History ===

impl History {
    /// Looks for a response of `owner`'s that was made since then, in Unix milliseconds.
    pub fn find(&self, owner: &str, id: &str, since: i64) -> Found {
        let table = self.lock();
        let mut alive = table.by_id.get(id).into_iter().flatten().filter(|it| it.made_at >= since);
        let Some(first) = alive.clone().next() else { return Found::Unknown };
        let own =
            if *first.owner == *owner { Some(first) } else { alive.find(|it| *it.owner == *owner) };
        own.map_or(Found::Others, |kept| Found::Kept(Arc::clone(kept)))
    }

    /// Begins a response of `owner`'s to a call with these items of its own, `input`, that goes on from
    /// `earlier`. `most`: bytes that all responses may take together. `None`: it is too large to be
    /// kept.
    pub fn draft(
        self: &Arc<Self>,
        owner: &Arc<str>,
        earlier: Option<&Kept>,
        input: Json,
        most: u64,
    ) -> Option<Draft> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        // What would not fit alone pushes nothing out.
        if input.get().len() > most {
            return None;
        }
        let mut items = earlier.map(|kept| kept.items.clone()).unwrap_or_default();
        items.push(self.piece(input));
        self.fit(most);
        let fits = self.held.load(Relaxed) <= most;
        fits.then(|| Draft { history: Arc::clone(self), owner: Arc::clone(owner), items, most })
    }

    /// Removes a response. `false`: there was none.
    pub fn forget(&self, kept: &Arc<Kept>) -> bool {
        self.lock().remove(kept)
    }

    /// Removes what was made before then, in Unix milliseconds.
    pub fn sweep(&self, since: i64) {
        let mut gone = Vec::new();
        let mut table = self.lock();
        while table.in_order.front().is_some_and(|oldest| oldest.made_at < since) {
            gone.extend(table.pop());
        }
        drop(table);
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        self.held.load(Relaxed)
    }

    fn piece(&self, items: Json) -> Arc<Piece> {
        let share = self.share(items.get().len());
        Arc::new(Piece { items, _share: share })
    }

    fn share(&self, bytes: usize) -> Share {
        self.held.fetch_add(bytes, Relaxed);
        Share { bytes, held: Arc::clone(&self.held) }
    }

    /// Removes the oldest until what is left takes so many bytes at most.
    fn fit(&self, most: usize) {
        while self.held.load(Relaxed) > most {
            let oldest = self.lock().pop();
            if oldest.is_none() {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn pop(&mut self) -> Option<Arc<Kept>> {
        let oldest = self.in_order.pop_front()?;
        self.unlist(&oldest);
        Some(oldest)
    }

    fn put(&mut self, kept: Arc<Kept>) {
        let same = |other: &&Arc<Kept>| *other.owner == *kept.owner;
        let before = self.by_id.get(&kept.id).and_then(|all| all.iter().find(same)).cloned();
        if let Some(before) = before {
            self.remove(&before);
        }
        self.by_id.entry(Arc::clone(&kept.id)).or_default().push(Arc::clone(&kept));
        self.in_order.push_back(kept);
    }

    fn remove(&mut self, kept: &Arc<Kept>) -> bool {
        let before = self.in_order.len();
        self.in_order.retain(|other| !Arc::ptr_eq(other, kept));
        self.unlist(kept);
        self.in_order.len() < before
    }

    fn unlist(&mut self, kept: &Arc<Kept>) {
        let Some(all) = self.by_id.get_mut(&kept.id) else { return };
        all.retain(|other| !Arc::ptr_eq(other, kept));
        if all.is_empty() {
            self.by_id.remove(&kept.id);
        }
    }
}

// === impl Kept ===

impl Kept {
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The conversation up to and with this response: lists of items, one behind the other.
    pub fn conversation(&self) -> impl Iterator<Item = &RawValue> {
        self.items.iter().map(|piece| &*piece.items)
    }

    /// Bytes of the conversation.
    pub fn length(&self) -> usize {
        self.conversation().map(|items| items.get().len()).sum()
    }

    /// The items of the call itself: a JSON array.
    pub fn input(&self) -> &str {
        let own = self.items.len().checked_sub(2).and_then(|place| self.items.get(place));
        own.map_or("[]", |piece| piece.items.get())
    }

    /// The response as its caller got it.
    pub fn response(&self) -> Bytes {
        let (before, after) = self.envelope.split_at_checked(self.place).unwrap_or_default();
        let output = self.items.last().map_or("[]", |piece| piece.items.get());
        Bytes::from([before, output, after].concat())
    }
}

// === impl Draft ===

impl Draft {
    /// Keeps the response, as the caller gets it, at `now` in Unix milliseconds. What is no response is
    /// not kept.
    pub fn finish(mut self, response: &[u8], now: i64) -> Option<()> {
        let members = json::scan(response).ok()?;
        let id = members.string(response, "id").ok()??;
        let text = std::str::from_utf8(response).ok()?;
        let span = members.find("output")?.value.clone();
        let (before, after) = (text.get(..span.start)?, text.get(span.end..)?);
        let output = RawValue::from_string(text.get(span)?.to_owned()).ok()?;
        let envelope = [before, after].concat().into_boxed_str();
        let place = before.len();
        self.items.push(self.history.piece(output));
        let size = OVERHEAD + envelope.len() + id.len() + LINK * self.items.len();
        let kept = Arc::new(Kept {
            id: Arc::from(&*id),
            owner: self.owner,
            made_at: now,
            items: self.items,
            envelope,
            place,
            _share: self.history.share(size),
        });
        self.history.lock().put(kept);
        self.history.fit(self.most);
        Some(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = 1 << 20;

    fn items(text: &str) -> Json {
        RawValue::from_string(format!("[{text:?}]")).unwrap()
    }

    fn response(id: &str, said: &str) -> String {
        format!(r#"{{"id":"{id}","object":"response","output":["{said}"],"usage":null}}"#)
    }

    /// Keeps a response; what is found of it then.
    fn keep(history: &Arc<History>, owner: &str, id: &str, earlier: Option<&Kept>, most: u64) {
        let draft = history.draft(&Arc::from(owner), earlier, items("asked"), most);
        if let Some(draft) = draft {
            draft.finish(response(id, "said").as_bytes(), 1000).unwrap();
        }
    }

    fn kept(history: &History, owner: &str, id: &str) -> Option<Arc<Kept>> {
        match history.find(owner, id, 0) {
            Found::Kept(kept) => Some(kept),
            Found::Others | Found::Unknown => None,
        }
    }

    #[test]
    fn a_response_is_kept_as_it_was_told() {
        let history = Arc::new(History::default());
        keep(&history, "a", "resp_1", None, MOST);
        let first = kept(&history, "a", "resp_1").unwrap();
        assert_eq!(first.response(), response("resp_1", "said"));
        assert_eq!(first.input(), r#"["asked"]"#);
        keep(&history, "a", "resp_2", Some(&first), MOST);
        let second = kept(&history, "a", "resp_2").unwrap();
        let all: Vec<&str> = second.conversation().map(RawValue::get).collect();
        assert_eq!(all, [r#"["asked"]"#, r#"["said"]"#, r#"["asked"]"#, r#"["said"]"#]);
        assert_eq!(second.length(), all.iter().map(|list| list.len()).sum::<usize>());
    }

    #[test]
    fn a_response_is_its_makers_alone() {
        let history = Arc::new(History::default());
        keep(&history, "a", "resp_1", None, MOST);
        assert!(matches!(history.find("b", "resp_1", 0), Found::Others));
        assert!(matches!(history.find("b", "resp_2", 0), Found::Unknown));
        keep(&history, "b", "resp_1", None, MOST);
        for owner in ["a", "b"] {
            assert_eq!(&*kept(&history, owner, "resp_1").unwrap().owner, owner);
        }
    }

    #[test]
    fn what_is_over_is_unknown_and_swept() {
        let history = Arc::new(History::default());
        keep(&history, "a", "resp_1", None, MOST);
        assert!(matches!(history.find("a", "resp_1", 1001), Found::Unknown));
        history.sweep(1000);
        assert!(kept(&history, "a", "resp_1").is_some());
        history.sweep(1001);
        assert!(kept(&history, "a", "resp_1").is_none());
        assert_eq!(history.held(), 0);
    }

    #[test]
    fn what_is_deleted_is_gone() {
        let history = Arc::new(History::default());
        keep(&history, "a", "resp_1", None, MOST);
        let first = kept(&history, "a", "resp_1").unwrap();
        assert!(history.forget(&first) && !history.forget(&first));
        assert!(kept(&history, "a", "resp_1").is_none());
        drop(first);
        assert_eq!(history.held(), 0);
    }

    #[test]
    fn the_oldest_make_room() {
        let history = Arc::new(History::default());
        for number in 0..100 {
            keep(&history, "a", &format!("resp_{number}"), None, 10_000);
            assert!(history.held() <= 10_000);
        }
        assert!(kept(&history, "a", "resp_0").is_none());
        assert!(kept(&history, "a", "resp_99").is_some());
        let held = history.held();
        let huge = items(&"x".repeat(10_001));
        assert!(history.draft(&Arc::from("a"), None, huge, 10_000).is_none());
        assert_eq!(history.held(), held, "what does not fit pushes nothing out");
    }

    #[test]
    fn what_several_responses_share_counts_once_and_to_the_last() {
        let history = Arc::new(History::default());
        keep(&history, "a", "resp_0", None, MOST);
        for number in 1..50 {
            let before = kept(&history, "a", &format!("resp_{}", number - 1)).unwrap();
            keep(&history, "a", &format!("resp_{number}"), Some(&before), MOST);
        }
        let all = history.held();
        assert!(all < 50 * (OVERHEAD + 200 + 100 * LINK), "{all}");
        let last = kept(&history, "a", "resp_49").unwrap();
        history.sweep(i64::MAX);
        assert_eq!(last.conversation().count(), 100);
        assert!(history.held() > 0);
        drop(last);
        assert_eq!(history.held(), 0);
    }

    #[test]
    fn the_same_response_again_takes_the_earlier_ones_place() {
        let history = Arc::new(History::default());
        keep(&history, "a", "resp_1", None, MOST);
        let once = history.held();
        keep(&history, "a", "resp_1", None, MOST);
        assert_eq!(history.held(), once);
    }

    #[test]
    fn what_is_no_response_is_not_kept() {
        let history = Arc::new(History::default());
        for said in ["", "[]", r#"{"id":7,"output":[]}"#, r#"{"id":"resp_1"}"#] {
            let draft = history.draft(&Arc::from("a"), None, items("asked"), MOST).unwrap();
            assert_eq!(draft.finish(said.as_bytes(), 0), None);
        }
        assert_eq!(history.held(), 0);
    }
}
