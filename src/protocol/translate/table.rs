//! The documentation of what crosses, as the code has it (`docs/dialects.md`).

use std::fmt::Write;

use super::verbs;
use crate::config::{Dialect, Kind};
use crate::protocol::canonical::{Effort, Fate, Field, Rules, ThinkingRule};

/// The dialects, by their names in configuration and for readers.
const DIALECTS: [(Dialect, &str, &str); 5] = [
    (Dialect::OpenaiChat, "openai_chat", "OpenAI chat"),
    (Dialect::OpenaiResponses, "openai_responses", "OpenAI responses"),
    (Dialect::Anthropic, "anthropic", "Anthropic"),
    (Dialect::Gemini, "gemini", "Gemini"),
    (Dialect::Bedrock, "bedrock", "Bedrock"),
];

/// Calls that are put into other dialects, and what each is in them.
pub const CALLS: &[(&str, &[(Dialect, &str)])] = &[
    (
        "an answer",
        &[
            (Dialect::OpenaiChat, "/v1/chat/completions"),
            (Dialect::OpenaiResponses, "/v1/responses"),
            (Dialect::Anthropic, "/v1/messages"),
            (Dialect::Gemini, "/v1beta/models/{model}:generateContent"),
            (Dialect::Bedrock, "/model/{model}/converse"),
        ],
    ),
    (
        "an answer as a stream",
        &[
            (Dialect::OpenaiChat, "/v1/chat/completions"),
            (Dialect::OpenaiResponses, "/v1/responses"),
            (Dialect::Anthropic, "/v1/messages"),
            (Dialect::Gemini, "/v1beta/models/{model}:streamGenerateContent"),
            (Dialect::Bedrock, "/model/{model}/converse-stream"),
        ],
    ),
    (
        "how many tokens a prompt has",
        &[
            (Dialect::OpenaiResponses, "/v1/responses/input_tokens"),
            (Dialect::Anthropic, "/v1/messages/count_tokens"),
            (Dialect::Gemini, "/v1beta/models/{model}:countTokens"),
            (Dialect::Bedrock, "/model/{model}/count-tokens"),
        ],
    ),
    (
        "embeddings",
        &[
            (Dialect::OpenaiChat, "/v1/embeddings"),
            (Dialect::Gemini, "/v1beta/models/{model}:embedContent"),
            (Dialect::Bedrock, "/model/{model}/invoke"),
        ],
    ),
    (
        "embeddings of several texts",
        &[
            (Dialect::OpenaiChat, "/v1/embeddings"),
            (Dialect::Gemini, "/v1beta/models/{model}:batchEmbedContents"),
        ],
    ),
    ("an answer of Claude's on Bedrock", &[(Dialect::Anthropic, "/model/{model}/invoke")]),
    ("the same as a stream", &[(Dialect::Anthropic, "/model/{model}/invoke-with-response-stream")]),
];

/// What a kind of provider speaks.
#[derive(Clone, Copy, Debug)]
pub struct Speaker {
    pub kind: Kind,
    pub dialect: Dialect,
    /// What else it speaks.
    pub also: &'static [Dialect],
    /// What some of its servers speak, too.
    pub perhaps: &'static [Dialect],
}

/// What becomes of a part of a request at a provider of this dialect.
pub fn fate(dialect: Dialect, field: Field) -> Fate {
    verbs::fate(dialect, field)
}

/// The whole page, in Markdown.
pub fn render(speakers: &[Speaker]) -> String {
    let mut page = INTRODUCTION.to_owned();
    page.push_str("\n## Calls\n\n");
    page.push_str(ON_CALLS);
    calls(&mut page);
    page.push_str("\n## Providers\n\n");
    page.push_str(ON_PROVIDERS);
    providers(speakers, &mut page);
    page.push_str("\n## What becomes of a request\n\n");
    page.push_str(ON_FATES);
    fates(&mut page);
    page.push_str(AFTER_FATES);
    page.push_str("\n## What clients call it\n\n");
    page.push_str(ON_NAMES);
    names(&mut page);
    page.push_str("\n## What models take\n\n");
    page.push_str(ON_RULES);
    rules(&mut page);
    page
}

const INTRODUCTION: &str = "\
<!-- Written by the code (src/protocol/translate/table.rs); `UPDATE_DOCS=1 cargo test --test dialects` writes it anew. -->

# Dialects

A client may speak any of five dialects, and so may a provider. Where both speak the same one, requests and answers pass as
they are, but for what the configuration changes. Where they do not, they are translated, streams event by event.

What of a request has no counterpart at the provider is left out and named in the answer's header `x-forebay-dropped`, in the
client's own words. With `translation: strict` at the model such a request is refused instead, with status 400 and the code
`unsupported_parameter`. What would make another request of it is refused in any case. A stream whose provider is silent at
first begins with a heartbeat, whose header tells what was left out for that provider, not for one that may yet stand in for it.

