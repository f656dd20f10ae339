//! One entry of `model_list`: a deployment, and the provider it needs.

use serde_json::Map as Members;

use super::super::draft::{Edits, Provider};
use super::super::source::Item;
use super::super::words::Words;
use super::super::yaml;
use super::vendor::{self, Vendor};

/// Members of a request that stand in for what a client leaves out.
const DEFAULTS: &[&str] = &[
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "n",
    "seed",
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "user",
    "response_format",
    "reasoning_effort",
    "verbosity",
    "tool_choice",
    "parallel_tool_calls",
    "thinking",
    "modalities",
    "service_tier",
    "store",
    "dimensions",
    "encoding_format",
    "input_type",
];

/// A model in one place.
pub struct Deployment<'a> {
    pub item: &'a Item,
    /// What clients ask for; may hold `*`.
    pub group: String,
    /// What its provider calls it; may hold `*`.
    pub upstream: String,
    /// Its place in [`Providers`].
    pub provider: usize,
    pub weight: Option<f64>,
    pub rpm: Option<&'a Item>,
    pub tpm: Option<&'a Item>,
    /// Lower goes first.
    pub order: Option<i64>,
    pub edits: Edits,
    pub price: Option<yaml::Map>,
}

/// Providers without doubles.
#[derive(Default)]
pub struct Providers {
    pub list: Vec<Provider>,
}

impl Providers {
    /// The place of this provider, which is added unless one is just like it.
    fn place(&mut self, provider: Provider) -> usize {
        let same = |known: &Provider| Provider { name: String::new(), ..known.clone() } == provider;
        if let Some(place) = self.list.iter().position(same) {
            return place;
        }
        self.list.push(provider);
        self.list.len() - 1
    }
}

/// Reads an entry; `None` when it cannot be served and has been listed.
pub fn read<'a>(
    item: &'a Item,
    credentials: &[&Item],
    providers: &mut Providers,
    words: &Words,
) -> Option<Deployment<'a>> {
    let listing = words.listing;
    let Some(group) = item.get("model_name").and_then(Item::text).map(str::to_owned) else {
        item.list(listing, "a deployment without `model_name`");
        return None;
    };
    let Some(params) = item.get("litellm_params").filter(|params| params.is_map()) else {
        item.list(listing, "a deployment without `litellm_params`");
        return None;
    };
    let Some(model) = params.get("model").filter(|model| model.text().is_some()) else {
        item.list(listing, "a deployment without `litellm_params.model`");
        return None;
    };
    let custom = params.get("custom_llm_provider").and_then(Item::text);
    let (vendor, upstream) = match vendor::resolve(model.text().unwrap_or_default(), custom) {
        Ok(found) => found,
        Err(word) => {
            item.list(
                listing,
                format!("this version cannot call `{word}`: the deployment was left out"),
            );
            return None;
        }
    };
    let credential = params.get("litellm_credential_name").and_then(Item::taken).and_then(|name| {
        let named =
            |known: &&&Item| known.get("credential_name").and_then(Item::text) == Some(name);
        let found = credentials.iter().find(named)?;
        found.take("credential_name");
        found.get("credential_values")
    });
    let source = Called { params, credential, vendor, words };
    let provider = source.provider(item)?;
    let speaks_chat = !matches!(provider.kind, "anthropic" | "gemini" | "vertex" | "bedrock");
    // Only now: what is left out is listed as a whole.
    item.take("model_name");
    model.taken();
    params.take("custom_llm_provider");
    Some(Deployment {
        item,
        group,
        upstream: upstream.to_owned(),
        provider: providers.place(provider),
        weight: params.get("weight").and_then(|weight| number(weight, words)),
        rpm: params.get("rpm"),
        tpm: params.get("tpm"),
        order: params.get("order").and_then(|order| {
            let number = order.taken().and_then(|text| text.parse().ok());
            if number.is_none() {
                order.list(listing, "not a whole number: behind all that have one");
            }
            number
        }),
        edits: defaults(params, speaks_chat, words),
        price: price(params, item.get("model_info")),
    })
}

