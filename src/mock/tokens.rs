//! `POST /tokenize` and `/detokenize`: here a token is a character, so that what goes out comes
//! back.

use serde_json::{Value, json};

use super::ask::{Ask, Outcome, text_of};
use super::reply::Reply;

/// Text or messages to tokens.
pub fn tokenize(ask: &Ask) -> Outcome {
    let text = match ask.member("prompt") {
        Some(prompt) => text_of(prompt),
        None => text_of(ask.require("messages")?),
    };
    let tokens: Vec<u32> = text.chars().map(u32::from).collect();
    let strings: Option<Vec<String>> =
        ask.flag("return_token_strs").then(|| text.chars().map(String::from).collect());
    Ok(Reply::json(&json!({"count": tokens.len(), "max_model_len": 32768, "tokens": tokens,
        "token_strs": strings})))
}

/// Tokens to text.
pub fn detokenize(ask: &Ask) -> Outcome {
    let tokens = ask.require("tokens")?.as_array();
    let character = |token: &Value| u32::try_from(token.as_u64()?).ok().and_then(char::from_u32);
    let text: Option<String> = tokens.and_then(|tokens| tokens.iter().map(character).collect());
    let text =
        text.ok_or_else(|| Reply::bad_request("tokens must be a list of tokens", Some("tokens")))?;
    Ok(Reply::json(&json!({"prompt": text})))
}

#[cfg(test)]
mod tests {
    use super::super::ask::tests::ask;
    use super::*;

    #[test]
    fn what_goes_out_comes_back() {
        let tokens = tokenize(&ask(json!({"prompt": "héllo"}))).unwrap().value();
        assert_eq!(tokens["count"], 5);
        let text = detokenize(&ask(json!({"tokens": tokens["tokens"]}))).unwrap().value();
        assert_eq!(text, json!({"prompt": "héllo"}));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        assert_eq!(detokenize(&ask(json!({"tokens": ["a"]}))).unwrap_err().status, 400);
    }
}
