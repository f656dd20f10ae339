//! What goes wrong at a provider, and how its body says so.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::scrubbed;

/// The longest message taken over from a provider, in characters.
const LONGEST_MESSAGE: usize = 2000;

/// The longest reason that is told for what cannot be read, in characters.
const LONGEST_REASON: usize = 300;

/// An answer or a stream that is not what its dialect promises.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the provider's answer cannot be read: {}", brief(.0))]
pub struct Unreadable(pub String);

/// A provider's failure, before or in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub kind: FailureKind,
    /// The HTTP status, or the one an error in a stream stands for, where it says one.
    pub status: Option<u16>,
    pub message: String,
    /// The provider's own code or type of it.
    pub code: Option<String>,
    /// The member of the request that it is about.
    pub param: Option<String>,
    pub retry_after: Option<Duration>,
}

/// What kind of failure it is; each dialect has its own name and status for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailureKind {
    Invalid,
    /// The prompt, or the prompt and the most the answer may have, are more than the model takes.
    ContextOverflow,
    /// The provider's filter refused the prompt.
    Filtered,
    Authentication,
    Permission,
    NotFound,
    TooLarge,
    RateLimit,
    /// The account is spent.
    Quota,
    Timeout,
    Overloaded,
    #[default]
    Server,
}

/// What a client is told when it gets no answer, or no end of one.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    /// The HTTP status, 4xx or 5xx.
    pub status: u16,
    /// Our code for it, such as `model_not_found`, or the provider's own.
    pub code: &'a str,
    /// One or two sentences, without secrets.
    pub message: &'a str,
    /// The member of the request that it is about.
    pub param: Option<&'a str>,
    /// The `x-request-id` of the answer.
    pub request_id: &'a str,
}

impl Failure {
    /// A failure in a stream, as its client is told of it.
    pub fn refusal<'a>(&'a self, request_id: &'a str) -> Refusal<'a> {
        if matches!(self.kind, FailureKind::Authentication | FailureKind::Permission) {
            // The credentials are ours: a client that is told 401 takes its own for bad.
            let message = "The provider refused the gateway's own credentials.";
            return Refusal {
                status: 502,
                code: "upstream_auth",
                message,
                param: None,
                request_id,
            };
        }
        let code = match self.kind {
            FailureKind::ContextOverflow => "context_length_exceeded",
            FailureKind::Filtered => "content_filter",
            FailureKind::RateLimit => "rate_limit_exceeded",
            FailureKind::Quota => "insufficient_quota",
            FailureKind::Invalid => self.own_code().unwrap_or("invalid_request"),
            // What ends a stream of ours.
            FailureKind::Overloaded if self.code.as_deref() == Some("overloaded") => "overloaded",
            _ => "upstream_error",
        };
        let (message, param) = (self.message.as_str(), self.param.as_deref());
        Refusal { status: self.kind.status(), code, message, param, request_id }
    }

    /// The provider's code, where it says more than that the request is invalid.
    fn own_code(&self) -> Option<&str> {
        const NO_MORE: [&str; 8] = [
            "invalid_request_error",
            "INVALID_ARGUMENT",
            "FAILED_PRECONDITION",
            "ValidationException",
            "validationException",
            "BadRequestError",
            "Bad Request",
            "validation",
        ];
        self.code.as_deref().filter(|code| !NO_MORE.contains(code))
    }

    /// A stream that was cut off.
    pub fn cut_off() -> Self {
        Self {
            kind: FailureKind::Server,
            status: None,
            message: "The provider's stream broke off before its end.".to_owned(),
            code: None,
            param: None,
            retry_after: None,
        }
    }

    /// Reads the body of a failure, whoever wrote it: the shapes of the five dialects and those of the
    /// servers that speak them more or less. `kind` is what AWS says in `x-amzn-errortype`, or an
    /// exception's name in an event stream.
    pub fn read(status: Option<u16>, name: Option<&str>, body: &[u8]) -> Self {
        let value: Option<Value> = serde_json::from_slice(body).ok();
        let mut failure = match &value {
            Some(value) => read_value(value),
            None => Self { message: plain(body), ..Self::cut_off() },
        };
        if let Some(name) = name {
            // AWS: `ValidationException:http://…`
            let name = name.split(':').next().unwrap_or(name);
            failure.code = Some(name.rsplit('#').next().unwrap_or(name).to_owned());
        }
        failure.status = status.or(failure.status);
        failure.message = scrubbed(failure.message);
        if failure.message.is_empty() {
            failure.message = match failure.status {
                Some(status) => format!("The provider answered with status {status}."),
                None => "The provider failed.".to_owned(),
            };
        }
        failure.kind = failure.judge();
        failure
    }

