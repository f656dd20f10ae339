//! `POST /v1/moderations`: a text is flagged when it holds the word "harmful".

use serde_json::{Map, Value, json};

use super::ask::{Ask, Outcome, text_of};
use super::reply::Reply;

const CATEGORIES: [&str; 13] = [
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
];

/// Answers with one verdict per input.
pub fn serve(ask: &Ask) -> Outcome {
    let input = ask.require("input")?;
    let results: Vec<Value> = match input {
        Value::Array(inputs) => inputs.iter().map(verdict).collect(),
        one => vec![verdict(one)],
    };
    Ok(Reply::json(&json!({"id": ask.id("modr-"), "model": ask.model, "results": results})))
}

fn verdict(input: &Value) -> Value {
    let flagged = text_of(input).to_lowercase().contains("harmful");
    let each = |value: &dyn Fn(&str) -> Value| -> Map<String, Value> {
        CATEGORIES.iter().map(|name| ((*name).to_owned(), value(name))).collect()
    };
    let hit = |name: &str| flagged && name == "violence";
    json!({
        "flagged": flagged,
        "categories": each(&|name| json!(hit(name))),
        "category_scores": each(&|name| json!(if hit(name) { 0.9 } else { 0.01 })),
        "category_applied_input_types": each(&|_| json!(["text"])),
    })
}

#[cfg(test)]
mod tests {
    use super::super::ask::tests::ask;
    use super::*;

    #[test]
    fn every_input_has_its_verdict() {
        let body = serve(&ask(json!({"input": ["nice", "harmful"]}))).unwrap().value();
        let flagged = |index: usize| body["results"][index]["flagged"].clone();
        assert_eq!((flagged(0), flagged(1)), (json!(false), json!(true)));
        assert_eq!(body["results"][1]["categories"]["violence"], true);
    }
}