/// A number, or a note that it is none.
pub fn number(item: &Item, words: &Words) -> Option<f64> {
    let number = item.taken().and_then(|text| text.replace('_', "").parse::<f64>().ok());
    if number.is_none() {
        item.list(words.listing, "not a number");
    }
    number
}

/// How a deployment is called.
struct Called<'a> {
    params: &'a Item,
    credential: Option<&'a Item>,
    vendor: Vendor,
    words: &'a Words<'a>,
}

impl<'a> Called<'a> {
    fn get(&self, names: &[&str]) -> Option<&'a Item> {
        self.params.any(names).or_else(|| self.credential?.any(names))
    }

    fn provider(&self, item: &Item) -> Option<Provider> {
        let Vendor { word, kind, .. } = self.vendor;
        let mut provider = Provider { kind, ..Provider::default() };
        let base = self.get(&["api_base", "base_url"]);
        let known = matches!(kind, "openai" | "bedrock" | "vertex");
        if base.is_none() && self.vendor.base_url.is_empty() && !known {
            item.list(self.words.listing, format!("`{word}` is called at its `api_base`, and there is none: the deployment was left out"));
            return None;
        }
        self.address(base, &mut provider);
        if let Some(version) = self.get(&["api_version"]) {
            if provider.kind == "azure" {
                provider.api_version = version.taken().map(|text| self.words.text(text));
            } else {
                version.list(self.words.listing, "only Azure has versions in its addresses");
            }
        } else if provider.kind == "azure" {
            self.params
                .decide(self.words.listing, "without `api_version` the version is `v1` here");
        }
        self.key(&mut provider);
        self.cloud(&mut provider);
        self.headers(&mut provider);
        if let Some(verify) = self.get(&["ssl_verify"]) {
            match verify.taken() {
                Some("false" | "False") => provider.verify = Some("false".to_owned()),
                Some("true" | "True") => {}
                _ => verify.list(
                    self.words.listing,
                    "name the authorities in `tls.ca_file` of the provider",
                ),
            }
        }
        let timeout = self.params.get("timeout").and_then(|item| seconds(item, self.words));
        let streamed = self.params.get("stream_timeout").and_then(|item| seconds(item, self.words));
        provider.timeouts = (timeout.clone(), streamed.or(timeout));
        Some(provider)
    }

    fn address(&self, base: Option<&Item>, provider: &mut Provider) {
        let Some(base) = base else {
            let default = self.vendor.base_url;
            let known = default.is_empty() || matches!(provider.kind, "anthropic" | "gemini");
            provider.base_url = (!known).then(|| default.to_owned());
            return;
        };
        let mut url =
            self.words.text(base.taken().unwrap_or_default()).trim_end_matches('/').to_owned();
        if provider.kind == "openai" && !url.starts_with("https://api.openai.com") {
            provider.kind = "openai_compatible";
        }
        if self.vendor.word.starts_with("ollama") && !url.ends_with("/v1") {
            url.push_str("/v1");
        }
        let path = url.split_once("://").map_or("/", |(_, rest)| rest);
        if provider.kind == "openai_compatible" && !url.contains("${") && !path.contains('/') {
            base.decide(
                self.words.listing,
                "without a path it means `/v1` here; LiteLLM calls `/chat/completions` there",
            );
        }
        provider.base_url = Some(url);
    }

    fn key(&self, provider: &mut Provider) {
        let word = self.vendor.word;
        match self.get(&["api_key"]).filter(|key| key.text() != Some("")) {
            Some(key) => {
                provider
                    .api_keys
                    .extend(self.words.secret(key, &format!("litellm_{word}_api_key")));
            }
            None if self.vendor.key.is_empty() => {}
            None => provider.api_keys.push(self.words.variable(self.vendor.key)),
        }
    }

    /// What a cloud has to know. Whoever has no keys here logs in as the machine is known there, as it
    /// does in `LiteLLM`.
    fn cloud(&self, provider: &mut Provider) {
        let given = |name: &str| self.get(&[name]).and_then(Item::taken);
        let text = |name: &str, variable: &str| match given(name) {
            Some(text) => self.words.text(text),
            None => self.words.variable(variable),
        };
        match provider.kind {
            "bedrock" => {
                provider.cloud.push(("region", text("aws_region_name", "AWS_REGION_NAME")));
                if let Some(url) = given("aws_bedrock_runtime_endpoint") {
                    provider.base_url = Some(self.words.text(url));
                }
                let pair = ["aws_access_key_id", "aws_secret_access_key"];
                // Half a pair opens nothing.
                if !provider.api_keys.is_empty() || pair.iter().any(|it| self.get(&[it]).is_none())
                {
                    return;
                }
                let names = ["access_key_id", "secret_access_key", "session_token"];
                for (name, theirs) in
                    names.into_iter().zip(pair.into_iter().chain(["aws_session_token"]))
                {
                    let secret = self.get(&[theirs]);
                    let secret =
                        secret.and_then(|it| self.words.secret(it, &format!("litellm_{theirs}")));
                    provider.cloud.extend(secret.map(|secret| (name, secret)));
                }
            }
            "vertex" => {
                provider.cloud.push(("project", text("vertex_project", "VERTEXAI_PROJECT")));
                provider.cloud.push(("location", text("vertex_location", "VERTEXAI_LOCATION")));
                match self.get(&["vertex_credentials", "vertex_ai_credentials"]) {
                    Some(item)
                        if item.text().is_some_and(|text| text.trim_start().starts_with('{')) =>
                    {
                        item.list(self.words.listing, "write it to a file, and name that in `credentials_file` of the provider");
                    }
                    Some(item) => {
                        let file = item.taken().map(|path| self.words.text(path));
                        provider.cloud.extend(file.map(|file| ("credentials_file", file)));
                    }
                    None => {}
                }
            }
            _ => {}
        }
    }

    fn headers(&self, provider: &mut Provider) {
        if let Some(organization) = self.get(&["organization"]) {
            match organization.taken() {
                Some(text) => {
                    provider
                        .headers
                        .push(("OpenAI-Organization".to_owned(), self.words.text(text)));
                }
                None => organization.list(
                    self.words.listing,
                    "a provider has one organization: write one provider for each",
                ),
            }
        }
        let given = ["extra_headers", "headers"].iter().filter_map(|name| self.params.get(name));
        for (name, value) in given.flat_map(Item::entries) {
            let lower = name.to_ascii_lowercase();
            let secret = ["key", "token", "secret", "auth", "cookie"]
                .iter()
                .any(|word| lower.contains(word));
            let words = if secret {
                self.words.secret(value, &format!("litellm_{}_{name}", self.vendor.word))
            } else {
                value.taken().map(|text| self.words.text(text))
            };
            match words {
                Some(text) if sendable(name) => provider.headers.push((name.to_owned(), text)),
                _ => value.list(self.words.listing, "not a header that can be sent"),
            }
        }
    }
}