    /// The kind by what the code, the words and the status say, in this order.
    fn judge(&self) -> FailureKind {
        let code = self.code.as_deref().unwrap_or_default();
        let message = self.message.to_ascii_lowercase();
        // A message repeats what the caller wrote: its words count where the status leaves room.
        let tells = matches!(self.status, None | Some(400 | 413 | 422));
        let says = |words: &[&str]| tells && words.iter().any(|words| message.contains(words));
        if matches!(code, "context_length_exceeded" | "model_context_window_exceeded")
            || says(&[
                "maximum context length",
                "context length exceeded",
                "prompt is too long",
                "exceed context limit",
                "input is too long for requested model",
                "exceeds the maximum number of tokens allowed",
            ])
        {
            return FailureKind::ContextOverflow;
        }
        if matches!(code, "content_filter" | "content_policy_violation") {
            return FailureKind::Filtered;
        }
        if matches!(
            code,
            "insufficient_quota"
                | "billing_error"
                | "credit_balance_exhausted"
                | "ServiceQuotaExceededException"
                | "serviceQuotaExceededException"
        ) || says(&["credit balance is too low"])
        {
            return FailureKind::Quota;
        }
        let by_status = self.status.map(FailureKind::of_status);
        // The two that are said of anything: a status may know better.
        let known = match (FailureKind::of_code(code), self.status) {
            (Some(FailureKind::Invalid), Some(401..))
            | (Some(FailureKind::Server), Some(500..)) => None,
            (known, _) => known,
        };
        known.or(by_status).unwrap_or_default()
    }
}

impl FailureKind {
    /// What the dialects call failures: types, codes, statuses and exceptions.
    fn of_code(code: &str) -> Option<Self> {
        Some(match code {
            "rate_limit_error" | "rate_limit_exceeded" | "RESOURCE_EXHAUSTED"
            | "ThrottlingException" | "throttlingException" | "ModelNotReadyException" => {
                Self::RateLimit
            }
            "overloaded_error" | "server_is_overloaded" | "UNAVAILABLE"
            | "ServiceUnavailableException" | "serviceUnavailableException"
            // TGI
            | "overloaded" => Self::Overloaded,
            "authentication_error" | "invalid_api_key" | "UNAUTHENTICATED"
            | "UnrecognizedClientException" | "ExpiredTokenException"
            | "InvalidSignatureException" | "API_KEY_INVALID" => Self::Authentication,
            "permission_error" | "PERMISSION_DENIED" | "AccessDeniedException" => Self::Permission,
            "not_found_error" | "model_not_found" | "NOT_FOUND" | "ResourceNotFoundException"
            | "DeploymentNotFound" => Self::NotFound,
            "request_too_large" => Self::TooLarge,
            "timeout_error" | "DEADLINE_EXCEEDED" | "ModelTimeoutException"
            | "modelTimeoutException" => Self::Timeout,
            "invalid_request_error" | "INVALID_ARGUMENT" | "FAILED_PRECONDITION"
            | "ValidationException" | "validationException" | "BadRequestError"
            | "unsupported_parameter" | "invalid_prompt" | "validation" => Self::Invalid,
            "api_error" | "server_error" | "INTERNAL" | "InternalServerException"
            | "internalServerException" | "ModelErrorException" | "modelStreamErrorException"
            | "ModelStreamErrorException" | "InternalServerError"
            // TGI
            | "generation" | "incomplete_generation" => Self::Server,
            _ => return None,
        })
    }

    pub fn of_status(status: u16) -> Self {
        match status {
            401 => Self::Authentication,
            402 => Self::Quota,
            403 => Self::Permission,
            404 => Self::NotFound,
            408 | 504 => Self::Timeout,
            413 => Self::TooLarge,
            429 => Self::RateLimit,
            503 | 529 => Self::Overloaded,
            // Bedrock, TGI: the model failed.
            424 => Self::Server,
            400..=499 => Self::Invalid,
            _ => Self::Server,
        }
    }

    /// The HTTP status that says it, where the provider said none.
    pub fn status(self) -> u16 {
        match self {
            Self::Invalid | Self::ContextOverflow | Self::Filtered => 400,
            Self::Authentication => 401,
            Self::Permission => 403,
            Self::NotFound => 404,
            Self::TooLarge => 413,
            Self::RateLimit | Self::Quota => 429,
            Self::Timeout => 504,
            Self::Overloaded => 503,
            Self::Server => 500,
        }
    }
}

