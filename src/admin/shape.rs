//! A provider as operators write it, and as it lies in the store: in our shape or in LLM Proxy's, its
//! secrets apart.

use std::cell::Cell;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::refusal::Refusal;
use super::seal::{Seal, SealError};
use crate::config::Secret;

/// Members only LLM Proxy's shape has.
const FOREIGN: [&str; 4] = ["provider_type", "provider_key", "api_base", "model_mapping"];
/// Members that are secrets, or lists or maps of them.
const SECRET: [&str; 7] = [
    "api_key",
    "api_keys",
    "headers",
    "access_key_id",
    "secret_access_key",
    "session_token",
    "client_secret",
];
/// Members that neither say where a provider is nor who is believed to be it. All others do, those of
/// which nothing is known here as well; addresses are looked at one by one.
const STAYS: [&str; 12] = [
    "id",
    "name",
    "base_url",
    "endpoints",
    "api_version",
    "client_auth",
    "dialect",
    "ejection",
    "health_check",
    "load_balancing",
    "mock",
    "timeouts",
];
/// What a masked secret begins with.
const MASK: char = '…';

/// The body of a provider's or a model's record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Item {
    pub shape: Shape,
    /// What is not enabled is not part of the configuration.
    pub enabled: bool,
    /// As it was given; its secrets are sealed.
    pub item: Map<String, Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// As in the configuration's file.
    Forebay,
    LlmProxy,
}

/// A provider in LLM Proxy's words.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Foreign {
    #[serde(default, alias = "provider_key")]
    pub id: String,
    #[serde(default = "openai")]
    pub provider_type: String,
    pub api_base: String,
    #[serde(default)]
    pub api_key: Option<String>,
    #[serde(default)]
    pub model_mapping: BTreeMap<String, String>,
    #[serde(default = "yes")]
    pub is_enabled: bool,
    #[serde(default = "one")]
    pub weight: u32,
}

fn openai() -> String {
    "openai".to_owned()
}

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}

// === impl Item ===

impl Item {
    /// Reads what an operator has sent for the provider or model `id`. Its secrets are plain.
    pub fn of(mut item: Map<String, Value>) -> Result<Self, Refusal> {
        let foreign = FOREIGN.iter().any(|name| item.contains_key(*name));
        let shape = if foreign { Shape::LlmProxy } else { Shape::Forebay };
        if shape == Shape::LlmProxy {
            if let Some(id) = item.remove("provider_key") {
                item.entry("id").or_insert(id);
            }
            let read = serde_path_to_error::deserialize::<_, Foreign>(Value::Object(item.clone()));
            read.map_err(|error| Refusal::unreadable(&error.path().to_string(), error.inner()))?;
        }
        let enabled = match (item.remove("is_enabled"), item.remove("enabled")) {
            (None, None) => true,
            (Some(Value::Bool(enabled)), None) | (None, Some(Value::Bool(enabled))) => enabled,
            (Some(_), Some(_)) => {
                let message = "Give `enabled` or `is_enabled`, not both.";
                return Err(Refusal::invalid(Some("enabled"), message));
            }
            _ => return Err(Refusal::invalid(Some("enabled"), "`enabled` must be true or false.")),
        };
        Ok(Self { shape, enabled, item })
    }

    /// Reads the body of a record.
    pub fn read(body: &str) -> Option<Self> {
        serde_json::from_str(body).ok()
    }

