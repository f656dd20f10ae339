//! What all requests together hold in memory of their bodies: counted, and bounded.

use bytes::Bytes;
use prometheus::{IntCounter, IntGauge};

use super::refusal::Refusal;
use crate::telemetry::Metrics;

/// One request's part of what is held. It gives back what it took when it is dropped, also by a
/// panic.
pub struct Share {
    held: IntGauge,
    shed: IntCounter,
    limit: u64,
    taken: i64,
}

/// Bytes that are counted for as long as any part of them is kept.
struct Counted {
    bytes: Bytes,
    _share: Share,
}

impl Share {
    /// Holds nothing yet. Refuses a body that is known not to fit: what is not read costs nothing.
    pub fn begin(metrics: &Metrics, limit: u64, length: Option<u64>) -> Result<Self, Refusal> {
        let (held, shed) = (metrics.buffered.clone(), metrics.shed.clone());
        let share = Self { held, shed, limit, taken: 0 };
        share.fit(length.unwrap_or(0))?;
        Ok(share)
    }

    /// Only bytes that have arrived are taken: who declares much and sends little keeps nobody out.
    pub fn take(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.fit(bytes as u64)?;
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.held.add(bytes);
        self.taken = self.taken.saturating_add(bytes);
        Ok(())
    }

    /// `bytes`, which hold this share from now on.
    pub fn keep(self, bytes: Bytes) -> Bytes {
        if bytes.is_empty() {
            return bytes;
        }
        Bytes::from_owner(Counted { bytes, _share: self })
    }

    fn fit(&self, bytes: u64) -> Result<(), Refusal> {
        let held = u64::try_from(self.held.get()).unwrap_or(0);
        if held.saturating_add(bytes) <= self.limit {
            return Ok(());
        }
        self.shed.inc();
        Err(Refusal::overloaded())
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
        assert_eq!(metrics.buffered.get(), 0, "a declared length is no claim");
        share.take(60).unwrap();
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
        let mut second = Share::begin(&metrics, 100, Some(20)).unwrap();
        assert_eq!(second.take(21).err().map(|r| r.code), Some("overloaded"));
        second.take(20).unwrap();
        assert_eq!(metrics.shed.get(), 2);
        drop(first);
        assert_eq!(metrics.buffered.get(), 20);
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
