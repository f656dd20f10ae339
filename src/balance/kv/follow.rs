//! Listens to the servers of a pool, each on a connection of its own that is made again when it ends.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::super::replica::Replica;
use super::wire::Subscriber;
use super::{Exact, event};

/// How often it is looked which servers there are.
const LOOK: Duration = Duration::from_secs(1);
/// How soon a connection is tried again, at first and at last.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// A server that tells what it has cached.
pub struct Source {
    pub replica: Arc<Replica>,
    /// Where it publishes.
    pub address: SocketAddr,
}

/// Listens to each server of `sources`, for ever.
pub async fn follow(exact: &Arc<Exact>, topic: &str, sources: impl Fn() -> Vec<Source>) {
    let mut ears: HashMap<usize, JoinSet<()>> = HashMap::new();
    loop {
        let sources: HashMap<usize, Source> =
            sources().into_iter().map(|it| (Arc::as_ptr(&it.replica).addr(), it)).collect();
        // An ear holds its replica, so that no other one can have its place in memory.
        ears.retain(|replica, _| sources.contains_key(replica));
        for (replica, source) in sources {
            ears.entry(replica).or_insert_with(|| {
                let mut ear = JoinSet::new();
                let ear_of = Ear { exact: Arc::clone(exact), source, last: None };
                ear.spawn(ear_of.listen(topic.to_owned()));
                ear
            });
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What listens to one server.
struct Ear {
    exact: Arc<Exact>,
    source: Source,
    /// The number of the last message.
    last: Option<u64>,
}

impl Ear {
    async fn listen(mut self, topic: String) {
        let mut pause = AGAIN.0;
        loop {
            let before = self.last;
            let error = match Subscriber::connect(self.source.address, topic.as_bytes()).await {
                Ok(mut subscriber) => self.hear(&mut subscriber).await,
                Err(error) => error,
            };
            self.source.replica.hear(false);
            let at = self.source.address;
            if self.last == before {
                log::debug!("{at} does not tell what it has cached: {error}");
            } else {
                log::info!(
                    "{at} tells no more what it has cached, which is estimated now: {error}"
                );
                pause = AGAIN.0;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(AGAIN.1);
        }
    }

    /// Takes note of what comes, until it ends with an error.
    async fn hear(&mut self, subscriber: &mut Subscriber) -> io::Error {
        loop {
            let taken = match subscriber.next().await {
                Ok(message) => self.take(&message),
                Err(error) => return error,
            };
            if let Err(error) = taken {
                self.forget();
                return error;
            }
        }
    }

    /// A message is a topic, a number, and events.
    fn take(&mut self, message: &[Bytes]) -> io::Result<()> {
        let [_topic, number, events] = message else {
            return Err(io::Error::other("not a message of a KV cache"));
        };
        let number =
            number.as_ref().try_into().map(u64::from_be_bytes).map_err(io::Error::other)?;
        let events = event::read(events).map_err(io::Error::other)?;
        // A message was missed, or the server has begun anew.
        if self.last.is_some_and(|last| last.wrapping_add(1) != number) {
            self.forget();
        }
        self.last = Some(number);
        let replica = &self.source.replica;
        self.exact.caches.hear(replica, events).map_err(io::Error::other)?;
        if !replica.is_heard() {
            log::info!("{} tells what it has cached", self.source.address);
            replica.hear(true);
        }
        Ok(())
    }

    fn forget(&self) {
        self.exact.caches.forget(&self.source.replica);
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.source.replica.hear(false);
        self.forget();
    }
}
