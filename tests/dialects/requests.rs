//! Every request, as every provider gets it.

use forebay::config::{Dialect, RequestEdits, Translation};
use forebay::protocol::Task;
use forebay::protocol::canonical::{Asked, Field, Invalid, Target};
use forebay::protocol::translate::{Call, Route, Translated, translate};

use crate::cases::paths;
use crate::golden::Golden;
use crate::providers::{PROVIDERS, Provider, REASONERS, SCHEMATISTS};
use crate::{DIALECTS, asking, crossing, readable, root};

/// A client's request.
struct Request {
    name: String,
    client: Dialect,
    body: Vec<u8>,
}

impl Request {
    /// Whose models it is written for.
    fn providers(&self) -> Vec<Provider> {
        let others: &[Provider] = match &self.name {
            name if name.ends_with("reasoning") => &REASONERS,
            name if name.contains("schema") => &SCHEMATISTS,
            _ => &[],
        };
        [&PROVIDERS, others].concat()
    }
}

/// All of `asked/`, whose names begin with the client's dialect.
fn requests() -> Vec<Request> {
    let read = |path: std::path::PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let (dialect, _) = name.split_once('-').unwrap();
        let client = DIALECTS.iter().find(|(_, known)| *known == dialect).expect("a dialect").0;
        let body = readable::compact(&std::fs::read_to_string(path).unwrap()).into_bytes();
        Request { name, client, body }
    };
    paths(&root().join("tests/dialects/asked")).into_iter().map(read).collect()
}

/// A client's request in the provider's dialect.
pub fn written(
    client: Dialect,
    body: &[u8],
    to: Provider,
    translation: Translation,
) -> Result<Translated, Invalid> {
    let (rules, edits) = (to.rules(), RequestEdits::default());
    let route = Route {
        client,
        provider: to.dialect,
        kind: to.kind,
        asked: Asked { model: Some(asking::MODEL), stream: false },
        target: Target { model: to.model, rules: &rules },
        translation,
        edits: &edits,
    };
    translate(body, Call { task: Task::Generate, several: false }, &route, crossing::told())
}

#[test]
fn every_request_reaches_every_provider_as_its_file_says() {
    let mut golden = Golden::default();
    for request in requests() {
        for provider in request.providers() {
            let cell = match written(request.client, &request.body, provider, Translation::Lenient)
            {
                Ok(Translated { body, dropped, .. }) => {
                    let dropped =
                        if dropped.is_empty() { "nothing".to_owned() } else { dropped.join(", ") };
                    let body = readable::json(std::str::from_utf8(&body).unwrap());
                    format!("{}, dropped: {dropped}\n{body}", provider.model)
                }
                Err(Invalid::Unsupported { param, why }) => {
                    format!("unsupported: {param}: {why}\n")
                }
                Err(Invalid::Request { param, message }) => {
                    format!("invalid: {param}: {message}\n")
                }
            };
            golden.hold(&format!("ask-{}", request.name), provider.name, &cell);
        }
    }
    golden.done(|folder| folder.starts_with("ask-"));
}

#[test]
fn strict_refuses_what_lenient_drops_but_for_hints_and_changes_nothing_else() {
    for request in requests() {
        for provider in request.providers() {
            let ask = |translation| written(request.client, &request.body, provider, translation);
            let cell = format!("{} for {}", request.name, provider.name);
            let hints: Vec<&str> = Field::ALL
                .iter()
                .filter(|it| it.is_hint())
                .map(|it| it.name(request.client))
                .collect();
            let is_loss = |name: &&String| !hints.contains(&name.as_str());
            match (ask(Translation::Lenient), ask(Translation::Strict)) {
                (Ok(lenient), Ok(strict)) => {
                    assert_eq!(lenient.dropped.iter().find(is_loss), None, "{cell}");
                    assert_eq!(lenient.dropped, strict.dropped, "{cell}");
                    assert_eq!(lenient.body, strict.body, "{cell}");
                }
                (Ok(lenient), Err(Invalid::Unsupported { param, .. })) => {
                    assert_eq!(lenient.dropped.iter().find(is_loss), Some(&param), "{cell}");
                }
                (Err(_), Err(_)) => {}
                (lenient, strict) => panic!("{cell}: {lenient:?} and {strict:?}"),
            }
        }
    }
}