    pub fn to_body(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Seals its secrets for `owner`. Those that `before` could not open either stay as they are.
    pub fn seal(&self, seal: &Seal, owner: &str, before: Option<&Self>) -> Result<Self, SealError> {
        let known = before.map(Self::secrets).unwrap_or_default();
        self.with_secrets(|text| match Seal::is_sealed(text) {
            true if known.iter().any(|known| known == text) => Ok(text.to_owned()),
            // Nobody can bring in what another has sealed.
            true => Err(SealError::OtherKey),
            false => seal.seal(owner, text),
        })
    }

    /// Opens its secrets.
    pub fn open(&self, seal: &Seal, owner: &str) -> Result<Self, SealError> {
        self.with_secrets(|text| Ok(seal.open(owner, text)?.expose().to_owned()))
    }

    /// Opens its secrets but for those that were sealed with another key, which stay sealed.
    #[must_use]
    pub fn opened_where_possible(&self, seal: &Seal, owner: &str) -> Self {
        self.with_each_secret(|text| {
            let opened = seal.open(owner, text);
            opened.map_or_else(|_| text.to_owned(), |secret| secret.expose().to_owned())
        })
    }

    /// For eyes: of a secret only the last four characters, of a sealed one nothing.
    #[must_use]
    pub fn masked(&self) -> Self {
        self.with_each_secret(hint)
    }

    /// Puts the secrets of `before` where masked ones were sent back, and where none were sent. The
    /// members that have some of them now.
    pub fn restore(
        &mut self,
        before: &Self,
        absent_too: bool,
    ) -> Result<Vec<&'static str>, Refusal> {
        let known: Vec<String> = before.secrets();
        let mut restored = self.clone();
        let mut kept = Vec::new();
        for name in SECRET {
            let Some(value) = restored.item.get_mut(name) else { continue };
            let place = before.item.get(name);
            let any = Cell::new(false);
            restore_texts(value, place, &|masked, there| {
                any.set(true);
                // Two may look the same: what stood in the same place goes first.
                if let Some(there) = there.filter(|there| hint(there) == masked) {
                    return Ok(there.to_owned());
                }
                let mut alike: Vec<&String> =
                    known.iter().filter(|known| hint(known) == masked).collect();
                alike.dedup();
                match alike.as_slice() {
                    [one] => Ok((*one).clone()),
                    [] => Err("A masked secret was sent that is none of those there are."),
                    _ => Err("A masked secret was sent that could be several: send it in full."),
                }
            })
            .map_err(|message| Refusal::invalid(Some("api_keys"), message))?;
            kept.extend(any.get().then_some(name));
        }
        *self = restored;
        let none = !self.item.contains_key("api_key") && !self.item.contains_key("api_keys");
        if absent_too && none {
            for name in ["api_key", "api_keys"] {
                if let Some(value) = before.item.get(name) {
                    let name = if self.shape == Shape::LlmProxy { "api_key" } else { name };
                    self.item.insert(name.to_owned(), value.clone());
                    kept.push(name);
                }
            }
        }
        Ok(kept)
    }

    /// The member by which requests, and the secrets in them, go where they did not go `before`.
    pub fn leads_elsewhere(&self, before: &Self) -> Option<String> {
        let (now, before) = (self.in_our_shape(), before.in_our_shape());
        let (addresses, known) = (addresses(&now), addresses(&before));
        if addresses.is_empty() != known.is_empty()
            || addresses.iter().any(|address| !known.contains(address))
        {
            let listed = now.contains_key("endpoints");
            return Some(if listed { "endpoints" } else { "base_url" }.to_owned());
        }
        let mut names = now.keys().chain(before.keys());
        let stays = |name: &str| STAYS.contains(&name) || SECRET.contains(&name);
        let is = |members: &Map<String, Value>, name: &str| {
            members.get(name).filter(|value| is_something(value)).cloned()
        };
        names.find(|name| !stays(name) && is(&now, name) != is(&before, name)).cloned()
    }

    fn in_our_shape(&self) -> Map<String, Value> {
        match Foreign::read(&self.item) {
            Ok(foreign) if self.shape == Shape::LlmProxy => foreign.provider(""),
            _ => self.item.clone(),
        }
    }

    /// Whether it names variables of this process's environment, which hold more than providers' keys.
    pub fn names_variables(&self) -> bool {
        self.secrets().iter().any(|text| text.starts_with("${"))
    }

    /// Whether it would be called as whoever this machine is to its cloud, which trusts that machine with
    /// more than this provider.
    pub fn is_called_as_the_machine(&self) -> bool {
        let has = |name: &str| self.item.get(name).is_some_and(is_something);
        match self.item.get("kind").and_then(Value::as_str) {
            Some("vertex") => !has("api_keys"),
            Some("bedrock") => !has("api_keys") && !has("access_key_id"),
            _ => has("managed_identity"),
        }
    }

