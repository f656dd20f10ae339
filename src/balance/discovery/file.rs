//! Replicas in a file, which is read again when it changes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

use crate::config::{Endpoint, Problem, Stamp, read_endpoints, read_text};

/// How often the file is looked at: what it looks like from outside, not what it says.
const LOOK: Duration = Duration::from_secs(1);
/// Mistakes told at once.
const TOLD: usize = 3;

/// Reads the file.
pub async fn read(path: &Path) -> Result<Vec<Endpoint>, String> {
    let path = path.to_owned();
    let reading = move || {
        let text = read_text(&path).map_err(|error| error.to_string())?;
        read_endpoints(&text).map_err(|problems| told(&path, &problems))
    };
    let read = tokio::task::spawn_blocking(reading).await;
    read.unwrap_or_else(|_| Err("it cannot be read: a bug".to_owned()))
}

fn told(path: &Path, problems: &[Problem]) -> String {
    let one =
        |problem: &Problem| format!("{}:{}: {}", path.display(), problem.location, problem.message);
    problems.iter().take(TOLD).map(one).collect::<Vec<_>>().join("; ")
}

/// Tells of each change, for ever. A file that still changes is being written.
pub async fn watch(path: &Path, changed: &Notify) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first look tells too: the file was read a moment ago, and may be another one by now.
    let (mut told, mut seen) = (Stamp::default(), None);
    loop {
        look.tick().await;
        let now = stamp(path.to_owned()).await;
        if now != told && Some(&now) == seen.as_ref() {
            changed.notify_one();
            told = now.clone();
        }
        seen = Some(now);
    }
}

async fn stamp(path: PathBuf) -> Stamp {
    tokio::task::spawn_blocking(|| Stamp::of([path])).await.unwrap_or_default()
}
