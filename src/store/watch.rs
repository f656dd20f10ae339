//! Waiting for changes that others make.

use std::str::FromStr;
use std::time::Duration;

use sqlx::any::AnyConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{AnyConnection, ConnectOptions, Executor};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::connect::{Backend, within};
use super::records::{CHANNEL, revision};
use super::{Store, StoreError};

/// How often a file is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// However quiet it is, one looks again after this.
const LONGEST: Duration = Duration::from_secs(5);
/// How long a connection may take, and an answer on it.
const ANSWER: Duration = Duration::from_secs(2);
/// Between two attempts to connect.
const AGAIN: Duration = Duration::from_millis(500);

/// Tells when records may have changed.
pub struct Watch {
    store: Store,
    /// When to return though nothing was heard.
    due: Instant,
    ear: Ear,
}

/// How changes are heard of.
enum Ear {
    /// Not yet, or not any more.
    Deaf,
    Postgres(PgListener),
    File {
        on: AnyConnection,
        /// What SQLite counts up when another connection has written.
        version: i64,
        revision: i64,
    },
    /// The one connection there is.
    Memory {
        revision: i64,
    },
}

// === impl Store ===

impl Store {
    /// Begins to look out for changes. Connects when it is first asked.
    #[expect(clippy::unused_async, reason = "listening is work of the store's runtime")]
    pub async fn watch(&self) -> Watch {
        Watch { store: self.clone(), due: Instant::now() + LONGEST, ear: Ear::Deaf }
    }
}

// === impl Watch ===

impl Watch {
    /// Returns when records may have changed: at once when it has begun to listen, the first time
    /// and after its connection was lost; then within 250 ms of a change, and every 5 s. May be
    /// dropped and called again; nothing is missed.
    pub async fn changed(&mut self) {
        // A wait that was given up may have been the last before it was due.
        let due = self.due;
        match timeout_at(due, self.heard()).await {
            Ok(()) => {}
            Err(_) => self.prove().await,
        }
        self.due = Instant::now() + LONGEST;
    }

    async fn heard(&mut self) {
        loop {
            let heard = match &mut self.ear {
                Ear::Deaf => match within(ANSWER, listen(&self.store)).await {
                    Ok(ear) => {
                        self.ear = ear;
                        Ok(true)
                    }
                    Err(error) => Err(error),
                },
                Ear::Postgres(listener) => match listener.try_recv().await {
                    Ok(Some(_)) => {
                        // Many changes at once are one.
                        while listener.next_buffered().is_some() {}
                        Ok(true)
                    }
                    Ok(None) => Err(StoreError::Away("the connection has ended".into())),
                    Err(error) => Err(error.into()),
                },
                Ear::File { on, version, revision } => look(on, version, revision).await,
                Ear::Memory { revision } => match self.store.revision().await {
                    Ok(now) => Ok(std::mem::replace(revision, now) != now),
                    Err(error) => Err(error),
                },
            };
            match heard {
                Ok(true) => return,
                Ok(false) => sleep(LOOK).await,
                Err(error) => {
                    log::debug!("changes are not heard of: {error}");
                    self.ear = Ear::Deaf;
                    sleep(AGAIN).await;
                }
            }
        }
    }

    /// A connection whose other end is gone is as quiet as one on which nothing happens.
    async fn prove(&mut self) {
        if let Ear::Postgres(listener) = &mut self.ear
            && !matches!(timeout(ANSWER, listener.execute("SELECT 1")).await, Ok(Ok(_)))
        {
            self.ear = Ear::Deaf;
        }
    }
}

async fn listen(store: &Store) -> Result<Ear, StoreError> {
    let url = store.url().expose();
    match store.backend() {
        Backend::Postgres => {
            let options = PgConnectOptions::from_str(url)?;
            let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(ANSWER);
            let pool = pool.idle_timeout(None).max_lifetime(None).connect_lazy_with(options);
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.ignore_pool_close_event(true);
            // Told when the connection was lost, so that what was missed is asked for.
            listener.eager_reconnect(false);
            listener.listen(CHANNEL).await?;
            Ok(Ear::Postgres(listener))
        }
        Backend::File => {
            let options = AnyConnectOptions::from_str(url)?;
            let mut on = options.disable_statement_logging().connect().await?;
            let (mut version, mut revision) = (i64::MIN, i64::MIN);
            look(&mut on, &mut version, &mut revision).await?;
            Ok(Ear::File { on, version, revision })
        }
        Backend::Memory => Ok(Ear::Memory { revision: store.revision().await? }),
    }
}

/// Has the revision changed since the last look?
async fn look(
    on: &mut AnyConnection,
    version: &mut i64,
    known: &mut i64,
) -> Result<bool, StoreError> {
    // Costs a look at the shared index of the log, no page of the file.
    let written = sqlx::query_scalar("PRAGMA data_version").fetch_one(&mut *on).await?;
    if std::mem::replace(version, written) == written {
        return Ok(false);
    }
    let now = revision(on).await?;
    Ok(std::mem::replace(known, now) != now)
}
