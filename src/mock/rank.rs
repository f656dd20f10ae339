//! Rerank, score and classify: a document scores by the share of the query's words it holds.

use serde_json::{Value, json};

use super::ask::{Ask, Outcome, text_of, tokens_of};
use super::reply::Reply;

/// `POST /v1/rerank` and `/rerank`: the documents, best first.
pub fn rerank(ask: &Ask) -> Outcome {
    let query = text_of(ask.require("query")?);
    let documents = texts(ask.require("documents")?);
    let mut ranked: Vec<(usize, &String, f64)> = documents
        .iter()
        .enumerate()
        .map(|(index, document)| (index, document, likeness(&query, document)))
        .collect();
    ranked.sort_by(|one, other| other.2.total_cmp(&one.2));
    ranked.truncate(ask.count("top_n").filter(|count| *count > 0).unwrap_or(usize::MAX));
    let result = |(index, document, score): &(usize, &String, f64)| {
        json!({"index": index,
            "document": {"text": document}, "relevance_score": score})
    };
    let results: Vec<Value> = ranked.iter().map(result).collect();
    let usage = usage(std::iter::once(&query).chain(&documents));
    Ok(Reply::json(
        &json!({"id": ask.id("score-"), "model": ask.model, "usage": usage, "results": results}),
    ))
}

/// `POST /v1/score` and `/score`: one text against several, or pair by pair.
pub fn score(ask: &Ask) -> Outcome {
    let one = member(ask, ["text_1", "queries", "data_1"])?;
    let other = member(ask, ["text_2", "documents", "data_2"])?;
    if one.len() != 1 && one.len() != other.len() {
        return Err(Reply::bad_request(
            "text_1 must be one text, or as many as text_2",
            Some("text_1"),
        ));
    }
    let scores = one.iter().cycle().zip(&other).map(|(one, other)| likeness(one, other));
    let item = |(index, score)| json!({"index": index, "object": "score", "score": score});
    let data: Vec<Value> = scores.enumerate().map(item).collect();
    let usage = usage(one.iter().chain(&other));
    Ok(Reply::json(
        &json!({"id": ask.id("score-"), "object": "list", "created": ask.now, "model": ask.model,
        "data": data, "usage": usage}),
    ))
}

/// `POST /classify`: two classes, told apart by the length of the text.
pub fn classify(ask: &Ask) -> Outcome {
    let inputs = texts(ask.require("input")?);
    let item = |(index, text): (usize, &String)| {
        let (label, probabilities) =
            if tokens_of(text) > 8 { ("LONG", [0.1, 0.9]) } else { ("SHORT", [0.9, 0.1]) };
        json!({"index": index, "label": label, "probs": probabilities, "num_classes": 2})
    };
    let data: Vec<Value> = inputs.iter().enumerate().map(item).collect();
    Ok(Reply::json(&json!({"id": ask.id("classify-"), "object": "list", "created": ask.now,
        "model": ask.model, "data": data, "usage": usage(inputs.iter())})))
}

fn member(ask: &Ask, names: [&str; 3]) -> Result<Vec<String>, Reply> {
    let found = names.iter().find_map(|name| ask.member(name));
    let [first, ..] = names;
    found.map(texts).filter(|texts| !texts.is_empty()).ok_or_else(|| Reply::missing(first))
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().map(text_of).collect(),
        one => vec![text_of(one)],
    }
}

fn usage<'a>(texts: impl Iterator<Item = &'a String>) -> Value {
    let tokens: usize = texts.map(|text| tokens_of(text)).sum();
    json!({"prompt_tokens": tokens, "total_tokens": tokens})
}

fn likeness(query: &str, document: &str) -> f64 {
    let document = document.to_lowercase();
    let query = query.to_lowercase();
    let (mut all, mut found) = (0_u32, 0_u32);
    for word in query.split_whitespace() {
        all += 1;
        found += u32::from(document.split_whitespace().any(|other| other == word));
    }
    f64::from(found) / f64::from(all.max(1))
}

#[cfg(test)]
mod tests {
    use super::super::ask::tests::ask;
    use super::*;

    #[test]
    fn the_likest_document_comes_first() {
        let documents = json!(["lazy dog", {"text": "weather in Paris"}, "Paris"]);
        let body = json!({"query": "weather in Paris", "documents": documents, "top_n": 2});
        let results = serve_rerank(body);
        let order: Vec<u64> =
            results.iter().map(|result| result["index"].as_u64().unwrap()).collect();
        assert_eq!(order, [1, 2]);
    }

    fn serve_rerank(body: Value) -> Vec<Value> {
        rerank(&ask(body)).unwrap().value()["results"].as_array().unwrap().clone()
    }

    #[test]
    fn one_text_is_scored_against_several() {
        let body = score(&ask(json!({"text_1": "a b", "text_2": ["a", "c"]}))).unwrap().value();
        assert_eq!(
            (&body["data"][0]["score"], &body["data"][1]["score"]),
            (&json!(0.5), &json!(0.0))
        );
        let uneven = json!({"text_1": ["a", "b"], "text_2": ["a", "b", "c"]});
        assert_eq!(score(&ask(uneven)).unwrap_err().status, 400);
    }

    #[test]
    fn texts_are_classified() {
        let body =
            classify(&ask(json!({"input": ["short", "a b c d e f g h i"]}))).unwrap().value();
        assert_eq!(
            (&body["data"][0]["label"], &body["data"][1]["label"]),
            (&json!("SHORT"), &json!("LONG"))
        );
    }
}
