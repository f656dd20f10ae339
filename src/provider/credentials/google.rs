//! Tokens for Google Cloud: <https://google.aip.dev/auth/4112> (service accounts),
//! <https://google.aip.dev/auth/4113> (users), and the metadata server.

use std::path::Path;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::json;

use super::request::{TokenRequest, Unobtained};
use super::{Asking, Awaited, Step};
use crate::config::{GoogleLogin, Secret, Url};

/// Google's own libraries renew as late: a metadata server hands out the same token until then.
pub const AHEAD: Duration = Duration::from_secs(225);

const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
const METADATA: &str = "/computeMetadata/v1/instance/service-accounts/default/token";
/// The longest that an assertion may be good for.
const ASSERTED: u64 = 3600;

/// Who asks.
pub enum Account {
    Service { email: String, key: Box<RsaKeyPair>, key_id: Option<String>, audience: String },
    User { client_id: String, client_secret: Secret, refresh_token: Secret, url: Url },
}

/// A file of credentials as Google's tools write it.
#[derive(Deserialize)]
struct Written {
    #[serde(rename = "type")]
    kind: String,
    client_email: Option<String>,
    private_key: Option<String>,
    private_key_id: Option<String>,
    token_uri: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    refresh_token: Option<String>,
}

pub fn first(
    given: &GoogleLogin,
    read: impl Fn(&Path) -> Result<String, Unobtained>,
    now: SystemTime,
) -> Result<Step, Unobtained> {
    let file = match (&given.file, &given.gcloud) {
        (Some(file), _) => Some((file, read(file)?)),
        (None, Some(file)) => match read(file) {
            Ok(text) => Some((file, text)),
            // `gcloud` was never used here, or by somebody else.
            Err(_) => None,
        },
        (None, None) => None,
    };
    let request = match file {
        Some((path, text)) => {
            let unusable = |reason: String| Unobtained::File { path: path.clone(), reason };
            let account = Account::read(&text).map_err(unusable)?;
            account.request(given.token_url.as_ref(), now).map_err(unusable)?
        }
        None => metadata(given),
    };
    Ok(Step::Ask(Asking { request, awaited: Awaited::Google }))
}

fn metadata(given: &GoogleLogin) -> TokenRequest {
    let request = match &given.token_url {
        Some(url) => TokenRequest::get(url.clone(), url.path.clone()),
        None => TokenRequest::get(given.metadata.clone(), METADATA.to_owned()),
    };
    // Says that nobody was tricked into asking.
    request.header("metadata-flavor", "Google")
}

impl Account {
    /// Reads a file of credentials. What is wrong with it is told without a word of what is in it.
    pub fn read(text: &str) -> Result<Self, String> {
        let written: Written = serde_json::from_str(text)
            .map_err(|_| "no credentials as Google writes them: JSON with a `type`".to_owned())?;
        let missing = |name: &str| format!("`{name}` is missing");
        let some = |value: Option<String>, name: &str| {
            value.filter(|value| !value.is_empty()).ok_or_else(|| missing(name))
        };
        let uri = written.token_uri.filter(|uri| !uri.is_empty());
        let uri = uri.unwrap_or_else(|| TOKEN_URI.to_owned());
        let url: Url = uri.parse().map_err(|error| format!("`token_uri` {error}"))?;
        match written.kind.as_str() {
            "service_account" => Ok(Self::Service {
                email: some(written.client_email, "client_email")?,
                key: Box::new(key_pair(&some(written.private_key, "private_key")?)?),
                key_id: written.private_key_id,
                audience: uri,
            }),
            "authorized_user" => Ok(Self::User {
                client_id: some(written.client_id, "client_id")?,
                client_secret: some(written.client_secret, "client_secret")?.into(),
                refresh_token: some(written.refresh_token, "refresh_token")?.into(),
                url,
            }),
            "external_account"
            | "external_account_authorized_user"
            | "impersonated_service_account"
            | "gdch_service_account" => {
                Err(format!("credentials of type `{}` are not supported", written.kind))
            }
            _ => Err("credentials of an unknown type".to_owned()),
        }
    }

    /// The request for a token, sent to `elsewhere` if that is said.
    fn request(&self, elsewhere: Option<&Url>, now: SystemTime) -> Result<TokenRequest, String> {
        match self {
            Self::Service { audience, .. } => {
                let url = match elsewhere {
                    Some(url) => url.clone(),
                    None => audience.parse().map_err(|error| format!("`token_uri` {error}"))?,
                };
                let assertion = Secret::new(self.assertion(now)?);
                let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
                let pairs = [("grant_type", grant), ("assertion", assertion.expose())];
                Ok(TokenRequest::form(url, &pairs).hide(&assertion))
            }
            Self::User { client_id, client_secret, refresh_token, url } => {
                let pairs = [
                    ("grant_type", "refresh_token"),
                    ("client_id", client_id.as_str()),
                    ("client_secret", client_secret.expose()),
                    ("refresh_token", refresh_token.expose()),
                ];
                let url = elsewhere.unwrap_or(url).clone();
                Ok(TokenRequest::form(url, &pairs).hide(client_secret).hide(refresh_token))
            }
        }
    }

    /// A JSON Web Token that says who asks, signed (RFC 7523).
    fn assertion(&self, now: SystemTime) -> Result<String, String> {
        let Self::Service { email, key, key_id, audience } = self else { return Ok(String::new()) };
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut header = json!({ "alg": "RS256", "typ": "JWT" });
        if let (Some(members), Some(id)) = (header.as_object_mut(), key_id) {
            members.insert("kid".to_owned(), json!(id));
        }
        let claims = json!({
            "iss": email, "scope": SCOPE, "aud": audience, "iat": now, "exp": now + ASSERTED,
        });
        let encoded = |text: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(text);
        let signed =
            [encoded(header.to_string().as_bytes()), encoded(claims.to_string().as_bytes())];
        let signed = signed.join(".");
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| "`private_key` cannot sign".to_owned())?;
        Ok(format!("{signed}.{}", encoded(&signature)))
    }
}

fn key_pair(pem: &str) -> Result<RsaKeyPair, String> {
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes());
    let pair = match key.map_err(|_| "`private_key` is no private key in PEM".to_owned())? {
        PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
        _ => return Err("`private_key` is no RSA key".to_owned()),
    };
    pair.map_err(|error| format!("`private_key` is no RSA key that can be used: {error}"))
}
