//! Prompts that are translated into tokens, off their way: one at a time, by a server that has little to do.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pingora::connectors::http::Connector;
use pingora::{ErrorType, OrErr, Result};
use serde::Deserialize;
use tokio::sync::Notify;

use super::super::blocks::Blocks;
use super::super::question::{Question, Wanted};
use super::super::request::{Prompt, Request};
use super::Exact;

/// Prompts that may wait, each of this many bytes at most: 4 MiB in all. Others are left to the estimate.
const WAITING: usize = 16;
const LONGEST: usize = 256 << 10;
/// From one question to the next at least this long; and no longer at work than at rest, so that asking never takes
/// more than half of a server's tokenizer.
const REST: Duration = Duration::from_millis(20);
/// How long a server may take to answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// The longest answer read.
const LONGEST_ANSWER: usize = 4 << 20;
/// How long after a question that failed.
const AGAIN: Duration = Duration::from_secs(1);

/// The prompts that wait.
#[derive(Default)]
pub struct Lessons {
    waiting: Mutex<VecDeque<Lesson>>,
    bell: Notify,
}

struct Lesson {
    blocks: Blocks,
    /// Bytes of the prompt.
    length: usize,
    /// The provider's name of the model.
    model: String,
    question: Vec<u8>,
}

#[derive(Deserialize)]
struct Answer {
    tokens: Vec<u32>,
}

impl Exact {
    /// Has a prompt learned, when there is room for it.
    pub fn offer(&self, request: &dyn Request, prompt: &Prompt, blocks: &Blocks) {
        // What has a salt is told without it, and cannot be told from what has none.
        let known = blocks.hashes().is_empty() || !prompt.salt.is_empty();
        if known || !self.caches.are_told() || !self.lessons.have_room() {
            return;
        }
        let Some(question) = request.tokens_question(LONGEST) else { return };
        let length = prompt.parts.iter().map(|part| part.len()).sum();
        let (blocks, model) = (blocks.clone(), prompt.model.to_owned());
        self.lessons.add(Lesson { blocks, length, model, question });
    }
}

impl Lessons {
    fn have_room(&self) -> bool {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).len() < WAITING
    }

    fn add(&self, lesson: Lesson) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < WAITING {
            waiting.push_back(lesson);
            self.bell.notify_one();
        }
    }

    async fn next(&self) -> Lesson {
        loop {
            let next = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            match next {
                Some(lesson) => return lesson,
                None => self.bell.notified().await,
            }
        }
    }
}

/// Has prompts translated by `ask`, which says how to ask one of the servers, for ever. `is_adapter` tells the names of
/// `LoRA` adapters among models.
pub async fn learn(
    exact: &Exact,
    ask: impl Fn() -> Option<Question>,
    is_adapter: impl Fn(&str) -> bool,
) {
    let connector = Connector::new(None);
    loop {
        let lesson = exact.lessons.next().await;
        if exact.caches.know(&lesson.blocks) {
            continue;
        }
        let began = Instant::now();
        let Some(question) = ask() else { continue };
        let body = Bytes::from(lesson.question);
        let pause = match translate(&connector, &question, body).await {
            Ok(tokens) => {
                let adapter = is_adapter(&lesson.model).then_some(lesson.model.as_str());
                exact.caches.learn(&lesson.blocks, lesson.length, adapter, &tokens);
                REST.max(began.elapsed())
            }
            Err(error) => {
                log::debug!("a prompt was not translated into tokens: {error}");
                AGAIN
            }
        };
        tokio::time::sleep(pause).await;
    }
}

async fn translate(connector: &Connector, question: &Question, body: Bytes) -> Result<Vec<u32>> {
    let wanted = Wanted { accept: "application/json", patience: DEADLINE, longest: LONGEST_ANSWER };
    let asked = question.ask_with(connector, wanted, body);
    let (session, answer) = tokio::time::timeout(DEADLINE, asked)
        .await
        .or_err(ErrorType::ReadTimedout, "telling tokens took too long")??;
    connector.release_http_session(session, &question.peer, Some(Duration::from_secs(3))).await;
    let answer: serde_json::Result<Answer> = serde_json::from_slice(&answer);
    Ok(answer.or_err(ErrorType::InvalidHTTPHeader, "tokens that are none")?.tokens)
}
