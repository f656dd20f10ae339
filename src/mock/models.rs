//! `GET /v1/models` and `/v1/models/{id}`.

use serde_json::{Value, json};

use super::ask::Outcome;
use super::reply::{Reply, list};

/// The models there are.
#[derive(Debug, Clone)]
pub struct Models {
    names: Vec<String>,
    strict: bool,
    created: u64,
}

impl Models {
    /// These models, and whether any other name is refused.
    pub fn new(names: Vec<String>, strict: bool, created: u64) -> Self {
        Self { names, strict, created }
    }

    /// The model a call is for: the one it names, or the first; an unknown one is refused when the
    /// mock is strict.
    pub fn choose(&self, named: Option<&str>) -> Result<String, Reply> {
        let first = || self.names.first().map_or("mock", String::as_str);
        let name = named.unwrap_or_else(first);
        if self.serves(name) { Ok(name.to_owned()) } else { Err(self.unknown(name)) }
    }

    /// Lists them.
    pub fn all(&self) -> Reply {
        Reply::json(&list(&self.names.iter().map(|name| self.card(name)).collect::<Vec<_>>()))
    }

    /// Shows one.
    pub fn one(&self, name: &str) -> Outcome {
        let listed = self.names.iter().any(|known| known == name);
        if listed { Ok(Reply::json(&self.card(name))) } else { Err(self.unknown(name)) }
    }

    fn serves(&self, name: &str) -> bool {
        !self.strict || self.names.is_empty() || self.names.iter().any(|known| known == name)
    }

    fn card(&self, name: &str) -> Value {
        json!({"id": name, "object": "model", "created": self.created, "owned_by": "forebay",
            "root": name,
            "parent": null, "max_model_len": 32768})
    }

    fn unknown(&self, name: &str) -> Reply {
        let names = self.names.join(", ");
        let message = format!("The model `{name}` does not exist. Valid aliases: {names}.");
        Reply::refusal(404, "NotFoundError", &message, Some("model"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models(strict: bool) -> Models {
        Models::new(vec!["a".to_owned(), "b".to_owned()], strict, 0)
    }

    #[test]
    fn the_first_stands_in_for_none() {
        assert_eq!(models(true).choose(None).unwrap(), "a");
        assert_eq!(models(true).choose(Some("b")).unwrap(), "b");
    }

    #[test]
    fn an_unknown_name_is_refused_when_strict() {
        assert_eq!(models(false).choose(Some("c")).unwrap(), "c");
        assert_eq!(models(true).choose(Some("c")).unwrap_err().status, 404);
        assert_eq!(models(false).one("c").unwrap_err().status, 404);
    }

    #[test]
    fn they_are_listed() {
        assert_eq!(models(false).all().value()["data"][1]["id"], "b");
    }
}
