//! Providers and models of the store as parts of the configuration.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::seal::Seal;
use super::shape::{Foreign, Item, Shape};
use crate::config::{Dynamic, Location, Problem};
use crate::store::Record;

/// What the store holds of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shelf {
    pub providers: Vec<Record>,
    pub models: Vec<Record>,
}

/// What a shelf comes to.
#[derive(Clone, Default)]
pub struct Composed {
    pub items: Vec<Dynamic>,
    /// What had to be left out, and why.
    pub left_out: Vec<Problem>,
}

/// What a provider's secrets are sealed for.
pub fn owner(id: &str) -> String {
    format!("providers/{id}")
}

impl Shelf {
    /// What it comes to, with secrets opened. A provider that is disabled, or whose secrets cannot be
    /// read, is left out, and wherever models name it.
    pub fn compose(&self, seal: Option<&Seal>) -> Composed {
        let mut composing = Composing::default();
        for record in &self.providers {
            composing.provider(record, seal);
        }
        for record in &self.models {
            composing.model(record);
        }
        composing.finish()
    }
}

#[derive(Default)]
struct Composing {
    composed: Composed,
    /// Providers that are left out.
    out: BTreeSet<String>,
    /// Models with their ids.
    models: Vec<(String, Map<String, Value>)>,
    /// Targets of the models that LLM Proxy's providers serve, by the name they are asked for by.
    mapped: BTreeMap<String, Vec<Value>>,
    /// Models that are left out, by their names.
    gone: BTreeSet<String>,
}

impl Composing {
    fn provider(&mut self, record: &Record, seal: Option<&Seal>) {
        let id = record.id.as_str();
        let Some(item) = Item::read(&record.body) else {
            return self.leave_out(id, "its record cannot be read");
        };
        if !item.enabled {
            self.out.insert(id.to_owned());
            return;
        }
        let opened = match seal {
            Some(seal) => item.open(seal, &owner(id)).map_err(|error| error.to_string()),
            None => Err("there is no key to open its secrets with".to_owned()),
        };
        let item = match opened {
            Ok(item) => item,
            Err(reason) => return self.leave_out(id, &format!("its secrets: {reason}")),
        };
        let provider = match item.shape {
            Shape::Forebay => named(item.item, id),
            Shape::LlmProxy => {
                let Ok(foreign) = Foreign::read(&item.item) else {
                    return self.leave_out(id, "its record cannot be read");
                };
                for (asked, served) in &foreign.model_mapping {
                    // The same name, or none, is passed on as it is.
                    let model =
                        Some(served).filter(|served| !served.is_empty() && *served != asked);
                    let target =
                        json!({ "provider": id, "weight": foreign.weight, "model": model });
                    self.mapped.entry(asked.clone()).or_default().push(target);
                }
                foreign.provider(id)
            }
        };
        self.add("providers", id, &provider);
    }

    fn model(&mut self, record: &Record) {
        let Some(item) = Item::read(&record.body) else {
            let message = format!("models \"{}\" (store): its record cannot be read", record.id);
            self.composed.left_out.push(Problem::error(Location::default(), message));
            return;
        };
        let name = item.item.get("name").and_then(Value::as_str).map(str::to_owned);
        if item.enabled {
            self.models.push((record.id.clone(), without_id(item.item)));
        } else {
            self.gone.extend(name);
        }
    }

    fn finish(mut self) -> Composed {
        for (name, targets) in std::mem::take(&mut self.mapped) {
            let mut model = Map::new();
            match pattern(&name) {
                Some(regex) => model.insert("match".to_owned(), json!({ "regex": regex })),
                None => model.insert("name".to_owned(), json!(name)),
            };
            model.insert("targets".to_owned(), json!(targets));
            self.models.push((name, model));
        }
        let mut models = std::mem::take(&mut self.models);
        models.retain_mut(|(id, model)| self.keep_served(id, model));
        for (id, mut model) in models {
            if let Some(Value::Array(fallback)) = model.get_mut("fallback") {
                fallback.retain(|name| !name.as_str().is_some_and(|it| self.gone.contains(it)));
            }
            self.add("models", &id, &model);
        }
        self.composed
    }

    /// Takes targets at providers that are left out away; whether the model is still served.
    fn keep_served(&mut self, id: &str, model: &mut Map<String, Value>) -> bool {
        let Some(Value::Array(targets)) = model.get_mut("targets") else { return true };
        let before = targets.len();
        let provider = |target: &Value| target.get("provider")?.as_str().map(str::to_owned);
        targets.retain(|target| !provider(target).is_some_and(|name| self.out.contains(&name)));
        if !targets.is_empty() || before == 0 {
            return true;
        }
        let name = model.get("name").and_then(Value::as_str);
        self.gone.extend(name.map(str::to_owned));
        let message = format!("models \"{id}\" (store): no provider that serves it is in force");
        self.composed.left_out.push(Problem::warning(Location::default(), message));
        false
    }

    fn add(&mut self, section: &'static str, id: &str, item: &Map<String, Value>) {
        let text = Value::Object(item.clone()).to_string();
        self.composed.items.push(Dynamic { section, id: id.to_owned(), text });
    }

