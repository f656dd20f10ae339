//! Keys to sign with, as AWS lends them: for a role's token, to containers, to instances.

use std::path::Path;
use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue, Method, header};
use serde_json::Value;

use super::request::{TokenRequest, Unobtained};
use super::sigv4::AwsKeys;
use super::token::{Grant, Token};
use super::{Asking, Step};
use crate::config::{AccessKey, Authorization, AwsLogin, Secret, Url};

/// How long before their end keys are renewed.
const AHEAD: Duration = Duration::from_mins(5);

/// Where an instance's service tells its roles, and the keys of each.
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
static INSTANCE_TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");

/// What an answer is awaited for.
#[derive(Debug)]
pub enum Awaited {
    /// Keys, in XML.
    WebIdentity,
    /// Keys, in JSON.
    Keys,
    /// What an instance's service wants to be shown from then on (`IMDSv2`).
    InstanceToken(Url),
    /// The name of an instance's role.
    Role(Url, Secret),
}

pub fn first(
    given: &AwsLogin,
    read: impl Fn(&Path) -> Result<String, Unobtained>,
) -> Result<Step, Unobtained> {
    match given {
        AwsLogin::Keys(key) => Ok(Step::Done(Token::lasting(Grant::Keys(AwsKeys::new(key))))),
        AwsLogin::WebIdentity { role, session, token_file, url } => {
            let token = Secret::new(read(token_file)?.trim());
            // https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
            let pairs = [
                ("Action", "AssumeRoleWithWebIdentity"),
                ("Version", "2011-06-15"),
                ("RoleArn", role.as_str()),
                ("RoleSessionName", session.as_str()),
                ("WebIdentityToken", token.expose()),
            ];
            let request = TokenRequest::form(url.clone(), &pairs).hide(&token);
            Ok(ask(request, Awaited::WebIdentity))
        }
        AwsLogin::Container { url, target, authorization } => {
            let shown = match authorization {
                None => None,
                Some(Authorization::Token(token)) => Some(token.clone()),
                Some(Authorization::File(path)) => Some(Secret::new(read(path)?.trim())),
            };
            let mut request = TokenRequest::get(url.clone(), target.clone());
            if let Some(token) = shown {
                request = request.secret_header(header::AUTHORIZATION, &token);
            }
            Ok(ask(request, Awaited::Keys))
        }
        AwsLogin::Instance(url) => {
            let target = "/latest/api/token".to_owned();
            let mut request = TokenRequest::get(url.clone(), target);
            request.method = Method::PUT;
            let request = request.header("x-aws-ec2-metadata-token-ttl-seconds", "21600");
            Ok(ask(request, Awaited::InstanceToken(url.clone())))
        }
    }
}

fn ask(request: TokenRequest, awaited: Awaited) -> Step {
    Step::Ask(Asking { request, awaited: super::Awaited::Aws(awaited) })
}

impl Awaited {
    pub fn read(
        self,
        request: &TokenRequest,
        status: u16,
        body: &[u8],
        now: SystemTime,
    ) -> Result<Step, Unobtained> {
        let text = String::from_utf8_lossy(body);
        if status != 200 {
            return Err(refused(request, status, &text));
        }
        match self {
            Self::WebIdentity => {
                let member = |name: &str| between(&text, name).map(str::to_owned);
                lent(request, member, "SessionToken", now)
            }
            Self::Keys => {
                let answer: Value = serde_json::from_slice(body).unwrap_or_default();
                // An instance's service says so with status 200.
                if answer.get("Code").and_then(Value::as_str).is_some_and(|code| code != "Success")
                {
                    return Err(refused(request, status, &text));
                }
                let member =
                    |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
                lent(request, member, "Token", now)
            }
            Self::InstanceToken(url) => {
                let token = Secret::new(text.trim());
                let next = TokenRequest::get(url.clone(), ROLES.to_owned());
                let next = next.secret_header(INSTANCE_TOKEN.clone(), &token);
                Ok(ask(next, Self::Role(url, token)))
            }
            Self::Role(url, token) => {
                let role = text.lines().next().unwrap_or_default().trim();
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
                if role.is_empty() || !role.bytes().all(plain) {
                    return Err(request.unusable("it names no role of the instance"));
                }
                let next = TokenRequest::get(url, format!("{ROLES}{role}"));
                Ok(ask(next.secret_header(INSTANCE_TOKEN.clone(), &token), Self::Keys))
            }
        }
    }
}

/// Keys, from the members of an answer.
fn lent(
    request: &TokenRequest,
    member: impl Fn(&str) -> Option<String>,
    session_token: &str,
    now: SystemTime,
) -> Result<Step, Unobtained> {
    let graphic = |text: &String| HeaderValue::try_from(text).is_ok() && !text.is_empty();
    let some = |name: &str| member(name).filter(graphic).map(Secret::new);
    let keys = some("AccessKeyId").zip(some("SecretAccessKey"));
    let (id, secret) = keys.ok_or_else(|| request.unusable("it has no keys"))?;
    let end = member("Expiration").and_then(|end| end.parse::<jiff::Timestamp>().ok());
    let end = end.ok_or_else(|| request.unusable("it has no `Expiration`"))?;
    let life = SystemTime::from(end).duration_since(now).unwrap_or_default();
    if life.is_zero() {
        return Err(request.unusable("its keys have expired"));
    }
    let key = AccessKey { id, secret, session_token: some(session_token) };
    Ok(Step::Done(Token::lent(Grant::Keys(AwsKeys::new(&key)), life, AHEAD)))
}

/// The kind of error, and what about it, from XML or JSON.
fn refused(request: &TokenRequest, status: u16, text: &str) -> Unobtained {
    let answer: Value = serde_json::from_str(text).unwrap_or_default();
    let word = |names: [&str; 2]| {
        let told = names.iter().find_map(|name| answer.get(*name)?.as_str());
        told.or_else(|| between(text, names.first()?)).unwrap_or_default().to_owned()
    };
    request.refused(status, &[&word(["Code", "code"]), &word(["Message", "message"])])
}

/// What stands between the tags of an element of XML.
fn between<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(inside, _)| inside.trim())
}
