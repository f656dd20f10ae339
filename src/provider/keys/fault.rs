//! What a provider's refusal says of the key it was asked with.

use serde_json::Value;

use super::key::Disabled;

/// What an answer blames on the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It has asked too much of this model, for now.
    Limited,
    /// It may not use this model.
    Model,
    /// It is of no use at all.
    Key(Disabled),
}

/// Words that say that an account has nothing left to spend: `OpenAI`'s codes, its and Anthropic's
/// sentences, what compatible servers made of them.
const QUOTA: [&str; 9] = [
    "insufficient_quota",
    "billing_hard_limit",
    "billing_not_active",
    "billing_error",
    "insufficient_credits",
    "insufficient credits",
    "insufficient balance",
    "credit balance is too low",
    "exceeded your current quota",
];
/// … that a key or its account was withdrawn …
const REVOKED: [&str; 7] = [
    "account_deactivated",
    "deactivated",
    "access_terminated",
    "revoked",
    "suspended",
    "has been disabled",
    "has been deleted",
];
/// … that it never was one, by those who say so with status 400 (Google) …
const INVALID: [&str; 2] = ["api_key_invalid", "api key not valid"];
/// … and that a prompt was refused, which is not about the key.
const FLAGGED: [&str; 4] = ["moderation", "flagged", "content_policy", "content_filter"];

impl Fault {
    /// Statuses that may be about the key.
    pub fn may_be(status: u16) -> bool {
        matches!(status, 400..=403 | 429)
    }

    /// What an answer with this status and body blames on the key it was asked with, if anything.
    /// A body that is cut short, or no JSON, says nothing: then the status alone counts.
    pub fn of(status: u16, body: &[u8]) -> Option<Self> {
        let said = Said::read(body);
        match status {
            400 if said.has(&INVALID) => Some(Self::Key(Disabled::Refused)),
            400 if said.has(&["credit balance is too low"]) => Some(Self::Key(Disabled::Quota)),
            401..=403 | 429 if said.has(&QUOTA) => Some(Self::Key(Disabled::Quota)),
            401 | 403 if said.has(&REVOKED) => Some(Self::Key(Disabled::Revoked)),
            403 if said.has(&FLAGGED) => None,
            403 if said.is_about_the_model() => Some(Self::Model),
            401 | 403 => Some(Self::Key(Disabled::Refused)),
            402 => Some(Self::Key(Disabled::Quota)),
            429 if said.has_code(&REVOKED) => Some(Self::Key(Disabled::Revoked)),
            429 => Some(Self::Limited),
            _ => None,
        }
    }
}

/// An error's code, type and words, in small letters.
#[derive(Debug, Default)]
struct Said {
    codes: String,
    message: String,
}

impl Said {
    /// `OpenAI`'s and Anthropic's shape, the one without `error` around it, Google's list of one.
    fn read(body: &[u8]) -> Self {
        let Ok(value) = serde_json::from_slice::<Value>(body) else { return Self::default() };
        let value = value.get(0).unwrap_or(&value);
        let error = value.get("error").filter(|error| error.is_object()).unwrap_or(value);
        let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
        let reason = error.pointer("/details/0/reason").and_then(Value::as_str).unwrap_or_default();
        let codes = [text("code"), text("type"), text("status"), reason].join(" ");
        let message = match value.get("error").and_then(Value::as_str) {
            Some(message) => message,
            None => text("message"),
        };
        Self { codes: codes.to_ascii_lowercase(), message: message.to_ascii_lowercase() }
    }

