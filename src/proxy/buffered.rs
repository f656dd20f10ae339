//! What all requests together hold in memory of their bodies: counted, and bounded.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prometheus::{IntCounter, IntGauge};
use tokio::time::Instant;

use super::refusal::Refusal;
use crate::telemetry::Metrics;

/// How long a declared length counts as if all of it were there. Who is late by then keeps nobody
/// else out.
const CLAIM: Duration = Duration::from_secs(2);

/// One request's part of what is held. It gives back what it took when it is dropped, also by a
/// panic.
pub struct Share {
    held: IntGauge,
    shed: IntCounter,
    limit: u64,
    /// What has arrived, or was declared.
    taken: i64,
    arrived: i64,
    claimed: Instant,
}

/// An answer that is kept until it is whole, and counted while it is.
#[derive(Default)]
pub struct Kept {
    bytes: BytesMut,
    share: Option<Share>,
}

/// Bytes that are counted for as long as any part of them is kept.
struct Counted {
    bytes: Bytes,
    _share: Share,
}

impl Share {
    /// Claims what is declared, or refuses it at once: what is not read costs nothing, and many who
    /// begin together would fill the memory with bodies of which none gets whole.
    pub fn begin(metrics: &Metrics, limit: u64, length: Option<u64>) -> Result<Self, Refusal> {
        let (held, shed) = (metrics.buffered.clone(), metrics.shed.clone());
        let claimed = Instant::now();
        let mut share = Self { held, shed, limit, taken: 0, arrived: 0, claimed };
        share.grow(i64::try_from(length.unwrap_or(0)).unwrap_or(i64::MAX))?;
        Ok(share)
    }

    /// Counts bytes that have arrived.
    pub fn take(&mut self, bytes: usize) -> Result<(), Refusal> {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.arrived = self.arrived.saturating_add(bytes);
        self.grow(self.arrived)
    }

    /// Until when a claim holds that is not kept yet.
    pub fn claim(&self) -> Option<Instant> {
        (self.taken > self.arrived).then(|| self.claimed + CLAIM)
    }

    /// Gives back what was declared and has not come.
    pub fn waive(&mut self) {
        self.held.sub(self.taken.saturating_sub(self.arrived));
        self.taken = self.arrived;
    }

    /// `bytes`, which hold this share from now on.
    pub fn keep(mut self, bytes: Bytes) -> Bytes {
        self.waive();
        if bytes.is_empty() {
            return bytes;
        }
        Bytes::from_owner(Counted { bytes, _share: self })
    }

    fn grow(&mut self, to: i64) -> Result<(), Refusal> {
        let more = to.saturating_sub(self.taken);
        if more <= 0 {
            return Ok(());
        }
        // First taken, then looked at: of two that come at once, not both may fit.
        self.held.add(more);
        if u64::try_from(self.held.get()).is_ok_and(|held| held <= self.limit) {
            self.taken = to;
            return Ok(());
        }
        self.held.sub(more);
        self.shed.inc();
        Err(Refusal::overloaded())
    }
}

/// A body that was written here, counted for as long as any part of it is kept.
pub fn count(metrics: &Metrics, limit: u64, written: Bytes) -> Result<Bytes, Refusal> {
    let mut share = Share::begin(metrics, limit, None)?;
    share.take(written.len())?;
    Ok(share.keep(written))
}

impl Kept {
    /// Keeps a chunk; false when that would be more than `most`.
    pub fn push(
        &mut self,
        metrics: &Metrics,
        limit: u64,
        chunk: &Bytes,
        most: usize,
    ) -> Result<bool, Refusal> {
        if self.bytes.len().saturating_add(chunk.len()) > most {
            return Ok(false);
        }
        let share = match &mut self.share {
            Some(share) => share,
            none => none.insert(Share::begin(metrics, limit, None)?),
        };
        share.take(chunk.len())?;
        self.bytes.extend_from_slice(chunk);
        Ok(true)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What was kept. It is on its way out, and counts no longer.
    pub fn take(&mut self) -> BytesMut {
        self.share = None;
        std::mem::take(&mut self.bytes)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.held.sub(self.taken);
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_given_back_with_its_last_part() {
        let metrics = Metrics::new().unwrap();
        let mut share = Share::begin(&metrics, 100, Some(60)).unwrap();
        assert_eq!(metrics.buffered.get(), 60, "what is declared is claimed");
        share.take(60).unwrap();
        assert!(share.claim().is_none() && metrics.buffered.get() == 60);
        let whole = share.keep(Bytes::from(vec![b'x'; 60]));
        let part = whole.slice(50..);
        drop(whole);
        assert_eq!(metrics.buffered.get(), 60, "a slice keeps all of it");
        drop(part);
        assert_eq!(metrics.buffered.get(), 0);
    }

    #[test]
    fn what_does_not_fit_is_shed() {
        let metrics = Metrics::new().unwrap();
        let mut first = Share::begin(&metrics, 100, None).unwrap();
        first.take(80).unwrap();
        assert_eq!(Share::begin(&metrics, 100, Some(21)).err().map(|r| r.status), Some(503));
        let mut second = Share::begin(&metrics, 100, Some(15)).unwrap();
        assert_eq!(second.take(21).err().map(|r| r.code), Some("overloaded"));
        assert_eq!(metrics.shed.get(), 2);
        drop(first);
        assert_eq!(metrics.buffered.get(), 15);
    }

    #[test]
    fn a_claim_that_is_not_kept_is_given_back() {
        let metrics = Metrics::new().unwrap();
        let mut slow = Share::begin(&metrics, 100, Some(100)).unwrap();
        slow.take(1).unwrap();
        assert!(slow.claim().is_some());
        assert!(Share::begin(&metrics, 100, Some(50)).is_err());
        slow.waive();
        assert!(slow.claim().is_none() && metrics.buffered.get() == 1);
        let _other = Share::begin(&metrics, 100, Some(50)).unwrap();
        slow.take(49).unwrap();
        assert!(slow.take(1).is_err(), "who was late has no claim any more");
    }

    #[test]
    fn an_answer_counts_until_it_is_whole() {
        let metrics = Metrics::new().unwrap();
        let mut kept = Kept::default();
        let chunk = Bytes::from(vec![b'x'; 40]);
        assert_eq!(kept.push(&metrics, 100, &chunk, 90).ok(), Some(true));
        assert_eq!(kept.push(&metrics, 100, &chunk, 90).ok(), Some(true));
        assert_eq!(kept.push(&metrics, 100, &chunk, 90).ok(), Some(false), "too long");
        assert_eq!(metrics.buffered.get(), 80);
        assert!(count(&metrics, 100, chunk.clone()).is_err());
        assert_eq!(kept.take().len(), 80);
        assert_eq!(metrics.buffered.get(), 0);
        let written = count(&metrics, 100, chunk).unwrap();
        assert_eq!((written.len(), metrics.buffered.get()), (40, 40));
    }

    #[test]
    fn a_panic_gives_everything_back() {
        let metrics = Metrics::new().unwrap();
        let fail = || {
            let mut share = Share::begin(&metrics, 100, None).unwrap();
            share.take(80).unwrap();
            let _bytes = share.keep(Bytes::from(vec![b'x'; 80]));
            panic!("on purpose");
        };
        let held = std::panic::catch_unwind(std::panic::AssertUnwindSafe(fail));
        assert!(held.is_err());
        assert_eq!(metrics.buffered.get(), 0);
    }
}