/// The name of a header; `LiteLLM`'s documentation has one with a space, which no server takes.
fn sendable(name: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(token)
}

/// Seconds as a duration, to the millisecond.
pub fn seconds(item: &Item, words: &Words) -> Option<String> {
    let text = item.taken()?;
    if words.refers(text) {
        return Some(format!("{}s", words.text(text)));
    }
    match text.parse::<f64>() {
        Ok(seconds) if (0.001..1e7).contains(&seconds) => {
            let millis = std::time::Duration::from_secs_f64(seconds).as_millis();
            Some(if millis.is_multiple_of(1000) {
                format!("{}s", millis / 1000)
            } else {
                format!("{millis}ms")
            })
        }
        _ => {
            item.list(words.listing, "not a number of seconds");
            None
        }
    }
}

/// What is asked for where a caller leaves it open. `extra_body` is in the provider's dialect: names of
/// OpenAI's chat mean nothing to one that speaks another.
fn defaults(params: &Item, speaks_chat: bool, words: &Words) -> Edits {
    let (mut members, mut edits) = (Members::new(), Edits::default());
    for (name, value) in params.entries().filter(|(name, _)| DEFAULTS.contains(name)) {
        match name {
            _ if speaks_chat => {
                members.insert(name.to_owned(), value.json());
            }
            "max_tokens" | "max_completion_tokens" => {
                edits.max_tokens = value.taken().map(|text| words.text(text));
            }
            "stop" => {
                edits.stop = match value.json() {
                    serde_json::Value::String(one) => vec![words.text(&one)],
                    serde_json::Value::Array(all) => all
                        .iter()
                        .filter_map(|one| one.as_str())
                        .map(|one| words.text(one))
                        .collect(),
                    _ => Vec::new(),
                };
            }
            _ => value.list(words.listing, "say it in the provider's own words in `extra_body`"),
        }
    }
    if let Some(extra) = params.get("extra_body") {
        match extra.json() {
            serde_json::Value::Object(given) => members.extend(given),
            _ => extra.list(words.listing, "not a map"),
        }
    }
    let members =
        members.into_iter().map(|(name, value)| (words.text(&name), escaped(value, words)));
    edits.extra_body = members.collect();
    edits
}