Of a provider's headers only those come back that mean something to a client of another dialect: the content type, `Date`,
`Cache-Control` and `Retry-After`. How much of its rate limits is left (`anthropic-ratelimit-*`, `x-ratelimit-*`) is about the
gateway's account there, and does not cross; where a caller has limits of its own here, `x-ratelimit-*` tells of those.
";

const ON_CALLS: &str = "\
Paths that lead to other dialects, too. Everything else is sent on as it is, to providers that speak the dialect themselves.

Clients made for a cloud need no more than the gateway's address. Azure's paths (`/openai/v1/…`, `/openai/…?api-version=…` and
`/openai/deployments/{model}/…`) stand for those of OpenAI's dialects, the deployment for the model. Vertex's
(`/v1/projects/*/locations/*/publishers/{google,anthropic}/models/{model}:…`, and the same without project and location) stand
for Gemini's and Anthropic's: `generateContent`, `streamGenerateContent`, `countTokens`, `embedContent` and `predict` for
vectors; `rawPredict`, `streamRawPredict` and `count-tokens:rawPredict`. Which project pays, and where, is the provider's to say.

";

const ON_PROVIDERS: &str = "\
`dialect` at a provider says that it speaks this one and no other. Without it a provider speaks what its kind does; what only
some servers of a kind have is tried, until one of them says that it has no such call.

";

const ON_FATES: &str = "\
At a model that takes all that its dialect has; what a model does not take ([below](#what-models-take)) is left out and named,
too.

| | |
|---|---|
| yes | it has a counterpart |
| words | it becomes this |
| left out | left out and named, and never refused: a hint, without which the call means the same |
| **dropped** | left out and named; refused with `translation: strict` |
| **refused** | refused in any case, and why |

";

const AFTER_FATES: &str = "
A signature of Google's goes back to Gemini and to Vertex alike. Google refuses those that the other of its two APIs has made,
so a model that thinks and calls tools should have its targets at one of them. To OpenAI and Azure no `reasoning_details` go
that another provider has signed, whatever the client speaks.
";

const ON_NAMES: &str = "\
The names by which `x-forebay-dropped` and refusals tell what was lost. Other members of a request that nothing is known of are
told by their own names, with the names of the objects they stand in before: `messages.name`.

";

const ON_RULES: &str = "\
By the model's name at the provider; the first row that matches counts. `capabilities` in the configuration says otherwise for
models of your own ([configuration](configuration.md)). An effort that a model does not know becomes the next lower one that it
knows. Where a model of Anthropic's or at Bedrock takes no schemas, a tool that it must call stands in for one. Instructions inside
a conversation become marked text of the user's where they are not taken, and an answer that is begun for a model that takes none is
refused; at Bedrock none does. The most tokens are asked for where a request sets no bound and its dialect demands one.

";

fn calls(page: &mut String) {
    head(page, "", DIALECTS.iter().map(|(_, _, name)| *name));
    for (what, paths) in CALLS {
        let path = |dialect| paths.iter().find(|(known, _)| *known == dialect);
        let cells = DIALECTS.iter().map(|(dialect, ..)| {
            path(*dialect).map_or_else(String::new, |(_, path)| format!("`{path}`"))
        });
        row(page, what, cells);
    }
}

fn providers(speakers: &[Speaker], page: &mut String) {
    head(page, "`kind`", DIALECTS.iter().map(|(_, _, name)| *name));
    for speaker in speakers {
        let cells = DIALECTS.iter().map(|(dialect, ..)| {
            let is_vertex = speaker.kind == Kind::Vertex;
            let said = match dialect {
                dialect if *dialect == speaker.dialect => "its own",
                dialect if speaker.also.contains(dialect) => "yes",
                dialect if speaker.perhaps.contains(dialect) => "perhaps",
                Dialect::Anthropic if is_vertex => "for Claude",
                _ => "translated",
            };
            said.to_owned()
        });
        row(page, &format!("`{}`", speaker.kind.word()), cells);
    }
}

fn fates(page: &mut String) {
    head(page, "", DIALECTS.iter().map(|(_, _, name)| *name));
    for field in Field::ALL {
        let cells = DIALECTS.iter().map(|(dialect, ..)| match fate(*dialect, *field) {
            Fate::Carried => "yes".to_owned(),
            Fate::Converted(how) => how.to_owned(),
            Fate::Dropped if field.is_hint() => "left out".to_owned(),
            Fate::Dropped => "**dropped**".to_owned(),
            Fate::Refused(why) => format!("**refused**: {why}"),
        });
        row(page, &label(*field), cells);
    }
}

