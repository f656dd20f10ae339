//! The model's name in bodies of Google's, whose paths name it as well: the two must be the same.

use std::ops::Range;

use crate::protocol::Operation;
use crate::protocol::json::cursor::{Cursor, Fault};
use crate::protocol::json::scan::Members;
use crate::protocol::json::splice::Splice;
use crate::protocol::json::text::{quote, unquote};

/// Replaces the names of the model that a body has; where it has none, none is put.
///
/// They stand in `model`, in `generateContentRequest.model` of a count, and in `requests[].model` of a
/// batch (<https://ai.google.dev/api/tokens>, <https://ai.google.dev/api/embeddings>).
pub fn rename(
    operation: Operation,
    body: &[u8],
    members: &Members,
    model: &str,
    splice: &mut Splice,
) {
    let within: &[&str] = match operation {
        Operation::GenerateContent | Operation::EmbedContent => &[],
        Operation::GeminiCount => &["generateContentRequest", "generate_content_request"],
        Operation::EmbedContents => &["requests"],
        _ => return,
    };
    let mut spans: Vec<Range<usize>> =
        members.find("model").map(|member| member.value.clone()).into_iter().collect();
    for outer in within.iter().filter_map(|name| members.find(name)) {
        let start = outer.value.start;
        let text = body.get(outer.value.clone()).and_then(|raw| std::str::from_utf8(raw).ok());
        let mut cursor = Cursor::new(text.unwrap_or_default());
        let mut found = |span: Range<usize>| spans.push(span.start + start..span.end + start);
        // The body has been scanned: the walk cannot fail.
        let _ = if cursor.peek() == b'[' {
            cursor.array(|cursor| models_of(cursor, &mut found)).map(drop)
        } else {
            models_of(&mut cursor, &mut found)
        };
    }
    let resource = if model.contains('/') { model.to_owned() } else { format!("models/{model}") };
    let (name, resource) = (quote(model), quote(&resource));
    for span in spans {
        let raw = body.get(span.clone()).and_then(|raw| std::str::from_utf8(raw).ok());
        let Some(raw) = raw.filter(|raw| raw.starts_with('"')) else { continue };
        let with = if unquote(raw).contains('/') { &resource } else { &name };
        if with != raw {
            splice.replace(span, with.clone());
        }
    }
}

/// Shows `found` each `model` of an object.
fn models_of(cursor: &mut Cursor, found: &mut impl FnMut(Range<usize>)) -> Result<(), Fault> {
    if cursor.peek() != b'{' {
        return cursor.pass();
    }
    let member = |cursor: &mut Cursor, key: Range<usize>| {
        let is_model = unquote(cursor.slice(&key)) == "model";
        let value = cursor.skip()?;
        if is_model {
            found(value);
        }
        Ok(())
    };
    cursor.object(member).map(drop)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::protocol::json::scan::scan;

    fn renamed(operation: Operation, body: &str, model: &str) -> String {
        let mut splice = Splice::default();
        let members = scan(body.as_bytes()).unwrap();
        rename(operation, body.as_bytes(), &members, model, &mut splice);
        let body = splice.apply(&Bytes::copy_from_slice(body.as_bytes()));
        String::from_utf8(body.into()).unwrap()
    }

    #[test]
    fn every_place_that_names_the_model_names_the_providers() {
        for (operation, body, becomes) in [
            (Operation::GenerateContent, r#"{"contents":[]}"#, r#"{"contents":[]}"#),
            (Operation::GenerateContent, r#"{"model":"a"}"#, r#"{"model":"up"}"#),
            (Operation::EmbedContent, r#"{"model":"models/a"}"#, r#"{"model":"models/up"}"#),
            (
                Operation::EmbedContents,
                r#"{"requests":[{"model":"models/a","content":{"model":"x"}},{"content":1},{"mod\u0065l" : "a"},7]}"#,
                r#"{"requests":[{"model":"models/up","content":{"model":"x"}},{"content":1},{"mod\u0065l" : "up"},7]}"#,
            ),
            (
                Operation::GeminiCount,
                r#"{"generate_content_request":{"contents":[],"model":"models/a"}}"#,
                r#"{"generate_content_request":{"contents":[],"model":"models/up"}}"#,
            ),
            (Operation::Converse, r#"{"model":"a"}"#, r#"{"model":"a"}"#),
        ] {
            assert_eq!(renamed(operation, body, "up"), becomes);
        }
        let tuned = renamed(Operation::EmbedContent, r#"{"model":"models/a"}"#, "tunedModels/t");
        assert_eq!(tuned, r#"{"model":"tunedModels/t"}"#);
    }

    #[test]
    fn what_has_another_shape_is_the_providers_to_judge() {
        for body in [r#"{"requests":{"a":1},"model":7}"#, r#"{"requests":"model"}"#] {
            assert_eq!(renamed(Operation::EmbedContents, body, "up"), body);
        }
    }
}
