//! Why a request is not answered as asked, in the terms of the contract: status, code, message.

use std::time::Duration;

use bytes::Bytes;
use http::Method;

use crate::access::Why;
use crate::access::limits::{Claim, Exceeded, LimitKind};
use crate::balance::Shed;
use crate::config::{Dialect, Measure, format_usd};
use crate::protocol::canonical::{self, Invalid};
use crate::protocol::edit::EditError;
use crate::protocol::json::{ScanError, WrongType};
use crate::protocol::multipart::MultipartError;
use crate::protocol::{write_refusal, write_stream_refusal};

/// Why a request is not answered as asked. Its words are for the caller: no address, no key, and
/// nothing of a provider but its answer stands in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub code: &'static str,
    pub message: String,
    pub param: Option<String>,
    pub retry_after: Option<Duration>,
    /// What may be done there instead.
    pub allow: Vec<Method>,
    /// Where the request ends is not known: nothing more of its connection is read.
    pub close: bool,
}

/// A pause to suggest when nothing better is known: one round of health checks.
const TRY_AGAIN: Duration = Duration::from_secs(5);

impl Refusal {
    fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        let (message, allow) = (message.into(), Vec::new());
        Self { status, code, message, param: None, retry_after: None, allow, close: false }
    }

    fn about(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    pub fn no_key() -> Self {
        Self::new(
            401,
            "invalid_api_key",
            "No API key was sent. Send one as `Authorization: Bearer KEY`.",
        )
    }

    pub fn unknown_key() -> Self {
        Self::new(401, "invalid_api_key", "This API key is not valid here.")
    }

    /// A key of ours that is not let in now.
    pub fn refused_key(why: &Why) -> Self {
        let told = |what: &str, reason: &str| match reason {
            "" => format!("This {what} is disabled."),
            reason => format!("This {what} is disabled: {reason}"),
        };
        let message = match why {
            Why::Disabled(reason) => told("API key", reason),
            Why::UserDisabled(reason) => told("API key's user", reason),
            Why::Expired => "This API key has expired.".to_owned(),
            Why::UserExpired => "This API key's user has expired.".to_owned(),
            Why::UserGone => "This API key's user does not exist any more.".to_owned(),
        };
        Self::new(401, "invalid_api_key", message)
    }

    /// The key may be one of those that cannot be looked up now.
    pub fn keys_away() -> Self {
        let message = "The API key cannot be looked up now. Send the request again.";
        let retry_after = Some(Duration::from_secs(1));
        Self { retry_after, ..Self::new(503, "overloaded", message) }
    }

    pub fn not_for_this_key() -> Self {
        Self::new(403, "permission_denied", "This API key may not see this.")
    }

    pub fn ambiguous_key() -> Self {
        Self::new(
            400,
            "invalid_request",
            "The request carries more than one API key. Send exactly one.",
        )
    }

    pub fn unknown_path(method: &str, path: &str) -> Self {
        let path: String = path.chars().take(200).collect();
        Self::new(404, "not_found", format!("There is nothing at {method} {path}."))
    }

    pub fn wrong_method(method: &str, allow: Vec<Method>) -> Self {
        let method: String = method.chars().take(50).collect();
        let message = format!("The method {method} is not allowed here.");
        Self { allow, ..Self::new(405, "method_not_allowed", message) }
    }

    pub fn model_not_found(model: &str) -> Self {
        let shown: String = model.chars().take(200).collect();
        Self::new(404, "model_not_found", format!("The model `{shown}` does not exist."))
            .about("model")
    }

    pub fn model_not_allowed(model: &str) -> Self {
        let shown: String = model.chars().take(200).collect();
        Self::new(
            403,
            "model_not_allowed",
            format!("This API key may not use the model `{shown}`."),
        )
        .about("model")
    }

    /// What a batch asks for stands in a file.
    pub fn batch_not_allowed() -> Self {
        let message = "This API key may use certain models only, and a batch may name any: \
            it may make none.";
        Self::new(403, "model_not_allowed", message)
    }

    pub fn provider_not_allowed() -> Self {
        let message = "This API key may use none of the providers that could serve this.";
        Self::new(403, "model_not_allowed", message)
    }

    /// A limit of the caller's, or of the model, is reached.
    pub fn exceeded(exceeded: &Exceeded, claim: &Claim) -> Self {
        let (limit, cap) = (exceeded.limit.as_str(), exceeded.cap);
        let whose = exceeded.who.as_str();
        let left = exceeded.remaining;
        let too_large = |claimed: u64, shown: &dyn Fn(u64) -> String| {
            let shown_claim = shown(claimed);
            if claimed > cap && cap > 0 {
                return Some(format!(
                    " This request may come to {shown_claim}: more than there ever is."
                ));
            }
            (claimed > left && left > 0).then(|| {
                format!(" This request may come to {shown_claim}, and {} are left.", shown(left))
            })
        };
        let tokens = |tokens: u64| format!("{tokens} tokens");
        let usd = |nanos: u64| format!("{} USD", format_usd(nanos));
        let spent = |claimed: u64| match left {
            1.. if claimed > left => "does not suffice",
            _ => "is used up",
        };
        let (code, what, more) = match exceeded.limit {
            LimitKind::Blocked => ("rate_limit_exceeded", "lets no request through".into(), None),
            LimitKind::Rate => ("rate_limit_exceeded", "is reached".into(), None),
            LimitKind::RequestsPerMinute => {
                ("rate_limit_exceeded", format!("of {cap} is reached"), None)
            }
            LimitKind::TokensPerMinute => {
                let more = too_large(claim.tokens, &tokens);
                ("rate_limit_exceeded", format!("of {cap} is reached"), more)
            }
            LimitKind::Concurrency => {
                ("concurrency_exceeded", format!("of {cap} is reached"), None)
            }
            LimitKind::Quota => {
                let more = too_large(claim.tokens, &tokens);
                ("quota_exceeded", format!("of {cap} tokens {}", spent(claim.tokens)), more)
            }
            LimitKind::Budget => {
                let what = format!("of {} {}", usd(cap), spent(claim.cost_nanos));
                ("quota_exceeded", what, too_large(claim.cost_nanos, &usd))
            }
        };
        let more = more.unwrap_or_default();
        let message = format!("The `{limit}` of this {whose} {what}.{more}");
        // A client that is told 0 comes back at once.
        let retry_after = Some(exceeded.retry_after.max(Duration::from_secs(1)));
        Self { retry_after, ..Self::new(429, code, message) }
    }

    pub fn too_many_addresses(whose: &str) -> Self {
        let message = format!("This {whose} is used from more addresses than it may be.");
        Self::new(403, "too_many_addresses", message)
    }

    /// The way to a temporary key that was taken is closed here.
    pub fn not_offered(what: &str) -> Self {
        Self::new(400, "invalid_request", format!("{what} gets no temporary key here."))
    }

    pub fn no_proof() -> Self {
        let message = "Send {\"password\": …}, or {\"challenge\": …, \"solution\": …}.";
        Self::new(400, "invalid_request", message)
    }

    pub fn wrong_challenge(why: &str) -> Self {
        Self::new(400, "invalid_request", format!("{why}. Ask for another one.")).about("challenge")
    }

    pub fn wrong_proof(message: &str) -> Self {
        Self::new(403, "permission_denied", message)
    }

    pub fn too_many_attempts(retry_after: Duration) -> Self {
        let retry_after = Some(retry_after.max(Duration::from_secs(1)));
        let message = "This address has tried too often. Try again later.";
        Self { retry_after, ..Self::new(429, "rate_limit_exceeded", message) }
    }

    /// Nobody may call from there.
    pub fn network_blocked() -> Self {
        let message = "Requests from this network address are not allowed here.";
        Self::new(403, "address_blocked", message)
    }

    /// No page of that site may call.
    pub fn site_blocked() -> Self {
        Self::new(403, "origin_blocked", "Requests from this web page are not allowed here.")
    }

    /// `whose`: an address, or a user.
    pub fn too_many_requests(whose: &str, retry_after: Duration) -> Self {
        let retry_after = Some(retry_after.max(Duration::from_secs(1)));
        let message = format!("This {whose} sends requests more often than it may.");
        Self { retry_after, ..Self::new(429, "rate_limit_exceeded", message) }
    }

    /// What the request says is not let through.
    pub fn content(measure: &Measure) -> Self {
        let message = measure.message.as_deref();
        let message = message.unwrap_or("The content policy of this gateway refuses the request.");
        Self::new(measure.status, "content_refused", message)
    }

    pub fn not_moderated() -> Self {
        let message = "The request's content cannot be checked now. Send the request again.";
        let retry_after = Some(Duration::from_secs(1));
        Self { retry_after, ..Self::new(503, "moderation_unavailable", message) }
    }

    pub fn too_much_output(most: u64) -> Self {
        let message = format!("A request may ask for at most {most} tokens of output here.");
        Self::new(400, "invalid_request", message).about("max_tokens")
    }

    pub fn too_long_prompt(most: u64) -> Self {
        let message = format!("A prompt may have at most {most} tokens here, by estimate.");
        Self::new(400, "context_length_exceeded", message)
    }

    pub fn too_many_images(most: u32) -> Self {
        Self::new(400, "too_many_images", format!("A request may have at most {most} images here."))
    }

    pub fn too_many_keys(retry_after: Duration) -> Self {
        let retry_after = Some(retry_after.max(Duration::from_secs(1)));
        let message = "This address has as many temporary keys as it may have.";
        Self { retry_after, ..Self::new(429, "quota_exceeded", message) }
    }

    pub fn unknown_object(id: &str) -> Self {
        let shown: String = id.chars().take(200).collect();
        Self::new(404, "not_found", format!("There is no object `{shown}`."))
    }

    /// What the caller goes on from is not here, or not any more.
    pub fn no_previous_response(id: &str) -> Self {
        let shown: String = id.chars().take(200).collect();
        let message = format!("Previous response with id '{shown}' not found.");
        Self::new(404, "previous_response_not_found", message).about("previous_response_id")
    }

    /// Its answer was whole when it was first told: there is nothing to stop or to follow.
    pub fn not_in_background(id: &str) -> Self {
        let shown: String = id.chars().take(200).collect();
        let message = format!("The response `{shown}` was not made in the background.");
        Self::new(400, "invalid_request", message)
    }

    pub fn too_many_objects(most: usize) -> Self {
        let message =
            format!("The request names more than {most} objects that are not known here.");
        Self::new(400, "invalid_request", message)
    }

    /// The object may be one that cannot be looked up now.
    pub fn objects_away() -> Self {
        let message = "The object cannot be looked up now. Send the request again.";
        let retry_after = Some(Duration::from_secs(1));
        Self { retry_after, ..Self::new(503, "overloaded", message) }
    }

    pub fn no_model() -> Self {
        Self::new(400, "invalid_request", "The request names no model.").about("model")
    }

    pub fn no_default_provider() -> Self {
        Self::new(404, "not_found", "No provider is configured for requests without a model.")
    }

    pub fn bad_form() -> Self {
        Self::new(400, "invalid_request", "The form is malformed, or names more than one model.")
    }

    pub fn form_not_allowed() -> Self {
        Self::new(403, "model_not_allowed", "This API key may not use the model the form names.")
            .about("model")
    }

    pub fn not_streamed() -> Self {
        Self::new(
            502,
            "upstream_error",
            "The provider answered without the stream it was asked for.",
        )
    }

    pub fn wrong_type(param: &str, expected: &str) -> Self {
        Self::new(400, "invalid_request", format!("`{param}` must be {expected}.")).about(param)
    }

    pub fn encoded_body() -> Self {
        Self::new(415, "invalid_request", "A request body must not be compressed.")
            .about("content-encoding")
    }

    pub fn unknown_charset() -> Self {
        Self::new(415, "invalid_request", "A request body must be UTF-8.").about("content-type")
    }

    pub fn too_large(limit: u64) -> Self {
        let message = format!("The request body is larger than the {limit} bytes allowed.");
        Self::new(413, "request_too_large", message)
    }

    pub fn body_too_slow() -> Self {
        Self::new(408, "invalid_request", "The request body did not arrive in time.")
    }

    pub fn ambiguous(what: &str) -> Self {
        let message = format!("The request's {what} can be read in more than one way.");
        Self { close: true, ..Self::new(400, "invalid_request", message) }
    }

    /// What came is no request.
    pub fn malformed() -> Self {
        let message = "The request is malformed: this is not HTTP, or not well-formed.";
        Self { close: true, ..Self::new(400, "invalid_request", message) }
    }

    pub fn unknown_coding() -> Self {
        let message = "No transfer coding but `chunked` is supported.";
        Self { close: true, ..Self::new(501, "invalid_request", message) }
    }

    pub fn unknown_expectation() -> Self {
        let message = "No expectation but `100-continue` is supported.";
        Self { close: true, ..Self::new(417, "invalid_request", message) }
    }

    pub fn headers_too_large(limit: u64) -> Self {
        let message = format!("The request's headers are larger than the {limit} bytes allowed.");
        Self { close: true, ..Self::new(431, "headers_too_large", message) }
    }

    pub fn too_many_headers(most: usize) -> Self {
        let message = format!("The request has more than the {most} headers allowed.");
        Self { close: true, ..Self::new(431, "headers_too_large", message) }
    }

    pub fn bad_framing() -> Self {
        Self::new(400, "invalid_request", "The request body's chunks are malformed.")
    }

    /// nginx's status for it; nobody reads this one.
    pub fn client_gone() -> Self {
        Self::new(499, "client_gone", "The client left before its request was complete.")
    }

    pub fn no_healthy_upstream(retry_after: Option<Duration>) -> Self {
        let refusal =
            Self::new(503, "no_healthy_upstream", "No provider can serve this model now.");
        Self { retry_after: retry_after.or(Some(TRY_AGAIN)), ..refusal }
    }

    /// Every key that could be used has been told to wait.
    pub fn upstream_limited(rest: Duration) -> Self {
        let message = "The provider is limiting the gateway. Try again later.";
        Self { retry_after: Some(rest), ..Self::new(429, "upstream_error", message) }
    }

    pub fn upstream_auth() -> Self {
        Self::new(502, "upstream_auth", "The provider refused the gateway's own credentials.")
    }

    pub fn upstream_unreachable() -> Self {
        Self::new(502, "upstream_error", "The provider could not be reached, or broke off.")
    }

    pub fn upstream_timeout() -> Self {
        Self::new(504, "upstream_error", "The provider did not answer in time.")
    }

    /// The provider's own failure, with its own words where it had any.
    pub fn upstream_status(
        status: u16,
        said: Option<String>,
        retry_after: Option<Duration>,
    ) -> Self {
        let message =
            said.unwrap_or_else(|| format!("The provider answered with status {status}."));
        Self { retry_after, ..Self::new(status, "upstream_error", message) }
    }

    /// The provider's answer is not what its dialect promises.
    pub fn unreadable() -> Self {
        Self::new(502, "upstream_error", "The provider's answer could not be read.")
    }

    /// As what ends a stream.
    pub fn as_failure(&self) -> canonical::Failure {
        canonical::Failure {
            kind: canonical::FailureKind::of_status(self.status),
            status: Some(self.status),
            message: self.message.clone(),
            code: Some(self.code.to_owned()),
            param: self.param.clone(),
            retry_after: self.retry_after,
        }
    }

    /// The bodies of other requests take all the memory there is for them.
    pub fn overloaded() -> Self {
        let message = "The gateway holds as many requests as it can. Send the request again.";
        let retry_after = Some(Duration::from_secs(1));
        Self { retry_after, ..Self::new(503, "overloaded", message) }
    }

    /// There is no place for a record of it.
    pub fn unaudited() -> Self {
        let message = "The gateway cannot write records of requests now. Send the request again.";
        let retry_after = Some(Duration::from_secs(5));
        Self { retry_after, ..Self::new(503, "overloaded", message) }
    }

    /// The replicas that could serve it have all they can do.
    pub fn no_place(shed: Shed) -> Self {
        let message = "The model's servers have all they can do. Send the request again later.";
        Self { retry_after: Some(shed.retry_after), ..Self::new(503, "overloaded", message) }
    }

    pub fn shutting_down() -> Self {
        let message = "The gateway is shutting down. Send the request again.";
        let retry_after = Some(Duration::from_secs(1));
        Self { retry_after, ..Self::new(503, "overloaded", message) }
    }

    pub fn internal() -> Self {
        Self::new(
            500,
            "internal_error",
            "The gateway failed. The request id helps to find out why.",
        )
    }
}

