//! A configuration as it could be put into force: a file, with what the store adds to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::assemble;
use super::certificates::Fresh;
use super::waiting::waiting;
use crate::admin::dynamic::Shelf;
use crate::admin::seal::Seal;
use crate::config::{Config, Location, Problem, Problems, Source, Stamp, load};
use crate::snapshot::{Origin, Snapshot};

/// What a configuration is put together of.
#[derive(Clone)]
pub struct Candidate {
    pub source: Arc<Source>,
    pub shelf: Shelf,
    /// Where relative paths begin.
    pub folder: PathBuf,
    /// What the process was started with.
    pub started: Arc<Config>,
    pub before: Arc<Snapshot>,
}

/// A configuration that can be put into force.
pub struct Ready {
    pub snapshot: Snapshot,
    pub certificates: Fresh,
    pub warnings: Problems,
    /// What of the store had to be left out.
    pub left_out: Vec<String>,
}

impl Candidate {
    /// Puts it together. `stamp` gathers how the files looked before that are read for it.
    ///
    /// # Errors
    ///
    /// Every mistake, as `forebay check` tells them.
    pub fn build(&self, stamp: &mut Stamp) -> Result<Ready, Problems> {
        let (config, composed) = self.load()?;
        self.finish(config, composed, stamp)
    }

    /// The same, but what is wrong in the store is left out, for a process that has nothing in force
    /// yet: one bad record must not keep all the others from serving.
    pub fn build_what_holds(&self, stamp: &mut Stamp) -> Result<Ready, Problems> {
        let mut left_out = Vec::new();
        let mut candidate = self.clone();
        loop {
            let problems = match candidate.build(stamp) {
                Ok(mut ready) => {
                    ready.left_out.extend(left_out);
                    return Ok(ready);
                }
                Err(problems) => problems,
            };
            let messages = problems.as_slice().iter().filter(|problem| problem.is_error());
            let messages: Vec<String> = messages.map(|problem| problem.message.clone()).collect();
            if !candidate.take_out(&messages) {
                return Err(problems);
            }
            left_out.extend(messages);
        }
    }

    /// Takes what mistakes are about off the shelf; whether there was anything.
    fn take_out(&mut self, messages: &[String]) -> bool {
        let is_about = |section: &str, id: &str| {
            let name = format!("{section} \"{id}\" (store): ");
            messages.iter().any(|message| message.starts_with(&name))
        };
        let before = self.shelf.providers.len() + self.shelf.models.len();
        self.shelf.models.retain(|record| !is_about("models", &record.id));
        // A provider in LLM Proxy's shape has models of its own, which are named by their names.
        let mapped = |body: &str| {
            let item = crate::admin::shape::Item::read(body);
            let names = item.and_then(|item| item.item.get("model_mapping")?.as_object().cloned());
            names.is_some_and(|names| names.keys().any(|name| is_about("models", name)))
        };
        self.shelf
            .providers
            .retain(|record| !is_about("providers", &record.id) && !mapped(&record.body));
        self.shelf.providers.len() + self.shelf.models.len() < before
    }

    /// Reads the file, and behind it what the store adds, where it may.
    fn load(&self) -> Result<(Config, Composed), Problems> {
        let path = self.source.path.as_deref();
        let mut source = Source::clone(&self.source);
        source.dynamic = Vec::new();
        let named = |problems| Problems::new(path, problems);
        let (config, warnings) = load(&source).map_err(named)?;
        if !config.store.as_ref().is_some_and(|store| store.dynamic) {
            return Ok((config, Composed { warnings: named(warnings), left_out: Vec::new() }));
        }
        let composed = self.shelf.compose(Seal::of(&config).ok().as_ref());
        source.dynamic = composed.items;
        let (config, mut warnings) = load(&source).map_err(named)?;
        let left_out = composed.left_out.iter().filter(|problem| problem.is_error());
        let left_out = left_out.map(|problem| problem.message.clone()).collect();
        warnings.extend(composed.left_out);
        Ok((config, Composed { warnings: named(warnings), left_out }))
    }

    fn finish(
        &self,
        mut config: Config,
        composed: Composed,
        stamp: &mut Stamp,
    ) -> Result<Ready, Problems> {
        let mistake = |message: String| one(self.source.path.as_deref(), message);
        config.anchor(&self.folder);
        *stamp = std::mem::take(stamp).with(Stamp::of(config.files()));
        keep_closed(&self.started, &self.before.config, &config).map_err(mistake)?;
        keep_serving(&config).map_err(mistake)?;
        let mut origin = Origin::of(&self.source.text);
        origin.waiting = waiting(&self.started, &config);
        let assembled = assemble(config, origin, Some(&self.before));
        let (snapshot, certificates) = assembled.map_err(|error| mistake(error.to_string()))?;
        let Composed { warnings, left_out } = composed;
        Ok(Ready { snapshot, certificates, warnings, left_out })
    }
}

struct Composed {
    warnings: Problems,
    left_out: Vec<String>,
}