fn read_value(value: &Value) -> Failure {
    // Gemini without `alt=sse` puts an error into an array.
    if let Some(first) = value.as_array().and_then(|values| values.first()) {
        return read_value(first);
    }
    let text = |value: &Value, names: &[&str]| {
        let found = names.iter().find_map(|name| value.get(name)?.as_str());
        found.map(|text| text.chars().take(LONGEST_MESSAGE).collect::<String>())
    };
    let error = match value.get("error") {
        Some(Value::String(message)) => {
            // TGI: the error is its text, and its kind stands beside it.
            let message = message.chars().take(LONGEST_MESSAGE).collect();
            let code = text(value, &["error_type"]);
            return Failure { message, code, ..Failure::cut_off() };
        }
        Some(error @ Value::Object(_)) => error,
        // An event's `response.error` (Responses), or flat (SGLang, AWS, FastAPI).
        _ => value.pointer("/response/error").filter(|error| error.is_object()).unwrap_or(value),
    };
    let number = |value: Option<&Value>| {
        let status = value?.as_u64()?;
        u16::try_from(status).ok().filter(|status| (400..600).contains(status))
    };
    let code = text(error, &["code"]).filter(|code| !code.bytes().all(|it| it.is_ascii_digit()));
    let code = reason(error).or(code).or_else(|| text(error, &["status", "type"]));
    Failure {
        kind: FailureKind::default(),
        status: number(error.get("code")).or_else(|| number(error.get("status_code"))),
        message: text(error, &["message", "Message", "originalMessage"])
            .or_else(|| detail(error))
            .unwrap_or_default(),
        code: code.filter(|code| !matches!(code.as_str(), "error" | "None")),
        param: text(error, &["param"]),
        retry_after: retry_info(error),
    }
}

/// Google tells a bad key by a reason among an `INVALID_ARGUMENT`'s details.
fn reason(error: &Value) -> Option<String> {
    let details = error.get("details")?.as_array()?;
    let mut reasons = details.iter().filter_map(|detail| detail.get("reason")?.as_str());
    reasons.find(|reason| *reason == "API_KEY_INVALID").map(str::to_owned)
}

/// The longest time to wait that is believed, in seconds: a day.
const LONGEST_WAIT: f64 = 86_400.0;

/// Google's `RetryInfo`: `"retryDelay": "34.4s"`.
fn retry_info(error: &Value) -> Option<Duration> {
    let details = error.get("details")?.as_array()?;
    let delay = details.iter().find_map(|detail| detail.get("retryDelay")?.as_str())?;
    let seconds: f64 = delay.strip_suffix('s')?.parse().ok()?;
    let seconds = if seconds > LONGEST_WAIT { LONGEST_WAIT } else { seconds };
    Duration::try_from_secs_f64(seconds).ok()
}

/// FastAPI's: a text, or a list of what is wrong where.
fn detail(error: &Value) -> Option<String> {
    match error.get("detail")? {
        Value::String(text) => Some(text.chars().take(LONGEST_MESSAGE).collect()),
        Value::Array(items) => {
            let said = items.iter().filter_map(|item| item.get("msg")?.as_str());
            Some(said.take(10).collect::<Vec<_>>().join("; "))
        }
        _ => None,
    }
}

/// The beginning of a reason: what a parser complains of may repeat all of a text.
pub fn brief(reason: impl fmt::Display) -> String {
    reason.to_string().chars().take(LONGEST_REASON).collect()
}