    fn leave_out(&mut self, id: &str, reason: &str) {
        self.out.insert(id.to_owned());
        let message = format!("providers \"{id}\" (store): {reason}");
        self.composed.left_out.push(Problem::error(Location::default(), message));
    }
}

/// The item under the name it is known by.
fn named(item: Map<String, Value>, id: &str) -> Map<String, Value> {
    let mut item = without_id(item);
    item.insert("name".to_owned(), json!(id));
    if let Some(key) = item.remove("api_key") {
        item.entry("api_keys").or_insert(key);
    }
    item
}

fn without_id(mut item: Map<String, Value>) -> Map<String, Value> {
    item.remove("id");
    item
}

/// A name of LLM Proxy's that stands for many, as an expression for whole names.
fn pattern(name: &str) -> Option<String> {
    let regex = [".*", ".+", "[", "(", "|", "^", "$", "\\"].iter().any(|mark| name.contains(mark));
    if regex {
        return Some(format!("^(?:{name})$"));
    }
    let parts: Vec<String> = name.split('*').map(regex::escape).collect();
    (parts.len() > 1).then(|| format!("^{}$", parts.join(".*")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn seal() -> Seal {
        Seal::new(&Secret::new("a passphrase of the tests")).unwrap()
    }

    fn record(id: &str, item: &Value, sealed_with: &Seal) -> Record {
        let item = Item::of(item.as_object().unwrap().clone()).unwrap();
        let body = item.seal(sealed_with, &owner(id), None).unwrap().to_body();
        Record { id: id.to_owned(), version: 1, handle: None, body, updated_at: 0 }
    }

    fn foreign(id: &str, mapping: &Value, weight: u32) -> Value {
        json!({
            "id": id, "provider_type": "openai", "api_base": "https://example.com/v1",
            "api_key": "fake-upstream-key", "model_mapping": mapping, "weight": weight,
        })
    }

    fn texts(composed: &Composed) -> Vec<(&'static str, String, Value)> {
        let item = |item: &Dynamic| {
            (item.section, item.id.clone(), serde_json::from_str(&item.text).unwrap())
        };
        composed.items.iter().map(item).collect()
    }

    #[test]
    fn providers_that_map_the_same_name_share_it_by_weight() {
        let seal = seal();
        let shelf = Shelf {
            providers: vec![
                record("a", &foreign("a", &json!({"gpt-4": "big"}), 2), &seal),
                record("b", &foreign("b", &json!({"gpt-4": "gpt-4", "x-*": ""}), 1), &seal),
            ],
            models: Vec::new(),
        };
        let composed = shelf.compose(Some(&seal));
        assert!(composed.left_out.is_empty());
        let texts = texts(&composed);
        let ids: Vec<&str> = texts.iter().map(|(_, id, _)| id.as_str()).collect();
        assert_eq!(ids, ["a", "b", "gpt-4", "x-*"]);
        let targets = json!([
            {"provider": "a", "weight": 2, "model": "big"},
            {"provider": "b", "weight": 1, "model": null},
        ]);
        assert_eq!(texts[2].2, json!({"name": "gpt-4", "targets": targets}));
        assert_eq!(texts[3].2["match"], json!({"regex": "^x\\-.*$"}));
    }

    #[test]
    fn a_provider_that_cannot_be_read_takes_nothing_else_along() {
        let (seal, other) = (seal(), Seal::new(&Secret::new("another passphrase")).unwrap());
        let ours =
            json!({"name": "lost", "kind": "vllm", "base_url": "http://x", "api_keys": "fake"});
        let stays = json!({"name": "stays", "kind": "mock"});
        let both = json!({"name": "both", "targets": [{"provider": "lost"}, {"provider": "stays"}],
            "fallback": ["only"]});
        let only = json!({"name": "only", "targets": [{"provider": "lost"}]});
        let shelf = Shelf {
            providers: vec![record("lost", &ours, &other), record("stays", &stays, &seal)],
            models: vec![record("both", &both, &seal), record("only", &only, &seal)],
        };
        let composed = shelf.compose(Some(&seal));
        let texts = texts(&composed);
        let left = [
            ("providers", "stays".to_owned(), stays),
            (
                "models",
                "both".to_owned(),
                json!({"name": "both", "targets": [{"provider": "stays"}],
                "fallback": []}),
            ),
        ];
        assert_eq!(texts, left);
        let said: Vec<&str> = composed.left_out.iter().map(|one| one.message.as_str()).collect();
        assert!(said[0].contains("providers \"lost\" (store)") && said[0].contains("another key"));
        assert!(said[1].contains("models \"only\""), "{said:?}");
    }

    #[test]
    fn what_is_disabled_is_no_mistake() {
        let seal = seal();
        let off = json!({"name": "off", "kind": "mock", "enabled": false});
        let shelf = Shelf { providers: vec![record("off", &off, &seal)], models: Vec::new() };
        let composed = shelf.compose(Some(&seal));
        assert!(composed.items.is_empty() && composed.left_out.is_empty());
    }
}
