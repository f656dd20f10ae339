//! The answer of an OAuth 2.0 token endpoint (RFC 6749 §5), as Google, Entra and the metadata servers of
//! both give it.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::request::{TokenRequest, Unobtained};
use super::token::{Grant, Token};

/// What is believed when the answer does not say how long its token lasts.
const UNTOLD: Duration = Duration::from_mins(5);

/// Reads the token that `request` was answered with.
pub fn read(
    request: &TokenRequest,
    status: u16,
    body: &[u8],
    ahead: Duration,
) -> Result<Token, Unobtained> {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    if status != 200 {
        let error = answer.get("error");
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or("").to_owned();
        // Google's other form: an object with a message.
        let kind =
            text(error.filter(|error| error.is_string()).or(answer.pointer("/error/status")));
        let about = answer.get("error_description").or(answer.pointer("/error/message"));
        return Err(request.refused(status, &[&kind, &text(about)]));
    }
    let token = answer.get("access_token").and_then(Value::as_str);
    let token = token.ok_or_else(|| request.unusable("it has no `access_token`"))?;
    let life = life(&answer);
    if life.is_zero() {
        return Err(request.unusable("its token has expired"));
    }
    let grant = Grant::bearer(token);
    let grant = grant.ok_or_else(|| request.unusable("no header can carry its token"))?;
    Ok(Token::lent(grant, life, ahead))
}

/// How long the token lasts: seconds, or the Unix time of its end; Azure's metadata servers write both
/// as text.
fn life(answer: &Value) -> Duration {
    let number = |name: &str| {
        let value = answer.get(name)?;
        value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())
    };
    let span = |seconds: f64| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(UNTOLD);
    if let Some(seconds) = number("expires_in") {
        return span(seconds);
    }
    let Some(end) = number("expires_on") else { return UNTOLD };
    let end = SystemTime::UNIX_EPOCH.checked_add(span(end));
    end.map_or(UNTOLD, |end| end.duration_since(SystemTime::now()).unwrap_or_default())
}