impl From<ScanError> for Refusal {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Duplicate(ref member) => {
                let message = format!("The request body has `{member}` more than once.");
                Self::new(400, "duplicate_field", message).about(member.clone())
            }
            other => Self::new(400, "invalid_json", format!("The request body is {other}.")),
        }
    }
}

impl From<WrongType> for Refusal {
    fn from(error: WrongType) -> Self {
        Self::wrong_type(&error.name, error.expected)
    }
}

impl From<MultipartError> for Refusal {
    fn from(error: MultipartError) -> Self {
        Self::new(400, "invalid_request", format!("The form cannot be read: {error}."))
    }
}

impl From<EditError> for Refusal {
    fn from(error: EditError) -> Self {
        let EditError::InvalidRequest { param, message } = error;
        Self::new(400, "invalid_request", message).about(param)
    }
}

impl From<Invalid> for Refusal {
    fn from(invalid: Invalid) -> Self {
        let message = invalid.to_string();
        match invalid {
            Invalid::Request { param, .. } => {
                Self::new(400, "invalid_request", message).about(param)
            }
            Invalid::Unsupported { param, .. } => {
                Self::new(400, "unsupported_parameter", message).about(param)
            }
        }
    }
}

/// A refusal's body, in the caller's dialect.
pub fn write_body(caller: Dialect, refusal: &Refusal, request_id: &str) -> Bytes {
    write_refusal(caller, &to_write(refusal, request_id))
}

/// A refusal as the event that ends a stream, in the caller's dialect.
pub fn write_event(caller: Dialect, refusal: &Refusal, request_id: &str) -> Bytes {
    write_stream_refusal(caller, &to_write(refusal, request_id))
}

/// A refusal as the last element of an array that has others.
pub fn write_element(caller: Dialect, refusal: &Refusal, request_id: &str) -> Bytes {
    [b",\r\n", &*write_body(caller, refusal, request_id), b"]\r\n"].concat().into()
}

fn to_write<'a>(refusal: &'a Refusal, request_id: &'a str) -> canonical::Refusal<'a> {
    canonical::Refusal {
        status: refusal.status,
        code: refusal.code,
        message: &refusal.message,
        param: refusal.param.as_deref(),
        request_id,
    }
}
