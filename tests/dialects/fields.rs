//! The table of what crosses, held to what happens: for every part of a request and every dialect of
//! providers, a request with it is written.

use forebay::config::{Dialect, Translation};
use forebay::protocol::canonical::{Fate, Field, Invalid};
use forebay::protocol::translate::table::fate;

use crate::DIALECTS;
use crate::providers::{ADAPTIVE, OLDER_GEMINI, PROVIDERS, Provider, VLLM};
use crate::requests::written;
use crate::samples::{Sample, sample};

/// What was seen to become of a part.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// It is in the body.
    There,
    /// Neither in the body nor said to be lost.
    Nowhere,
    Dropped,
    Refused,
}

#[test]
fn every_part_of_a_request_becomes_what_the_table_says() {
    let mut wrong = Vec::new();
    for field in Field::ALL {
        for (dialect, name) in DIALECTS {
            let said = fate(dialect, *field);
            let seen: Vec<Seen> =
                models(*field, dialect).into_iter().map(|model| become_of(*field, model)).collect();
            let is_true = match said {
                Fate::Carried => seen.iter().all(|seen| *seen == Seen::There),
                // Where some servers take it and others do not.
                Fate::Converted(_) => {
                    seen.iter().any(|seen| matches!(seen, Seen::There | Seen::Nowhere))
                }
                Fate::Dropped => seen.iter().all(|seen| *seen == Seen::Dropped),
                Fate::Refused(_) => seen.iter().all(|seen| *seen == Seen::Refused),
            };
            if !is_true {
                wrong.push(format!("{field:?} at {name}: said {said:?}, seen {seen:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Models that take the part if any of that dialect does.
fn models(field: Field, dialect: Dialect) -> Vec<Provider> {
    let usual = || PROVIDERS.into_iter().find(|it| it.dialect == dialect).expect("one of each");
    let openai = |dialect| Provider { model: "gpt-5.1", dialect, ..usual() };
    match (dialect, field) {
        (Dialect::OpenaiChat, Field::Effort | Field::ThinkingBudget) => vec![openai(dialect), VLLM],
        (Dialect::OpenaiChat, _) => vec![usual(), VLLM],
        (
            Dialect::OpenaiResponses,
            Field::Effort | Field::ThinkingBudget | Field::ThinkingHistory | Field::Signature,
        ) => {
            vec![openai(dialect)]
        }
        (Dialect::Anthropic, Field::Effort) => vec![ADAPTIVE],
        (
            Dialect::Gemini,
            Field::PresencePenalty | Field::FrequencyPenalty | Field::ThinkingBudget,
        ) => vec![OLDER_GEMINI],
        (Dialect::Bedrock, Field::Audio | Field::Video) => {
            vec![Provider { model: "us.amazon.nova-pro-v1:0", ..usual() }]
        }
        (Dialect::Bedrock, Field::Effort) => {
            vec![Provider { model: "us.anthropic.claude-opus-4-6-v1", ..usual() }]
        }
        _ => vec![usual()],
    }
}

fn become_of(field: Field, to: Provider) -> Seen {
    let Sample { client, without, with } = sample(field, to.dialect);
    let write = |request: &serde_json::Value| {
        written(client, request.to_string().as_bytes(), to, Translation::Lenient)
    };
    let without = write(&without).expect("the request without it crosses");
    let with = match write(&with) {
        Ok(with) => with,
        Err(Invalid::Unsupported { param, .. }) => {
            assert_eq!(param, field.name(client), "{field:?} is refused by another name");
            return Seen::Refused;
        }
        Err(invalid) => panic!("{field:?} at {}: {invalid}", to.name),
    };
    let name = field.name(client).to_owned();
    let is_lost = with.dropped.contains(&name) && !without.dropped.contains(&name);
    match (is_lost, with.body == without.body) {
        (true, _) => Seen::Dropped,
        (false, true) => Seen::Nowhere,
        (false, false) => Seen::There,
    }
}
