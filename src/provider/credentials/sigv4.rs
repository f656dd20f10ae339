//! AWS's signature of a request, version 4:
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use sha2::{Digest, Sha256};

use super::login::Login;
use crate::config::AccessKey;

/// Keys to sign with.
#[derive(Clone)]
pub struct AwsKeys(Credentials);

/// Signs requests to one provider.
#[derive(Debug)]
pub struct Signer {
    keys: AwsKeys,
    login: Arc<Login>,
}

/// A request that cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum Unsignable {
    #[error("a header that is signed is no ASCII")]
    Header,
    #[error("it cannot be signed: {0}")]
    Request(String),
}

// === impl AwsKeys ===

impl AwsKeys {
    pub fn new(key: &AccessKey) -> Self {
        let token = key.session_token.as_ref().map(|token| token.expose().to_owned());
        Self(Credentials::new(key.id.expose(), key.secret.expose(), token, None, "forebay"))
    }

    /// The headers that sign a request, as it goes over the wire, for `service` in `region`. `target`
    /// is its path and query, `headers` are all it has: signed are those that nobody on the way has
    /// a reason to change.
    pub fn sign<'b>(
        &self,
        method: &str,
        target: &str,
        headers: &HeaderMap,
        body: impl IntoIterator<Item = &'b [u8]>,
        (region, service): (&str, &str),
        now: SystemTime,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, Unsignable> {
        let mut digest = Sha256::new();
        body.into_iter().for_each(|piece| digest.update(piece));
        let body = SignableBody::Precomputed(hex::encode(digest.finalize()));
        let mut signed = Vec::with_capacity(4);
        for (name, value) in headers.iter().filter(|(name, _)| is_signed(name)) {
            signed.push((name.as_str(), value.to_str().map_err(|_| Unsignable::Header)?));
        }
        let unsignable = |error: &dyn fmt::Display| Unsignable::Request(error.to_string());
        let request = SignableRequest::new(method, target, signed.into_iter(), body);
        let request = request.map_err(|error| unsignable(&error))?;
        let identity = self.0.clone().into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name(service)
            .time(now)
            .settings(SigningSettings::default())
            .build();
        let params = params.map_err(|error| unsignable(&error))?.into();
        let signed = sign(request, &params).map_err(|error| unsignable(&error))?;
        let (headers, _) = signed.into_parts().0.into_parts();
        let mut added = Vec::with_capacity(headers.len());
        for given in headers {
            let value = HeaderValue::try_from(given.value());
            let mut value = value.map_err(|_| Unsignable::Header)?;
            value.set_sensitive(given.name() != "x-amz-date");
            added.push((HeaderName::from_static(given.name()), value));
        }
        Ok(added)
    }
}

impl fmt::Debug for AwsKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AwsKeys(***)")
    }
}

/// What a call is about, and what AWS itself reads. Everything else is ours, or a proxy's.
fn is_signed(name: &HeaderName) -> bool {
    matches!(name, &header::HOST | &header::CONTENT_TYPE)
        || (name.as_str().starts_with("x-amz-") && !OURS.contains(&name.as_str()))
}

/// What signing itself brings.
const OURS: [&str; 2] = ["x-amz-date", "x-amz-security-token"];

// === impl Signer ===

impl Signer {
    pub(super) fn new(keys: AwsKeys, login: Arc<Login>) -> Self {
        Self { keys, login }
    }

    /// The headers that sign a request, by the clock of who reads them. To be called when nothing of
    /// it changes any more.
    pub fn sign<'b>(
        &self,
        method: &str,
        target: &str,
        headers: &HeaderMap,
        body: impl IntoIterator<Item = &'b [u8]>,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, Unsignable> {
        let host = headers.get(header::HOST).map_or(&b""[..], HeaderValue::as_bytes);
        // https://docs.aws.amazon.com/bedrock/latest/userguide/bedrock-mantle.html: it has a name of
        // its own among AWS's services.
        let mantle = host.starts_with(b"bedrock-mantle");
        let service = if mantle { "bedrock-mantle" } else { "bedrock" };
        let now = self.login.skew().now();
        self.keys.sign(method, target, headers, body, (self.login.region(), service), now)
    }
}