fn escaped(value: serde_json::Value, words: &Words) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::String(text) => Value::String(words.text(&text)),
        Value::Array(items) => {
            Value::Array(items.into_iter().map(|item| escaped(item, words)).collect())
        }
        Value::Object(members) => {
            let member =
                |(name, value): (String, Value)| (words.text(&name), escaped(value, words));
            Value::Object(members.into_iter().map(member).collect())
        }
        other => other,
    }
}

/// What a token costs there, as what a million costs here.
fn price(params: &Item, info: Option<&Item>) -> Option<yaml::Map> {
    let cost = |name: &str| {
        let item = params.get(name).or_else(|| info?.get(name))?;
        let price = per_million(item.text()?)?;
        item.taken();
        Some(price)
    };
    let (input, output) = (cost("input_cost_per_token")?, cost("output_cost_per_token")?);
    let mut price = yaml::Map::default();
    price.word("input", input);
    price.word("output", output);
    if let Some(cached) = cost("cache_read_input_token_cost") {
        price.word("cached_input", cached);
    }
    Some(price)
}

/// The decimal text of a number, a million times as large.
fn per_million(text: &str) -> Option<String> {
    let (digits, exponent) = match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all: String = whole.chars().chain(fraction.chars()).collect();
    if all.is_empty()
        || all.len() > 30
        || !all.bytes().all(|byte| byte.is_ascii_digit())
        || exponent.abs() > 40
    {
        return None;
    }
    // Where the point stands in `all`, a million later.
    let point = i32::try_from(whole.len()).ok()? + exponent + 6;
    let padded = match usize::try_from(point) {
        Ok(point) => format!("{all:0<point$}"),
        Err(_) => format!("{}{all}", "0".repeat(usize::try_from(-point).ok()?)),
    };
    let (whole, fraction) = padded.split_at_checked(usize::try_from(point.max(0)).ok()?)?;
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let fraction = fraction.trim_end_matches('0');
    Some(if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_moved_to_a_million_exactly() {
        let cases = [
            ("0.00003", "30"),
            ("1.5e-06", "1.5"),
            ("2.5E-7", "0.25"),
            ("0", "0"),
            ("0.0000000375", "0.0375"),
            ("0.000000000001", "0.000001"),
            ("1e-9", "0.001"),
            ("1", "1000000"),
        ];
        for (text, expected) in cases {
            assert_eq!(per_million(text).as_deref(), Some(expected), "{text}");
        }
        for wrong in ["", "-1", "1.2.3", "x", "1e99"] {
            assert_eq!(per_million(wrong), None, "{wrong}");
        }
    }
}