    /// Every secret it has.
    fn secrets(&self) -> Vec<String> {
        let found = std::cell::RefCell::new(Vec::new());
        let _same = self.with_secrets(|text| {
            found.borrow_mut().push(text.to_owned());
            Ok::<_, std::convert::Infallible>(text.to_owned())
        });
        found.into_inner()
    }

    /// … which cannot fail.
    fn with_each_secret(&self, change: impl Fn(&str) -> String) -> Self {
        match self.with_secrets(|text| Ok::<_, std::convert::Infallible>(change(text))) {
            Ok(changed) => changed,
            Err(never) => match never {},
        }
    }

    /// The same with `change` made to every secret. Empty ones are none.
    fn with_secrets<E>(&self, change: impl Fn(&str) -> Result<String, E>) -> Result<Self, E> {
        let mut changed = self.clone();
        for name in SECRET {
            if let Some(value) = changed.item.get_mut(name) {
                change_texts(value, &change)?;
            }
        }
        Ok(changed)
    }
}

/// What is shown of a secret, sealed or not.
fn hint(secret: &str) -> String {
    if Seal::is_sealed(secret) { MASK.to_string() } else { Secret::new(secret).hint() }
}

fn change_texts<E>(
    value: &mut Value,
    change: &impl Fn(&str) -> Result<String, E>,
) -> Result<(), E> {
    match value {
        Value::String(text) if !text.is_empty() => *text = change(text)?,
        Value::Array(values) => {
            for value in values {
                change_texts(value, change)?;
            }
        }
        Value::Object(members) => {
            for value in members.values_mut() {
                change_texts(value, change)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Puts in the place of each masked text what `find` gives for it and for the text that stood in the
/// same place before.
fn restore_texts(
    value: &mut Value,
    before: Option<&Value>,
    find: &impl Fn(&str, Option<&str>) -> Result<String, &'static str>,
) -> Result<(), &'static str> {
    match value {
        Value::String(text) if text.starts_with(MASK) => {
            *text = find(text, before.and_then(Value::as_str))?;
        }
        Value::Array(values) => {
            for (place, value) in values.iter_mut().enumerate() {
                restore_texts(value, before.and_then(|before| before.get(place)), find)?;
            }
        }
        Value::Object(members) => {
            for (name, value) in members.iter_mut() {
                restore_texts(value, before.and_then(|before| before.get(name)), find)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Every address a provider is called at.
fn addresses(provider: &Map<String, Value>) -> Vec<&str> {
    let one = provider.get("base_url");
    let several = provider.get("endpoints").and_then(Value::as_array);
    let several = several.into_iter().flatten().map(|it| it.get("url").unwrap_or(it));
    one.into_iter().chain(several).filter_map(Value::as_str).collect()
}

/// Whether there is anything in it: an empty text, as a list of such, is as good as none.
fn is_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty() && text != "false",
        Value::Array(values) => values.iter().any(is_something),
        Value::Object(members) => !members.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

// === impl Foreign ===

impl Foreign {
    pub fn read(item: &Map<String, Value>) -> serde_json::Result<Self> {
        serde_json::from_value(Value::Object(item.clone()))
    }

    /// The same provider in our shape.
    pub fn provider(&self, name: &str) -> Map<String, Value> {
        let keys: Vec<&String> = self.api_key.iter().filter(|key| !key.is_empty()).collect();
        let members = json!({
            "name": name, "kind": self.kind(), "base_url": self.api_base, "api_keys": keys,
        });
        match members {
            Value::Object(members) => members,
            _ => Map::new(),
        }
    }

    /// Its type in our words; one that is not known stays, to be refused by the check.
    fn kind(&self) -> &str {
        match self.provider_type.as_str() {
            "openai" if is_openai(&self.api_base) => "openai",
            "openai" | "custom" => "openai_compatible",
            "azure_openai" => "azure",
            "claude" => "anthropic",
            "gcp-vertex" => "vertex",
            other => other,
        }
    }
}

fn is_openai(base: &str) -> bool {
    let host = base.split_once("://").map_or(base, |(_, rest)| rest);
    host.split(['/', ':']).next() == Some("api.openai.com")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(value: &Value) -> Item {
        Item::of(value.as_object().unwrap().clone()).unwrap()
    }

    fn seal() -> Seal {
        Seal::new(&Secret::new("a passphrase of the tests")).unwrap()
    }

    #[test]
    fn the_shape_is_told_by_its_words() {
        let ours = item(&json!({"name": "a", "kind": "mock", "enabled": false}));
        assert!(ours.shape == Shape::Forebay && !ours.enabled);
        let theirs = item(&json!({"id": "a", "api_base": "https://api.openai.com/v1"}));
        assert!(theirs.shape == Shape::LlmProxy && theirs.enabled);
    }

    #[test]
    fn who_has_no_key_of_its_own_is_called_as_the_machine() {
        let is = |value: Value| item(&value).is_called_as_the_machine();
        assert!(is(json!({"kind": "vertex"})) && is(json!({"kind": "bedrock"})));
        assert!(is(json!({"kind": "vertex", "api_keys": ["", null]})));
        assert!(is(json!({"kind": "bedrock", "access_key_id": ""})));
        assert!(is(json!({"kind": "azure", "managed_identity": "true"})));
        assert!(!is(json!({"kind": "vertex", "api_keys": "k"})));
        assert!(!is(json!({"kind": "bedrock", "access_key_id": "a"})));
        assert!(!is(json!({"kind": "azure", "managed_identity": false})));
        assert!(!is(json!({"kind": "vllm"})));
    }

    #[test]
    fn sealed_opened_and_masked() {
        let given = item(&json!({
            "name": "a", "base_url": "http://x", "api_keys": ["fake-key-number-1", "fake-key-number-2"],
            "headers": {"x-secret": "fake-header-value"},
        }));
        let sealed = given.seal(&seal(), "providers/a", None).unwrap();
        assert!(!sealed.to_body().contains("fake"), "{}", sealed.to_body());
        assert_eq!(sealed.open(&seal(), "providers/a").unwrap().item, given.item);
        assert!(sealed.open(&seal(), "providers/b").is_err());
        let shown = given.masked().to_body();
        assert!(shown.contains("…er-1") && !shown.contains("fake"), "{shown}");
        assert!(!sealed.masked().to_body().contains("sealed"));
    }

    #[test]
    fn nobody_brings_in_what_another_has_sealed() {
        let sealed = seal().seal("providers/a", "fake").unwrap();
        let given = item(&json!({"name": "b", "api_keys": [sealed]}));
        assert!(given.seal(&seal(), "providers/b", None).is_err());
        let other = item(&json!({"name": "b", "api_keys": ["fake-upstream-key"]}));
        assert!(given.seal(&seal(), "providers/b", Some(&other)).is_err());
    }

    #[test]
    fn what_cannot_be_opened_stays_sealed_through_a_change() {
        let given =
            json!({"name": "a", "api_keys": ["fake-key-number-1"], "headers": {"x": "fake"}});
        let stored = item(&given).seal(&seal(), "providers/a", None).unwrap();
        let other = Seal::new(&Secret::new("another passphrase of the tests")).unwrap();
        let before = stored.opened_where_possible(&other, "providers/a");
        assert_eq!(before.item, stored.item);
        // Sent back as it is shown, and with one of the two secrets given anew.
        let mut back = before.masked();
        back.item.insert("headers".to_owned(), json!({"x": "new"}));
        back.restore(&before, false).unwrap();
        let again = back.seal(&other, "providers/a", Some(&before)).unwrap();
        assert_eq!(again.item["api_keys"], stored.item["api_keys"]);
        let opened = again.opened_where_possible(&other, "providers/a");
        assert_eq!(opened.item["headers"], json!({"x": "new"}));
    }

    #[test]
    fn a_masked_secret_that_comes_back_is_the_one_it_was() {
        let before =
            item(&json!({"name": "a", "api_keys": ["fake-key-number-1", "fake-key-number-2"]}));
        let mut back = item(&json!({"name": "a", "api_keys": ["…er-2", "fake-key-number-3"]}));
        back.restore(&before, true).unwrap();
        assert_eq!(back.item["api_keys"], json!(["fake-key-number-2", "fake-key-number-3"]));
        let mut silent = item(&json!({"name": "a"}));
        silent.restore(&before, true).unwrap();
        assert_eq!(silent.item["api_keys"], before.item["api_keys"]);
        let mut wrong = item(&json!({"name": "a", "api_keys": "…nope"}));
        assert!(wrong.restore(&before, true).is_err());
    }

    #[test]
    fn a_provider_leads_elsewhere_by_its_address_its_kind_and_whom_it_believes() {
        let given = json!({"name": "a", "kind": "vllm", "endpoints": [{"url": "http://x"},
            {"url": "http://y", "weight": 2}], "tls": {"verify": true}, "api_keys": "fake"});
        let before = item(&given);
        let by = |change: Value| {
            let mut members = given.as_object().unwrap().clone();
            super::super::given::merge(&mut members, change.as_object().unwrap().clone());
            item(&Value::Object(members)).leads_elsewhere(&before)
        };
        for change in [
            json!({"endpoints": [{"url": "http://y", "weight": 3}]}),
            json!({"endpoints": null, "base_url": "http://x"}),
            json!({"api_keys": "other", "timeouts": {"connect": "1s"}, "enabled": false}),
        ] {
            assert_eq!(by(change.clone()), None, "{change}");
        }
        for (change, name) in [
            (json!({"endpoints": [{"url": "http://x"}, {"url": "http://z"}]}), "endpoints"),
            (json!({"endpoints": null, "base_url": "http://z"}), "base_url"),
            (json!({"endpoints": null}), "base_url"),
            (json!({"kind": "openai"}), "kind"),
            (json!({"tls": {"verify": false}}), "tls"),
            (json!({"tls": null}), "tls"),
            (json!({"what_is_yet_to_come": 1}), "what_is_yet_to_come"),
        ] {
            assert_eq!(by(change.clone()).as_deref(), Some(name), "{change}");
        }
        let theirs = |base: &str| item(&json!({"id": "a", "api_base": base, "api_key": "fake"}));
        let of_store = theirs("https://api.openai.com/v1");
        assert_eq!(of_store.leads_elsewhere(&of_store), None);
        let moved = theirs("https://example.com/v1");
        assert_eq!(moved.leads_elsewhere(&of_store).as_deref(), Some("base_url"));
    }

    #[test]
    fn secrets_that_look_the_same_stay_in_their_places() {
        let headers = json!({"x-a": "first", "x-b": "second"});
        let before = item(&json!({"name": "a", "headers": headers}));
        let mut back = before.masked();
        assert_eq!(back.item["headers"]["x-a"], back.item["headers"]["x-b"]);
        back.restore(&before, true).unwrap();
        assert_eq!(back.item["headers"], headers);
        let mut moved = item(&json!({"name": "a", "headers": {"x-c": "…"}}));
        assert!(moved.restore(&before, true).is_err(), "which of the two?");
    }

    #[test]
    fn llm_proxys_provider_is_one_of_ours() {
        for (kind, base, expected) in [
            ("openai", "https://api.openai.com/v1", "openai"),
            ("openai", "https://example.com/v1", "openai_compatible"),
            ("openai", "https://api.openai.com.example.com", "openai_compatible"),
            ("azure", "https://x.openai.azure.com", "azure"),
            ("strange", "https://x", "strange"),
        ] {
            let given =
                json!({"id": "p", "provider_type": kind, "api_base": base, "api_key": "fake"});
            let foreign = Foreign::read(given.as_object().unwrap()).unwrap();
            let provider = foreign.provider("p");
            assert_eq!(provider["kind"], expected);
            assert_eq!(provider["api_keys"], json!(["fake"]));
        }
    }
}
