//! Conversations that are continued by `previous_response_id`: what is to be kept of a call and its
//! answer, and how the next call gets it. Whoever keeps it, keeps the two lists one behind the other.

use serde_json::value::RawValue;

use super::envelope::compact;
use super::mistyped;
use super::output::{Style, Told, items};
use super::seal::is_sealed;
use crate::protocol::canonical::{Invalid, Json, Response};
use crate::protocol::json::{Mistyped, Object};

/// The items of a request, earlier ones included once they are put before it: a JSON array.
pub fn stored_input(body: &[u8]) -> Result<Json, Invalid> {
    let mut body = object(body)?;
    Ok(list(&input_items(&mut body)?))
}

/// The items of an answer: a JSON array.
pub fn stored_output(response: &Response) -> Json {
    let id = response.id.strip_prefix("resp_").unwrap_or(&response.id).to_owned();
    let style = Style { id, summaries: false };
    let items = items(response, &style);
    let told: Vec<_> = items.iter().map(|item| Told(item, &style)).collect();
    serde_json::value::to_raw_value(&told).unwrap_or_else(|_| list(&[]))
}

/// The request with `earlier` items before its own, and without `previous_response_id`.
///
/// # Errors
/// When the body is no request, or `earlier` holds what is no array.
pub fn prepend<'e>(
    body: &[u8],
    earlier: impl IntoIterator<Item = &'e RawValue>,
) -> Result<Vec<u8>, Invalid> {
    let mut body = object(body)?;
    body.take("previous_response_id");
    let own = input_items(&mut body)?;
    let mut all = Vec::with_capacity(own.len() + 8);
    for earlier in earlier {
        let items: Vec<&RawValue> = serde_json::from_str(earlier.get())
            .map_err(|_| Invalid::request("previous_response_id", "what was kept is no list"))?;
        all.extend(items.into_iter().map(RawValue::to_owned));
    }
    all.extend(own);
    Ok(with_input(&mut body, &all))
}

/// The request without reasoning that only other providers can read again, for a provider that would
/// refuse it: where a conversation that began elsewhere goes on. `None`: there is nothing of the kind.
pub fn without_sealed(body: &[u8]) -> Option<Vec<u8>> {
    memchr::memmem::find(body, b"gw1:")?;
    without(body, holds_sealed)
}

/// The request without any reasoning but what a provider of this dialect has encrypted: for one that
/// has not seen the earlier turns, where they were kept here. `None`: there is nothing of the kind.
pub fn without_others(body: &[u8]) -> Option<Vec<u8>> {
    memchr::memmem::find(body, b"reasoning")?;
    without(body, |item| holds_sealed(item) || is_bare_reasoning(item))
}

fn without(body: &[u8], unwanted: impl Fn(&RawValue) -> bool) -> Option<Vec<u8>> {
    let mut body = object(body).ok()?;
    let mut items = input_items(&mut body).ok()?;
    let before = items.len();
    items.retain(|item| !unwanted(item));
    (items.len() < before).then(|| with_input(&mut body, &items))
}

/// Reasoning that is named or told, and not there.
fn is_bare_reasoning(item: &RawValue) -> bool {
    let Ok(mut item) = Object::parse(item.get(), "input") else { return false };
    let is_reasoning = item.string("type").is_ok_and(|kind| kind.as_deref() == Some("reasoning"));
    is_reasoning && !item.has("encrypted_content")
}

fn holds_sealed(item: &RawValue) -> bool {
    let content =
        Object::parse(item.get(), "input").and_then(|mut item| item.string("encrypted_content"));
    content.is_ok_and(|content| content.is_some_and(|content| is_sealed(&content)))
}

fn object(body: &[u8]) -> Result<Object<'_>, Invalid> {
    let text = std::str::from_utf8(body)
        .map_err(|_| Invalid::request("body", "the body is not valid UTF-8"))?;
    Object::parse(text, "body").map_err(mistyped(""))
}

/// The items of `input`, a text as the message that it stands for.
fn input_items(body: &mut Object) -> Result<Vec<Json>, Invalid> {
    let input = body.take("input");
    let input = input.ok_or_else(|| Invalid::request("input", "`input` is missing"))?;
    if input.get().starts_with('"') {
        let message = format!(r#"{{"type":"message","role":"user","content":{}}}"#, input.get());
        return Ok(RawValue::from_string(message).into_iter().collect());
    }
    let items: Vec<&RawValue> = serde_json::from_str(input.get())
        .map_err(|_| mistyped("")(Mistyped::new("input", "a string or an array of items")))?;
    Ok(items.into_iter().map(RawValue::to_owned).collect())
}

fn list(items: &[Json]) -> Json {
    let mut text = String::with_capacity(256);
    text.push('[');
    for item in items {
        if text.len() > 1 {
            text.push(',');
        }
        compact(item.get(), &mut text);
    }
    text.push(']');
    RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// The members that are left, and `input`.
fn with_input(body: &mut Object, items: &[Json]) -> Vec<u8> {
    let names: Vec<String> = body.rest().map(str::to_owned).collect();
    let mut text = String::with_capacity(1024);
    text.push('{');
    for name in names {
        if let Some(value) = body.take(&name) {
            text.push_str(&serde_json::Value::from(name).to_string());
            text.extend([":", value.get(), ","]);
        }
    }
    text.extend(["\"input\":", list(items).get(), "}"]);
    text.into_bytes()
}
