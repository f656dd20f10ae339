//! Asks a pool's servers for their load, once a second, over connections that are kept.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use pingora::connectors::http::Connector;
use pingora::{ErrorType, OrErr, Result};

use super::question::{Question, Wanted};
use super::replica::Replica;
use super::report::Report;

/// How often servers are asked.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long one may take to answer, connection included.
const DEADLINE: Duration = Duration::from_millis(800);
/// How long a connection is kept; vLLM's server closes it after 5 s.
const KEPT: Duration = Duration::from_secs(3);
/// The longest answer read.
const LONGEST: usize = 4 << 20;

/// Asks each server as `questions` says, for ever. One that does not answer is not unhealthy for
/// that: what it said last ages, and counts no more.
pub async fn watch_loads(questions: impl Fn() -> Vec<(Arc<Replica>, Question)>) {
    let connector = Connector::new(None);
    let mut turns = tokio::time::interval(INTERVAL);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        let questions = questions();
        join_all(questions.iter().map(|(replica, question)| ask(&connector, replica, question)))
            .await;
    }
}

async fn ask(connector: &Connector, replica: &Replica, question: &Question) {
    let asked = async {
        fault!("balance::watch_load", |_| pingora::Error::e_explain(ErrorType::ReadError, "fault"));
        tokio::time::timeout(DEADLINE, get(connector, question))
            .await
            .or_err(ErrorType::ReadTimedout, "telling its load took too long")?
    };
    match asked.await {
        Ok(text) => replica.note_report(Report::read(&String::from_utf8_lossy(&text))),
        Err(error) => log::debug!("{} does not tell its load: {error}", replica.address),
    }
}

async fn get(connector: &Connector, question: &Question) -> Result<Vec<u8>> {
    let wanted = Wanted { accept: "text/plain", patience: DEADLINE, longest: LONGEST };
    let (session, body) = question.ask(connector, wanted).await?;
    connector.release_http_session(session, &question.peer, Some(KEPT)).await;
    Ok(body)
}
