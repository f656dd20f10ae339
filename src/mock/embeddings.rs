//! `POST /v1/embeddings`: a vector that depends on the text alone.

use serde_json::{Value, json};

use super::ask::{Ask, Outcome, tokens_of};
use super::reply::Reply;

/// Dimensions when the caller does not say.
const DIMENSIONS: usize = 64;
/// More dimensions or inputs than this are refused.
const MOST: usize = 4096;

/// Answers with one vector per input.
pub fn serve(ask: &Ask) -> Outcome {
    let texts = inputs(ask.require("input")?, "input")?;
    let dimensions = ask.count("dimensions").unwrap_or(DIMENSIONS);
    if !(1..=MOST).contains(&dimensions) {
        let message = format!("dimensions must be between 1 and {MOST}");
        return Err(Reply::bad_request(&message, Some("dimensions")));
    }
    let packed = ask.text("encoding_format") == Some("base64");
    let one = |(index, text): (usize, &String)| {
        let vector = vector(text, dimensions);
        let embedding = if packed { json!(pack(&vector)) } else { json!(vector) };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    };
    let data: Vec<Value> = texts.iter().enumerate().map(one).collect();
    let tokens: usize = texts.iter().map(|text| tokens_of(text)).sum();
    Ok(Reply::json(
        &json!({"id": ask.id("embd-"), "object": "list", "created": ask.now, "model": ask.model,
        "data": data, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}),
    ))
}

/// The vector of a text; `None` when it cannot be that long.
pub fn vector_for(text: &str, dimensions: Option<usize>) -> Option<Vec<f32>> {
    let dimensions = dimensions.unwrap_or(DIMENSIONS);
    (1..=MOST).contains(&dimensions).then(|| vector(text, dimensions))
}

/// One or several texts: a string, token numbers, or a list of either.
pub fn inputs(value: &Value, name: &str) -> Result<Vec<String>, Reply> {
    let wrong = || {
        Reply::bad_request(&format!("{name} must be text, tokens, or a list of them"), Some(name))
    };
    let numbers = |list: &[Value]| {
        let words: Option<Vec<String>> =
            list.iter().map(|token| token.as_u64().map(|token| token.to_string())).collect();
        words.map(|words| words.join(" "))
    };
    let texts = match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(list) if list.iter().all(Value::is_u64) && !list.is_empty() => {
            vec![numbers(list).ok_or_else(wrong)?]
        }
        Value::Array(list) => list
            .iter()
            .map(|item| match item {
                Value::String(text) => Some(text.clone()),
                Value::Array(tokens) => numbers(tokens),
                _ => None,
            })
            .collect::<Option<_>>()
            .ok_or_else(wrong)?,
        _ => return Err(wrong()),
    };
    if texts.is_empty() || texts.len() > MOST {
        return Err(wrong());
    }
    Ok(texts)
}

/// Standard base64, with padding.
pub fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |index: usize| group.get(index).copied().unwrap_or(0);
        let bits = u32::from_be_bytes([0, byte(0), byte(1), byte(2)]);
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) & 63;
            let letter = usize::try_from(index).ok().and_then(|index| ALPHABET.get(index));
            let padding = digit > group.len();
            text.push(if padding { '=' } else { letter.map_or('=', |letter| char::from(*letter)) });
        }
    }
    text
}

/// A unit vector made from the text's hash.
fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    // FNV-1a for the text, then one xorshift step per dimension.
    let mut state = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let [high, low, ..] = state.to_be_bytes();
        f32::from(i16::from_be_bytes([high, low])) / 32768.0
    };
    let raw: Vec<f32> = (0..dimensions).map(|_| next()).collect();
    let length = raw.iter().map(|value| value * value).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    raw.iter().map(|value| value / length).collect()
}

/// The vector as little-endian floats in base64.
fn pack(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    base64(&bytes)
}

#[cfg(test)]
mod tests {
    use super::super::ask::tests::ask;
    use super::*;

    #[test]
    fn base64_is_standard() {
        let cases =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (plain, packed) in cases {
            assert_eq!(base64(plain.as_bytes()), packed);
        }
    }

    #[test]
    fn the_same_text_has_the_same_vector() {
        let body = serve(&ask(json!({"input": ["a", "b", "a"], "dimensions": 8}))).unwrap().value();
        assert_eq!(body["data"][0]["embedding"], body["data"][2]["embedding"]);
        assert_ne!(body["data"][0]["embedding"], body["data"][1]["embedding"]);
        assert_eq!(body["data"][0]["embedding"].as_array().unwrap().len(), 8);
    }

    #[test]
    fn base64_holds_four_bytes_per_dimension() {
        let body =
            serve(&ask(json!({"input": [1, 2], "encoding_format": "base64"}))).unwrap().value();
        assert_eq!(
            body["data"][0]["embedding"].as_str().unwrap().len(),
            (64 * 4_usize).div_ceil(3) * 4
        );
        assert_eq!(body["data"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn nonsense_is_refused() {
        for body in [
            json!({}),
            json!({"input": []}),
            json!({"input": 5}),
            json!({"input": "a", "dimensions": 0}),
        ] {
            assert_eq!(serve(&ask(body)).unwrap_err().status, 400);
        }
    }
}
