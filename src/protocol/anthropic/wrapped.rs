//! Messages as the clouds wrap them: at Bedrock and Vertex the model stands in the path, and a version of
//! theirs in the body. Every other byte stays as it is.

use crate::protocol::json::text::quote;
use crate::protocol::json::{Members, Splice, WrongType};

/// <https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-anthropic-claude-messages.html>
const BEDROCK_VERSION: &str = "bedrock-2023-05-31";

/// <https://cloud.google.com/vertex-ai/generative-ai/docs/partner-models/claude/use-claude>
const VERTEX_VERSION: &str = "vertex-2023-10-16";

/// A body that came in a cloud's wrapping, as a plain one.
#[derive(Clone, Debug)]
pub struct Unwrapped {
    pub splice: Splice,
    /// What stood in `anthropic_beta`: for the header of that name.
    pub betas: Vec<String>,
}

/// A body for Bedrock's `invoke`: whether it streams is told by the path, the betas by the body.
pub fn for_bedrock(members: &Members, betas: &[&str]) -> Splice {
    let mut added = vec![("anthropic_version", quote(BEDROCK_VERSION))];
    if !betas.is_empty() {
        added.push(("anthropic_beta", list(betas)));
    }
    let known = added.iter().map(|(name, _)| *name);
    let removed: Vec<_> = ["model", "stream"].into_iter().chain(known).collect();
    rewrap(members, &removed, &added)
}

/// A body for Vertex's `rawPredict` and `streamRawPredict`; betas stay in the header.
pub fn for_vertex(members: &Members) -> Splice {
    let added = [("anthropic_version", quote(VERTEX_VERSION))];
    rewrap(members, &["model", "anthropic_version"], &added)
}

/// A body that a client posted to `/model/{model}/invoke` or `…/models/{model}:rawPredict`, or to their
/// siblings that stream.
///
/// # Errors
/// When `anthropic_beta` is no array of strings.
pub fn from_cloud(
    body: &[u8],
    members: &Members,
    model: &str,
    stream: bool,
) -> Result<Unwrapped, WrongType> {
    let mut added = vec![("model", quote(model))];
    if stream {
        added.push(("stream", "true".to_owned()));
    }
    unwrap(body, members, &["model", "stream", "anthropic_version", "anthropic_beta"], &added)
}

fn unwrap(
    body: &[u8],
    members: &Members,
    removed: &[&str],
    added: &[(&str, String)],
) -> Result<Unwrapped, WrongType> {
    let betas = match members.raw(body, "anthropic_beta") {
        None | Some(b"null") => Vec::new(),
        Some(raw) => serde_json::from_slice(raw).map_err(|_| WrongType {
            name: "anthropic_beta".to_owned(),
            expected: "an array of strings",
        })?,
    };
    Ok(Unwrapped { splice: rewrap(members, removed, added), betas })
}

fn list(texts: &[&str]) -> String {
    let quoted: Vec<_> = texts.iter().map(|text| quote(text)).collect();
    format!("[{}]", quoted.join(","))
}

/// Takes members out, and adds others at the end.
fn rewrap(members: &Members, removed: &[&str], added: &[(&str, String)]) -> Splice {
    let gone: Vec<_> = removed.iter().filter_map(|name| members.find(name)).collect();
    let all = members.all();
    let kept = all.iter().rposition(|member| !gone.contains(&member)).map_or(0, |last| last + 1);
    let (front, tail) = all.split_at(kept);
    let mut splice = Splice::default();
    // Each goes with the comma behind it, the last ones with the comma before them.
    for (member, next) in front.iter().zip(front.iter().skip(1)) {
        if gone.contains(&member) {
            splice.replace(member.key.start..next.key.start, "");
        }
    }
    if let (Some(first), Some(last)) = (tail.first(), tail.last()) {
        let start = front.last().map_or(first.key.start, |member| member.value.end);
        splice.replace(start..last.value.end, "");
    }
    for (place, (name, value)) in added.iter().enumerate() {
        splice.insert_at(members.end(), kept + place > 0, name, value.as_bytes());
    }
    splice
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::protocol::json::scan;

    fn spliced(body: &str, edit: impl FnOnce(&[u8], &Members) -> Splice) -> String {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let members = scan(&body).unwrap();
        let edited = edit(&body, &members).apply(&body);
        scan(&edited).unwrap();
        String::from_utf8(edited.into()).unwrap()
    }

    #[test]
    fn bedrock_gets_its_version_and_the_betas_and_neither_model_nor_stream() {
        let body = r#"{"model":"m", "max_tokens" : 1e2,"stream":true,"messages":[ ]}"#;
        assert_eq!(
            spliced(body, |_, members| for_bedrock(members, &["a", "b"])),
            r#"{"max_tokens" : 1e2,"messages":[ ],"anthropic_version":"bedrock-2023-05-31","anthropic_beta":["a","b"]}"#
        );
        let body = r#"{ "x":1 , "model":"m" , "stream" : false }"#;
        assert_eq!(
            spliced(body, |_, members| for_bedrock(members, &[])),
            r#"{ "x":1 ,"anthropic_version":"bedrock-2023-05-31"}"#
        );
    }

    #[test]
    fn vertex_keeps_the_stream() {
        let body = r#"{"stream":true,"model":"m","anthropic_version":"2023-06-01"}"#;
        assert_eq!(
            spliced(body, |_, members| for_vertex(members)),
            r#"{"stream":true,"anthropic_version":"vertex-2023-10-16"}"#
        );
    }

    #[test]
    fn what_came_wrapped_becomes_a_plain_body_and_its_betas() {
        let body =
            r#"{"anthropic_version":"bedrock-2023-05-31","anthropic_beta":["a"],"messages":[]}"#;
        let mut betas = Vec::new();
        let plain = spliced(body, |body, members| {
            let unwrapped = from_cloud(body, members, "us.x:0", true).unwrap();
            betas = unwrapped.betas;
            unwrapped.splice
        });
        assert_eq!(plain, r#"{"messages":[],"model":"us.x:0","stream":true}"#);
        assert_eq!(betas, ["a"]);
        let body = r#"{"anthropic_version":"vertex-2023-10-16"}"#;
        let plain =
            spliced(body, |body, members| from_cloud(body, members, "m", false).unwrap().splice);
        assert_eq!(plain, r#"{"model":"m"}"#);
    }

    #[test]
    fn betas_must_be_strings() {
        let body = br#"{"anthropic_beta":[1]}"#;
        let wrong = from_cloud(body, &scan(body).unwrap(), "m", false).unwrap_err();
        assert_eq!(wrong.to_string(), "`anthropic_beta` must be an array of strings");
    }

    proptest! {
        #[test]
        fn wherever_the_members_stand_the_others_stay(
            order in Just(vec!["model", "stream", "anthropic_version", "anthropic_beta", "a", "b"])
                .prop_shuffle(),
            count in 0usize..=6,
        ) {
            let given = order.get(..count).unwrap();
            let members: Vec<_> = given.iter().map(|name| format!(" \"{name}\" : [\"x\"] ")).collect();
            let body = format!("{{{}}}", members.join(","));
            let wrapped = spliced(&body, |_, members| for_bedrock(members, &["z"]));
            let wrapped: Value = serde_json::from_str(&wrapped).unwrap();
            let mut wanted = json!({
                "anthropic_version": "bedrock-2023-05-31",
                "anthropic_beta": ["z"],
            });
            for name in given.iter().filter(|name| name.len() == 1) {
                wanted[*name] = json!(["x"]);
            }
            prop_assert_eq!(wrapped, wanted);
        }
    }
}