    fn has_code(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.codes.contains(word))
    }

    fn has(&self, words: &[&str]) -> bool {
        self.has_code(words) || words.iter().any(|word| self.message.contains(word))
    }

    /// `OpenAI`: "Project … does not have access to model …", code `model_not_found`. Anthropic says
    /// 401 of a bad key, and 403 `permission_error` of what a good one may not use.
    fn is_about_the_model(&self) -> bool {
        let words = self.message.split(|letter: char| !letter.is_alphanumeric());
        self.codes.contains("model_") || self.codes.contains("permission_error") || { words }
            .any(|word| matches!(word, "model" | "deployment"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: Option<Fault> = Some(Fault::Key(Disabled::Refused));
    const NOTHING_LEFT: Option<Fault> = Some(Fault::Key(Disabled::Quota));
    const WITHDRAWN: Option<Fault> = Some(Fault::Key(Disabled::Revoked));

    fn openai(status: u16, kind: &str, code: &str, message: &str) -> Option<Fault> {
        let error = serde_json::json!({ "message": message, "type": kind, "code": code });
        Fault::of(status, serde_json::json!({ "error": error }).to_string().as_bytes())
    }

    fn anthropic(status: u16, kind: &str, message: &str) -> Option<Fault> {
        let error = serde_json::json!({ "type": kind, "message": message });
        let body = serde_json::json!({ "type": "error", "error": error });
        Fault::of(status, body.to_string().as_bytes())
    }

    #[test]
    fn without_words_the_status_says_it() {
        for body in [&b""[..], b"<html>", b"{}", b"[]", b"{\"error\":null}", b"{\"error\":{\"co"] {
            assert_eq!(Fault::of(401, body), REFUSED);
            assert_eq!(Fault::of(402, body), NOTHING_LEFT);
            assert_eq!(Fault::of(403, body), REFUSED);
            assert_eq!(Fault::of(429, body), Some(Fault::Limited));
            for status in [200, 400, 404, 500, 503] {
                assert_eq!(Fault::of(status, body), None, "{status}");
            }
        }
    }

    #[test]
    fn openais_errors_are_told_apart() {
        let limit = "Rate limit reached for gpt-5 in organization org-x on requests per min.";
        assert_eq!(openai(429, "requests", "rate_limit_exceeded", limit), Some(Fault::Limited));
        let quota = "You exceeded your current quota, please check your plan and billing details.";
        assert_eq!(openai(429, "insufficient_quota", "insufficient_quota", quota), NOTHING_LEFT);
        let hard = "Billing hard limit has been reached";
        assert_eq!(
            openai(429, "invalid_request_error", "billing_hard_limit_reached", hard),
            NOTHING_LEFT
        );
        assert_eq!(openai(429, "x", "billing_not_active", "Not active."), NOTHING_LEFT);
        let wrong = "Incorrect API key provided: sk-fake****.";
        assert_eq!(openai(401, "invalid_request_error", "invalid_api_key", wrong), REFUSED);
        let gone = "The OpenAI account associated with this API key has been deactivated.";
        assert_eq!(openai(401, "invalid_request_error", "account_deactivated", gone), WITHDRAWN);
        let model = "Project `proj_x` does not have access to model `gpt-5`";
        assert_eq!(
            openai(403, "invalid_request_error", "model_not_found", model),
            Some(Fault::Model)
        );
        let country = "Country, region, or territory not supported";
        let code = "unsupported_country_region_territory";
        assert_eq!(openai(403, "request_forbidden", code, country), REFUSED);
    }

    #[test]
    fn anthropics_errors_are_told_apart() {
        assert_eq!(anthropic(401, "authentication_error", "invalid x-api-key"), REFUSED);
        let resource = "Your API key does not have permission to use the specified resource.";
        assert_eq!(anthropic(403, "permission_error", resource), Some(Fault::Model));
        assert_eq!(anthropic(429, "rate_limit_error", "Slow down."), Some(Fault::Limited));
        let credit = "Your credit balance is too low to access the Anthropic API.";
        assert_eq!(anthropic(400, "invalid_request_error", credit), NOTHING_LEFT);
        assert_eq!(anthropic(429, "rate_limit_error", credit), NOTHING_LEFT);
        assert_eq!(anthropic(402, "billing_error", "Pay."), NOTHING_LEFT);
        let disabled = "This organization has been disabled.";
        assert_eq!(anthropic(403, "permission_error", disabled), WITHDRAWN);
    }

    #[test]
    fn googles_list_of_one_is_read() {
        let body = br#"[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT"}}]"#;
        assert_eq!(Fault::of(400, body), REFUSED);
        let body = br#"[{"error":{"code":429,"message":"Resource has been exhausted (e.g. check quota).","status":"RESOURCE_EXHAUSTED"}}]"#;
        assert_eq!(Fault::of(429, body), Some(Fault::Limited), "comes back by itself");
    }

    #[test]
    fn what_a_caller_did_is_not_blamed_on_the_key() {
        let flagged = "Your chosen model requires moderation and your input was flagged.";
        assert_eq!(openai(403, "x", "403", flagged), None);
        assert_eq!(openai(400, "invalid_request_error", "x", "max_tokens is too large"), None);
        // A caller's own words may come back in an error about a request.
        assert_eq!(openai(400, "x", "x", "unknown member `insufficient_quota`"), None);
    }
}