/// The beginning of a body that is no JSON.
fn plain(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body.get(..2000).unwrap_or(body));
    text.trim().chars().filter(|c| !c.is_control()).take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &str) -> Failure {
        Failure::read(Some(status), None, body.as_bytes())
    }

    #[test]
    fn every_shape_of_an_error_is_read() {
        for (body, message, kind) in [
            (
                r#"{"error":{"message":"no","type":"invalid_request_error","code":null}}"#,
                "no",
                FailureKind::Invalid,
            ),
            (r#"{"object":"error","message":"no","code":400}"#, "no", FailureKind::Invalid),
            (
                r#"{"type":"error","error":{"type":"overloaded_error","message":"no"}}"#,
                "no",
                FailureKind::Overloaded,
            ),
            (
                r#"[{"error":{"code":400,"message":"no","status":"NOT_FOUND"}}]"#,
                "no",
                FailureKind::NotFound,
            ),
            (r#"{"error":"no","error_type":"overloaded"}"#, "no", FailureKind::Overloaded),
            (r#"{"Message":"no"}"#, "no", FailureKind::Invalid),
            (
                r#"{"detail":[{"loc":["body"],"msg":"a"},{"msg":"b"}]}"#,
                "a; b",
                FailureKind::Invalid,
            ),
            ("<h1>no</h1>\n", "<h1>no</h1>", FailureKind::Invalid),
            ("", "The provider answered with status 400.", FailureKind::Invalid),
        ] {
            let failure = read(400, body);
            assert_eq!((failure.message.as_str(), failure.kind), (message, kind), "{body}");
        }
    }

    #[test]
    fn aws_says_the_kind_beside_the_body() {
        let name = Some("ThrottlingException:http://internal.amazon.com/");
        let failure = Failure::read(Some(400), name, br#"{"message":"slow down"}"#);
        assert_eq!(failure.kind, FailureKind::RateLimit);
        assert_eq!(failure.code.as_deref(), Some("ThrottlingException"));
    }

    #[test]
    fn google_says_how_long_to_wait_and_which_key_is_bad_among_the_details() {
        let body = r#"{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED",
            "details":[{"retryDelay":"34.4s"}]}}"#;
        assert_eq!(read(429, body).retry_after, Some(Duration::from_millis(34_400)));
        let body = r#"{"error":{"code":400,"message":"m","status":"INVALID_ARGUMENT",
            "details":[{"reason":"API_KEY_INVALID"}]}}"#;
        assert_eq!(read(400, body).kind, FailureKind::Authentication);
    }

    #[test]
    fn a_time_to_wait_is_a_day_at_most() {
        for (delay, seconds) in [
            ("86401s", Some(86_400)),
            ("1e300s", Some(86_400)),
            ("infs", Some(86_400)),
            ("NaNs", None),
            ("-1s", None),
        ] {
            let body = format!(r#"{{"error":{{"details":[{{"retryDelay":"{delay}"}}]}}}}"#);
            let wait = read(429, &body).retry_after;
            assert_eq!(wait, seconds.map(Duration::from_secs), "{delay}");
        }
    }

    #[test]
    fn a_spent_quota_of_amazons_is_one() {
        let name = Some("ServiceQuotaExceededException");
        let failure = Failure::read(Some(400), name, br#"{"message":"m"}"#);
        assert_eq!(failure.kind, FailureKind::Quota);
    }

    #[test]
    fn words_count_only_where_the_status_leaves_room_for_them() {
        for words in ["Prompt is too long", "Your credit balance is too low"] {
            let body = format!(r#"{{"error":{{"message":"no such model: {words}"}}}}"#);
            for (status, kind) in [
                (404, FailureKind::NotFound),
                (429, FailureKind::RateLimit),
                (500, FailureKind::Server),
            ] {
                assert_eq!(read(status, &body).kind, kind, "{words} {status}");
            }
            for status in [400, 413, 422] {
                let kind = read(status, &body).kind;
                assert!(matches!(kind, FailureKind::ContextOverflow | FailureKind::Quota));
            }
        }
    }

    #[test]
    fn a_refused_key_of_ours_is_not_told_as_the_clients() {
        let body = r#"{"error":{"message":"API key not valid","status":"UNAUTHENTICATED"}}"#;
        let failure = read(401, body);
        let told = failure.refusal("");
        assert_eq!((told.status, told.code), (502, "upstream_auth"));
        assert!(!told.message.contains("not valid"));
    }

    #[test]
    fn a_code_is_told_where_it_says_more_than_that_the_request_is_invalid() {
        let body = |code| format!(r#"{{"error":{{"message":"m","code":"{code}"}}}}"#);
        assert_eq!(read(400, &body("INVALID_ARGUMENT")).refusal("").code, "invalid_request");
        assert_eq!(read(400, &body("decimal_below_min")).refusal("").code, "decimal_below_min");
    }

    #[test]
    fn a_model_that_failed_is_the_providers_fault() {
        let body = r#"{"error":"Request failed during generation","error_type":"generation"}"#;
        assert_eq!(read(424, body).kind, FailureKind::Server);
        assert_eq!(read(424, r#"{"message":"m"}"#).kind, FailureKind::Server);
    }

    #[test]
    fn a_status_knows_better_than_a_word_that_is_said_of_anything() {
        let body = r#"{"error":{"message":"no","type":"invalid_request_error"}}"#;
        for (status, kind) in [
            (400, FailureKind::Invalid),
            (404, FailureKind::NotFound),
            (413, FailureKind::TooLarge),
            (422, FailureKind::Invalid),
            (500, FailureKind::Server),
        ] {
            assert_eq!(read(status, body).kind, kind, "{status}");
        }
        let body = r#"{"error":{"message":"no","type":"InternalServerError","code":503}}"#;
        assert_eq!(Failure::read(None, None, body.as_bytes()).kind, FailureKind::Overloaded);
    }

    #[test]
    fn an_overflow_is_known_by_its_words() {
        let body = r#"{"error":{"message":"This model's maximum context length is 8 tokens.",
            "type":"BadRequestError","code":400}}"#;
        assert_eq!(read(400, body).kind, FailureKind::ContextOverflow);
    }
}
