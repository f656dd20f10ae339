//! What others ask of the keeper, and wait for.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use log::warn;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// How long anybody waits. What is owed after that is delivered by whoever owes it, or lost with it.
const PATIENCE: Duration = Duration::from_secs(2);
/// Orders that wait: those who ask wait for the answer, and are few.
const WAITING: usize = 4;

/// What the keeper is to do at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// A new process is about to serve beside this one: what it will ask the store for is to be
    /// there.
    HandOver,
    /// The process before this one has delivered what it owed: find out.
    TakeOver,
    /// This process ends.
    Leave,
}

/// How the keeper is reached.
pub struct Desk {
    orders: mpsc::Sender<(Order, oneshot::Sender<()>)>,
    waiting: Mutex<Option<Orders>>,
}

/// The keeper's side.
pub type Orders = mpsc::Receiver<(Order, oneshot::Sender<()>)>;

// === impl Desk ===

impl Desk {
    pub fn new() -> Self {
        let (orders, waiting) = mpsc::channel(WAITING);
        Self { orders, waiting: Mutex::new(Some(waiting)) }
    }

    /// Has something done; returns when it is, and after two seconds in any case.
    pub async fn ask(&self, order: Order) {
        let (done, told) = oneshot::channel();
        let asked = async {
            if self.orders.send((order, done)).await.is_ok() {
                let _done = told.await;
            }
        };
        if timeout(PATIENCE, asked).await.is_err() {
            warn!("what was counted is not all in the store: it did not answer in time");
        }
    }

    /// The orders, for the keeper; `None`: somebody has them.
    pub fn take(&self) -> Option<Orders> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let desk = Desk::new();
        let begun = tokio::time::Instant::now();
        desk.ask(Order::HandOver).await;
        assert_eq!(begun.elapsed(), PATIENCE);
        drop(desk.take());
        desk.ask(Order::Leave).await;
        assert_eq!(begun.elapsed(), PATIENCE, "an empty desk keeps nobody waiting");
    }

    #[tokio::test]
    async fn who_asks_waits_until_it_is_done() {
        let desk = Desk::new();
        let mut orders = desk.take().unwrap();
        let keeper = async {
            let (order, done) = orders.recv().await.unwrap();
            assert_eq!(order, Order::TakeOver);
            done.send(()).unwrap();
        };
        tokio::join!(desk.ask(Order::TakeOver), keeper);
        assert!(desk.take().is_none());
    }
}
