//! `/v1/batches`: every batch is done as soon as it is made.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::ask::{Ask, Outcome};
use super::chat::add;
use super::reply::{Reply, list};

/// More batches than this push out the oldest.
const BATCHES: usize = 256;

/// The batches there are, oldest first.
#[derive(Debug, Default)]
pub struct Batches(VecDeque<Value>);

impl Batches {
    /// Makes one.
    pub fn create(&mut self, ask: &Ask) -> Outcome {
        let input = ask.require("input_file_id")?;
        let endpoint = ask.require("endpoint")?;
        let window = ask.text("completion_window").unwrap_or("24h");
        let batch = json!({"id": ask.id("batch_"), "object": "batch", "endpoint": endpoint,
            "input_file_id": input,
            "completion_window": window, "status": "completed", "created_at": ask.now,
            "completed_at": ask.now,
            "output_file_id": null, "error_file_id": null, "metadata": ask.member("metadata"),
            "request_counts": {"total": 0, "completed": 0, "failed": 0}});
        self.0.push_back(batch.clone());
        if self.0.len() > BATCHES {
            self.0.pop_front();
        }
        Ok(Reply::json(&batch))
    }

    /// Lists them, newest first.
    pub fn all(&self) -> Reply {
        Reply::json(&list(&self.0.iter().rev().cloned().collect::<Vec<_>>()))
    }

    /// Shows one.
    pub fn one(&self, id: &str) -> Outcome {
        let found = self.0.iter().find(|batch| batch.get("id").is_some_and(|known| known == id));
        found.map(Reply::json).ok_or_else(|| Reply::no_such("batch", id))
    }

    /// Cancels one.
    pub fn cancel(&mut self, ask: &Ask, id: &str) -> Outcome {
        let found =
            self.0.iter_mut().find(|batch| batch.get("id").is_some_and(|known| known == id));
        let batch = found.ok_or_else(|| Reply::no_such("batch", id))?;
        add(batch, "status", json!("cancelled"));
        add(batch, "cancelled_at", json!(ask.now));
        Ok(Reply::json(batch))
    }
}

#[cfg(test)]
mod tests {
    use super::super::ask::tests::ask;
    use super::*;

    #[test]
    fn a_batch_is_made_shown_and_cancelled() {
        let mut batches = Batches::default();
        let body = ask(json!({"input_file_id": "file-1", "endpoint": "/v1/chat/completions"}));
        let made = batches.create(&body).unwrap().value();
        let id = made["id"].as_str().unwrap();
        assert_eq!(batches.one(id).unwrap().value(), made);
        assert_eq!(batches.cancel(&body, id).unwrap().value()["status"], "cancelled");
        assert_eq!(batches.all().value()["data"].as_array().unwrap().len(), 1);
        assert_eq!(batches.one("batch_0").unwrap_err().status, 404);
    }
}
