//! The configuration an import puts together, and how it is written.

use serde_json::{Map as Members, Value as Json};

use super::yaml::{Map, Yaml};

/// What will be a `forebay.yaml`.
#[derive(Debug, Default)]
pub struct Draft {
    pub listen: String,
    /// Why callers need no key, if they need none.
    pub anonymous: Option<String>,
    pub any_origin: bool,
    pub model_prefix: Option<String>,
    pub providers: Vec<Provider>,
    pub models: Vec<Model>,
    pub keys: Vec<Map>,
    /// Sections that need nothing but to be written.
    pub rest: Map,
}

#[derive(Debug, Default, Clone, PartialEq)]
pub struct Provider {
    pub name: String,
    pub kind: &'static str,
    pub base_url: Option<String>,
    pub api_version: Option<String>,
    pub api_keys: Vec<String>,
    /// What its cloud has to know, by our names for it.
    pub cloud: Vec<(&'static str, String)>,
    /// The caller's own key goes out.
    pub forward: bool,
    pub headers: Vec<(String, String)>,
    pub verify: Option<String>,
    /// Durations: to the first byte, and between two chunks.
    pub timeouts: (Option<String>, Option<String>),
    pub ejection: Option<Ejection>,
    pub comments: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Ejection {
    Off,
    /// Failures in a row, and seconds of the first time out.
    After(Option<u64>, Option<u64>),
}

/// What a model answers to.
#[derive(Debug, Clone, PartialEq)]
pub enum Answers {
    Name(String),
    /// `exact`, `prefix`, `keyword` or `regex`, and its texts.
    Match(&'static str, Vec<String>),
}

#[derive(Debug, Clone)]
pub struct Model {
    pub answers: Answers,
    pub aliases: Vec<String>,
    pub targets: Vec<Target>,
    pub fallback: Vec<String>,
    pub edits: Edits,
    pub limits: Map,
    pub comments: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    pub provider: String,
    pub model: Option<String>,
    pub weight: u32,
}

/// What is changed in a model's requests and responses.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Edits {
    pub max_tokens: Option<String>,
    pub stop: Vec<String>,
    pub extra_body: Members<String, Json>,
    pub strip_thinking: bool,
    pub prefix: Option<String>,
    pub thinking: Option<&'static str>,
}

// === impl Draft ===

impl Draft {
    /// The file; `head` stands above it.
    pub fn document(&self, head: &str) -> String {
        let mut file = Map::default();
        file.comment(head);
        let mut listen = Map::default();
        listen.text("address", &self.listen);
        file.put("listen", Yaml::List(vec![Yaml::Line(listen)]));
        if let Some(why) = &self.anonymous {
            file.comment(why);
            file.word("anonymous", true);
        }
        if !self.keys.is_empty() {
            file.put("keys", Yaml::List(self.keys.iter().cloned().map(Yaml::Map).collect()));
        }
        if self.any_origin {
            let mut cors = Map::default();
            cors.put("allow_origins", Yaml::Row(vec![Yaml::Text("*".to_owned())]));
            file.put("cors", Yaml::Line(cors));
        }
        if !self.providers.is_empty() {
            file.put("providers", Yaml::List(self.providers.iter().map(Provider::yaml).collect()));
        }
        if !self.models.is_empty() {
            file.put("models", Yaml::List(self.models.iter().map(Model::yaml).collect()));
        }
        if let Some(prefix) = &self.model_prefix {
            file.text("model_prefix", prefix);
        }
        let rest = self.rest.document();
        let file = file.document();
        if rest.is_empty() { file } else { format!("{file}\n{rest}") }
    }

    /// The model that is called so, by name or alias.
    pub fn named(&self, name: &str) -> Option<usize> {
        self.models.iter().position(|model| model.is_called(name))
    }
}

// === impl Provider ===

impl Provider {
    fn yaml(&self) -> Yaml {
        let mut map = Map::default();
        self.comments.iter().for_each(|comment| map.comment(comment));
        map.text("name", &self.name);
        map.word("kind", self.kind);
        if let Some(url) = &self.base_url {
            map.text("base_url", url);
        }
        if let Some(version) = &self.api_version {
            map.text("api_version", version);
        }
        if !self.api_keys.is_empty() {
            map.put("api_keys", row(&self.api_keys));
        }
        self.cloud.iter().for_each(|(name, value)| map.text(name, value));
        if self.forward {
            map.word("client_auth", "forward");
        }
        if !self.headers.is_empty() {
            let mut headers = Map::default();
            self.headers.iter().for_each(|(name, value)| headers.text(name, value));
            map.put("headers", Yaml::Map(headers));
        }
        if let Some(verify) = &self.verify {
            let mut tls = Map::default();
            let word = matches!(verify.as_str(), "true" | "false");
            tls.put(
                "verify",
                if word { Yaml::Word(verify.clone()) } else { Yaml::Text(verify.clone()) },
            );
            map.put("tls", Yaml::Line(tls));
        }
        let mut timeouts = Map::default();
        for (name, value) in
            [("first_byte", &self.timeouts.0), ("between_chunks", &self.timeouts.1)]
        {
            match value {
                Some(value) if value.contains("${") => timeouts.text(name, value),
                Some(value) => timeouts.word(name, value),
                None => {}
            }
        }
        if !timeouts.is_empty() {
            map.put("timeouts", Yaml::Line(timeouts));
        }
        match &self.ejection {
            None => {}
            Some(Ejection::Off) => map.word("ejection", "off"),
            Some(Ejection::After(after, base)) => {
                let mut ejection = Map::default();
                if let Some(after) = after {
                    ejection.word("after", after);
                }
                if let Some(base) = base {
                    ejection.word("base", format!("{base}s"));
                    ejection.word("max", format!("{}s", base.max(&300)));
                }
                map.put("ejection", Yaml::Line(ejection));
            }
        }
        Yaml::Map(map)
    }
}

// === impl Model ===

impl Model {
    pub fn new(answers: Answers, targets: Vec<Target>) -> Self {
        Self {
            answers,
            targets,
            aliases: Vec::new(),
            fallback: Vec::new(),
            edits: Edits::default(),
            limits: Map::default(),
            comments: Vec::new(),
        }
    }

    pub fn name(&self) -> Option<&str> {
        if let Answers::Name(name) = &self.answers { Some(name) } else { None }
    }

    fn is_called(&self, name: &str) -> bool {
        self.name() == Some(name) || self.aliases.iter().any(|alias| alias == name)
    }

    fn yaml(&self) -> Yaml {
        let mut map = Map::default();
        self.comments.iter().for_each(|comment| map.comment(comment));
        match &self.answers {
            Answers::Name(name) => map.text("name", name),
            Answers::Match(way, texts) => {
                let mut matcher = Map::default();
                match texts.as_slice() {
                    [text] => matcher.text(way, text),
                    texts => matcher.put(way, row(texts)),
                }
                map.put("match", Yaml::Line(matcher));
            }
        }
        if !self.aliases.is_empty() {
            map.put("aliases", row(&self.aliases));
        }
        let alone = self.targets.len() == 1;
        let target = |target: &Target| {
            // Alone it has every request, whatever its weight.
            let weight = if alone { 1 } else { target.weight };
            Target { weight, ..target.clone() }.yaml()
        };
        map.put("targets", Yaml::List(self.targets.iter().map(target).collect()));
        if !self.fallback.is_empty() {
            map.put("fallback", row(&self.fallback));
        }
        if !self.limits.is_empty() {
            map.put("limits", Yaml::Line(self.limits.clone()));
        }
        self.edits.write(&mut map);
        Yaml::Map(map)
    }
}

// === impl Target ===

impl Target {
    fn yaml(&self) -> Yaml {
        let mut map = Map::default();
        map.text("provider", &self.provider);
        if let Some(model) = &self.model {
            map.text("model", model);
        }
        if self.weight != 1 {
            map.word("weight", self.weight);
        }
        Yaml::Line(map)
    }
}

// === impl Edits ===

impl Edits {
    fn write(&self, model: &mut Map) {
        let mut request = Map::default();
        if let Some(max_tokens) = &self.max_tokens {
            request.word("max_tokens", max_tokens);
        }
        if !self.stop.is_empty() {
            request.put("stop", row(&self.stop));
        }
        if !self.extra_body.is_empty() {
            request.put("extra_body", Yaml::Json(Json::Object(self.extra_body.clone())));
        }
        if self.strip_thinking {
            request.word("thinking_history", "strip");
        }
        if !request.is_empty() {
            model.put("request", Yaml::Map(request));
        }
        let mut response = Map::default();
        if let Some(prefix) = &self.prefix {
            response.text("prefix", prefix);
        }
        if let Some(thinking) = self.thinking {
            response.word("thinking", thinking);
        }
        if !response.is_empty() {
            model.put("response", Yaml::Map(response));
        }
    }
}

/// Texts on one line.
pub fn row(texts: &[String]) -> Yaml {
    Yaml::Row(texts.iter().cloned().map(Yaml::Text).collect())
}
