//! What a replica serves, and whether it takes its whole share yet.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

/// A whole share, in thousandths.
const WHOLE: u32 = 1000;
/// The share a replica begins with: enough to fill its first batch, not enough to bury it.
const FIRST: u32 = 100;

/// What one replica serves, and how much of its share it is given.
#[derive(Debug)]
pub struct Serving {
    /// Found after others, and not yet known to serve.
    joining: AtomicBool,
    /// It has passed a check of its health.
    checked: AtomicBool,
    /// It has answered which models it has, or that it does not tell.
    asked: AtomicBool,
    /// When it was let in after others.
    joined: OnceLock<Instant>,
    /// In thousandths.
    share: AtomicU32,
    /// The models it said it has; `None`: it has not said.
    models: ArcSwapOption<BTreeSet<Box<str>>>,
}

impl Default for Serving {
    fn default() -> Self {
        Self {
            joining: AtomicBool::new(false),
            checked: AtomicBool::new(false),
            asked: AtomicBool::new(false),
            joined: OnceLock::new(),
            share: AtomicU32::new(WHOLE),
            models: ArcSwapOption::empty(),
        }
    }
}

impl Serving {
    /// It was found after others: it takes no requests until it is known to serve.
    pub fn begin_to_join(&self) {
        self.joining.store(true, Relaxed);
    }

    pub fn is_joining(&self) -> bool {
        self.joining.load(Relaxed)
    }

    pub fn note_check(&self) {
        if !self.checked.load(Relaxed) {
            self.checked.store(true, Relaxed);
        }
    }

    /// Whether it is known to serve, by what is asked of it.
    pub fn is_known(&self, checks: bool, models: bool) -> bool {
        (!checks || self.checked.load(Relaxed)) && (!models || self.asked.load(Relaxed))
    }

    /// It serves: it is let in, with a share that grows over `slow_start`.
    pub fn join(&self, slow_start: Duration) {
        let _first = self.joined.set(Instant::now());
        self.ramp(slow_start);
        self.joining.store(false, Relaxed);
    }

    /// Gives it the share that is due by now; whether it is a part only.
    pub fn ramp(&self, slow_start: Duration) -> bool {
        if self.share.load(Relaxed) == WHOLE && self.joined.get().is_none() {
            return false;
        }
        let past = self.joined.get().map_or(Duration::MAX, Instant::elapsed);
        let share = share(past, slow_start);
        self.share.store(share, Relaxed);
        share < WHOLE
    }

    /// The part of its share it is given, above 0 up to 1.
    pub fn share(&self) -> f64 {
        f64::from(self.share.load(Relaxed)) / f64::from(WHOLE)
    }

    /// Takes note of the models it says it has. `None`: it does not say.
    pub fn note_models(&self, models: Option<BTreeSet<Box<str>>>) {
        self.models.store(models.map(Arc::new));
        self.asked.store(true, Relaxed);
    }

    pub fn models(&self) -> Option<Arc<BTreeSet<Box<str>>>> {
        self.models.load_full()
    }

    /// Whether it has this model; `None`: it has not said.
    pub fn has(&self, model: &str) -> Option<bool> {
        self.models.load().as_deref().map(|models| models.contains(model))
    }
}

fn share(past: Duration, slow_start: Duration) -> u32 {
    if past >= slow_start {
        return WHOLE;
    }
    let due = past.as_millis().saturating_mul(u128::from(WHOLE)) / slow_start.as_millis().max(1);
    u32::try_from(due).unwrap_or(WHOLE).clamp(FIRST, WHOLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_grows_with_time() {
        let whole = Duration::from_secs(30);
        for (past, expected) in [(0, 100), (1500, 100), (6000, 200), (15_000, 500), (30_000, 1000)]
        {
            assert_eq!(share(Duration::from_millis(past), whole), expected, "{past}");
        }
        assert_eq!(share(Duration::ZERO, Duration::ZERO), 1000);
    }

    #[test]
    fn whoever_was_there_from_the_start_has_all_of_its_share() {
        let serving = Serving::default();
        assert!(!serving.ramp(Duration::from_secs(30)));
        assert!((serving.share() - 1.0).abs() < f64::EPSILON);
        serving.begin_to_join();
        assert!(!serving.is_known(true, false) && !serving.is_known(false, true));
        serving.note_check();
        serving.note_models(None);
        assert!(serving.is_known(true, true));
        serving.join(Duration::from_secs(30));
        assert!(serving.ramp(Duration::from_secs(30)) && !serving.is_joining());
        assert!((serving.share() - 0.1).abs() < f64::EPSILON);
    }

    #[test]
    fn only_a_list_says_what_is_not_served() {
        let serving = Serving::default();
        assert_eq!(serving.has("a"), None);
        serving.note_models(Some(BTreeSet::from(["a".into()])));
        assert_eq!((serving.has("a"), serving.has("b")), (Some(true), Some(false)));
        serving.note_models(None);
        assert_eq!(serving.has("b"), None);
    }
}