fn names(page: &mut String) {
    head(page, "", DIALECTS.iter().map(|(_, name, _)| *name));
    for field in Field::ALL {
        let cells = DIALECTS.iter().map(|(dialect, ..)| format!("`{}`", field.name(*dialect)));
        row(page, &label(*field), cells);
    }
}

/// `ToolChoiceNone` is "tool choice none".
fn label(field: Field) -> String {
    let mut label = String::new();
    for letter in format!("{field:?}").chars() {
        if letter.is_ascii_uppercase() && !label.is_empty() {
            label.push(' ');
        }
        label.push(letter.to_ascii_lowercase());
    }
    label
        .replace("json", "JSON")
        .replace("url", "URL")
        .replace("top p", "top_p")
        .replace("top k", "top_k")
        .replace("min p", "min_p")
}

/// Models of which there is no row, by how each kind of provider takes them.
const OTHERS: &[(&str, Dialect, Kind, &str)] = &[
    ("`o1*`, `o3*`, `o4*` at OpenAI and Azure", Dialect::OpenaiChat, Kind::Openai, "o3"),
    ("`gpt-5*`", Dialect::OpenaiChat, Kind::Openai, "gpt-5"),
    ("`gpt-5.1*`", Dialect::OpenaiChat, Kind::Openai, "gpt-5.1"),
    ("`gpt-5.2*` and above", Dialect::OpenaiChat, Kind::Openai, "gpt-5.2"),
    ("`gpt-6*`", Dialect::OpenaiChat, Kind::Openai, "gpt-6"),
    ("others at OpenAI and Azure", Dialect::OpenaiChat, Kind::Openai, "gpt-4.1"),
    ("any at vLLM", Dialect::OpenaiChat, Kind::Vllm, "any"),
    (
        "any at another server of OpenAI's dialects",
        Dialect::OpenaiChat,
        Kind::OpenaiCompatible,
        "any",
    ),
    ("others at Anthropic", Dialect::Anthropic, Kind::Anthropic, "any"),
    ("others at Google", Dialect::Gemini, Kind::Gemini, "any"),
    ("others at Bedrock", Dialect::Bedrock, Kind::Bedrock, "any"),
];

fn rules(page: &mut String) {
    head(page, "model", ["thinks", "efforts", "does not take", "most tokens"]);
    for (glob, known) in Rules::known() {
        row(page, &format!("`{glob}`"), cells(known, glob.contains("claude")));
    }
    for (label, dialect, kind, model) in OTHERS {
        let bounded = *dialect == Dialect::Anthropic;
        row(page, label, cells(&Rules::of(*dialect, *kind, model), bounded));
    }
}

/// `bounded`: its dialect demands that a request bounds its answer.
fn cells(rules: &Rules, bounded: bool) -> [String; 4] {
    let thinks = match rules.thinking {
        ThinkingRule::Never => "no",
        ThinkingRule::Budget => "by a budget",
        ThinkingRule::Adaptive => "as it sees fit",
        ThinkingRule::Always => "always",
        ThinkingRule::Level => "by a level",
        ThinkingRule::Effort => "by an effort",
        ThinkingRule::Nova => "by Nova's effort",
    };
    let known = if rules.thinking == ThinkingRule::Never { &[] } else { rules.efforts };
    let efforts: Vec<&str> = known.iter().map(|effort: &Effort| effort.as_str()).collect();
    let refused: Vec<&str> = [
        (rules.sampling, "sampling"),
        (rules.temperature_with_top_p || !rules.sampling, "`temperature` with `top_p`"),
        (rules.penalties, "penalties"),
        (rules.stop, "stops"),
        (rules.prefill, "begun answers"),
        (rules.structured_outputs, "schemas"),
        (rules.tools_with_format, "tools with a schema"),
        (rules.system_inside, "instructions inside"),
    ]
    .into_iter()
    .filter_map(|(taken, what)| (!taken).then_some(what))
    .collect();
    let most = if bounded { rules.max_output.to_string() } else { String::new() };
    [thinks.to_owned(), efforts.join(", "), refused.join(", "), most]
}

fn head<'a>(page: &mut String, first: &str, columns: impl IntoIterator<Item = &'a str>) {
    let columns: Vec<&str> = columns.into_iter().collect();
    row(page, first, columns.iter().map(|it| (*it).to_owned()));
    page.push_str(&"|---".repeat(columns.len() + 1));
    page.push_str("|\n");
}

fn row(page: &mut String, first: &str, cells: impl IntoIterator<Item = String>) {
    // Writing into memory does not fail.
    let _ = write!(page, "| {first} |");
    for cell in cells {
        let _ = write!(page, " {cell} |");
    }
    page.push('\n');
}