/// Listeners stay where they are until an upgrade: a file that needs no keys because it listens on
/// loopback must not open those that listen elsewhere.
fn keep_closed(started: &Config, before: &Config, config: &Config) -> Result<(), String> {
    if config.anonymous || !config.open() {
        return Ok(());
    }
    if let Some(listen) = started.listen.iter().find(|listen| !listen.is_loopback()) {
        return Err(format!(
            "no key is needed, and until an upgrade {} can be reached from outside",
            listen.address
        ));
    }
    // Who takes the last key out means to let nobody in, not everybody.
    if !before.open() {
        return Err(
            "the last key is gone, and nobody would need one: `anonymous: true` says that \
                    this is meant"
                .to_owned(),
        );
    }
    Ok(())
}

/// A file that was cut off can be a valid one that says nothing: at a start it serves nobody, and
/// nobody is served yet.
fn keep_serving(config: &Config) -> Result<(), String> {
    let elsewhere = config.store.as_ref().is_some_and(|store| store.dynamic);
    if config.models.is_empty() && config.default_provider.is_none() && !elsewhere {
        return Err("nothing is left to ask for: no `models`, and no `default_provider`".to_owned());
    }
    Ok(())
}

/// The one thing that is wrong.
pub fn one(path: Option<&Path>, message: impl Into<String>) -> Problems {
    Problems::new(path, vec![Problem::error(Location::default(), message)])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::admin::shape::Item;
    use crate::config::Listen;
    use crate::store::Record;

    #[test]
    fn a_listener_that_is_open_to_the_world_keeps_its_keys() {
        let loopback = Config::default();
        let outside = Config {
            listen: vec![Listen::plain("0.0.0.0:80".parse().unwrap())],
            ..Config::default()
        };
        let anonymous = Config { anonymous: true, ..Config::default() };
        assert!(keep_closed(&loopback, &loopback, &loopback).is_ok());
        let said = keep_closed(&outside, &loopback, &loopback).unwrap_err();
        assert!(said.contains("0.0.0.0:80"), "{said}");
        assert!(keep_closed(&outside, &outside, &anonymous).is_ok());
    }

    #[test]
    fn without_its_last_key_a_gateway_does_not_open() {
        let text = "keys: [{ name: a, key: 0123456789abcdef }]".to_owned();
        let keyed = load(&Source { text, ..Source::default() }).unwrap().0;
        let none = Config::default();
        let said = keep_closed(&none, &keyed, &none).unwrap_err();
        assert!(said.contains("`anonymous: true`"), "{said}");
        let meant = Config { anonymous: true, ..Config::default() };
        assert!(keep_closed(&none, &keyed, &meant).is_ok());
        assert!(keep_closed(&none, &keyed, &keyed).is_ok());
    }

    const FILE: &str = r#"
admin: { listen: "127.0.0.1:1", key: 0123456789abcdef }
store: { dynamic: true }
providers: [{ name: of-the-file, kind: mock }]
models: [{ name: m, targets: [{ provider: of-the-file }] }]
"#;

    fn record(id: &str, item: &Value) -> Record {
        let body = Item::of(item.as_object().unwrap().clone()).unwrap().to_body();
        Record { id: id.to_owned(), version: 1, handle: None, body, updated_at: 0 }
    }

    fn candidate(providers: Vec<Record>, models: Vec<Record>) -> Candidate {
        let source = Source { text: FILE.to_owned(), ..Source::default() };
        let started = load(&source).unwrap().0;
        let before = Snapshot::compile(started.clone(), Origin::default(), None).unwrap();
        Candidate {
            source: Arc::new(source),
            shelf: Shelf { providers, models },
            folder: PathBuf::from("/"),
            started: Arc::new(started),
            before: Arc::new(before),
        }
    }

    fn names(ready: &Ready) -> (Vec<&str>, Vec<&str>) {
        let config = &ready.snapshot.config;
        let models = config.models.iter().filter_map(|model| model.name.as_deref());
        (config.providers.iter().map(|it| it.name.as_str()).collect(), models.collect())
    }

    #[test]
    fn what_the_store_adds_stands_behind_the_file() {
        let candidate = candidate(
            vec![record("p", &json!({"name": "p", "kind": "mock"}))],
            vec![record("n", &json!({"name": "n", "targets": [{"provider": "p"}]}))],
        );
        let ready = candidate.build(&mut Stamp::default()).unwrap();
        assert_eq!(names(&ready), (vec!["of-the-file", "p"], vec!["m", "n"]));
    }

    #[test]
    fn a_mistake_in_the_store_is_one_of_the_whole_but_at_the_start() {
        let bad = record("bad", &json!({"name": "bad", "kind": "mock", "colour": "red"}));
        let twin = record("of-the-file", &json!({"name": "of-the-file", "kind": "mock"}));
        let good = record("good", &json!({"name": "good", "kind": "mock"}));
        let needs = record("n", &json!({"name": "n", "targets": [{"provider": "bad"}]}));
        let candidate = candidate(vec![bad, twin, good], vec![needs]);
        let mistakes = candidate.build(&mut Stamp::default()).err().unwrap().to_string();
        assert!(mistakes.contains("providers \"bad\" (store): "), "{mistakes}");
        assert!(mistakes.contains("colour"), "{mistakes}");
        let ready = candidate.build_what_holds(&mut Stamp::default()).ok().unwrap();
        assert_eq!(names(&ready), (vec!["of-the-file", "good"], vec!["m"]));
        assert!(ready.left_out.len() >= 3, "{:?}", ready.left_out);
    }
}
