//! `POST /v1/completions`.

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{Answer, Finish, Question, answer};
use super::ask::{Ask, Outcome, tokens_of};
use super::chat::{add, check_temperature, choices, stops, usage};
use super::embeddings::inputs;
use super::reply::{DONE, Reply, event};

/// Answers a completion: each prompt, `n` times.
pub fn serve(ask: &Ask) -> Outcome {
    let prompts = inputs(ask.require("prompt")?, "prompt")?;
    check_temperature(ask)?;
    let choices = choices(ask)?;
    let limit = ask.count("max_tokens");
    let answers: Vec<Answer> = prompts
        .iter()
        .flat_map(|prompt| std::iter::repeat_n(prompt, choices))
        .map(|prompt| {
            let question =
                Question { prompt: prompt.clone(), limit, stop: stops(ask), ..Question::default() };
            answer(&question, ask.words)
        })
        .collect();
    let prompt_tokens = prompts.iter().map(|prompt| tokens_of(prompt)).sum();
    let usage = usage(prompt_tokens, answers.iter().map(Answer::tokens).sum());
    if ask.flag("stream") {
        return Ok(Reply::stream(events(ask, &answers, &usage)));
    }
    let choice =
        |(index, answer): (usize, &Answer)| choice(index, &answer.text(), Some(finish(answer)));
    let mut body = head(ask);
    add(&mut body, "choices", answers.iter().enumerate().map(choice).collect());
    add(&mut body, "usage", usage);
    Ok(Reply::json(&body))
}

fn head(ask: &Ask) -> Value {
    json!({"id": ask.id("cmpl-"), "object": "text_completion", "created": ask.now,
        "model": ask.model,
        "system_fingerprint": "forebay-mock"})
}

fn choice(index: usize, text: &str, finish: Option<&str>) -> Value {
    json!({"index": index, "text": text, "logprobs": null, "finish_reason": finish})
}

fn finish(answer: &Answer) -> &'static str {
    if answer.finish == Finish::Length { "length" } else { "stop" }
}

fn events(ask: &Ask, answers: &[Answer], usage: &Value) -> Vec<Bytes> {
    let chunk = |choices: Value| {
        let mut chunk = head(ask);
        add(&mut chunk, "choices", choices);
        chunk
    };
    let mut events = Vec::new();
    for (index, answer) in answers.iter().enumerate() {
        let text = |piece: &String| event(&chunk(json!([choice(index, piece, None)])));
        events.extend(answer.pieces.iter().map(text));
        events.push(event(&chunk(json!([choice(index, "", Some(finish(answer)))]))));
    }
    let options = ask.member("stream_options");
    if options.and_then(|options| options.get("include_usage")).is_some_and(|wanted| wanted == true)
    {
        let mut last = chunk(json!([]));
        add(&mut last, "usage", usage.clone());
        events.push(event(&last));
    }
    events.push(DONE);
    events
}

#[cfg(test)]
mod tests {
    use super::super::ask::tests::ask;
    use super::*;

    #[test]
    fn every_prompt_is_answered() {
        let body = serve(&ask(json!({"prompt": ["one", "two"], "n": 2}))).unwrap().value();
        let texts: Vec<&str> = body["choices"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["text"].as_str().unwrap())
            .collect();
        assert_eq!(texts.len(), 4);
        assert!(texts[0].contains("one") && texts[1].contains("one") && texts[2].contains("two"));
    }

    #[test]
    fn a_stream_says_the_same_as_the_whole() {
        let whole = serve(&ask(json!({"prompt": "hi", "max_tokens": 3}))).unwrap().value();
        let stream = json!({"prompt": "hi", "max_tokens": 3, "stream": true,
            "stream_options": {"include_usage": true}});
        let events = serve(&ask(stream)).unwrap().events();
        let text: String =
            events.iter().filter_map(|event| event["choices"][0]["text"].as_str()).collect();
        assert_eq!(whole["choices"][0]["text"], text);
        assert_eq!(events.last().unwrap()["usage"]["completion_tokens"], 3);
    }

    #[test]
    fn a_prompt_is_needed() {
        assert_eq!(serve(&ask(json!({}))).unwrap_err().status, 400);
    }
}
