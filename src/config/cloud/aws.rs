//! AWS's chain of credentials.

use std::path::PathBuf;

use super::super::read::Section;
use super::{Access, Given, Secret, Surroundings, Url, require};

/// Where keys to sign with come from: the first of these that is said.
#[derive(Debug, Clone, PartialEq)]
pub enum AwsLogin {
    /// In the file, or in the environment.
    Keys(AccessKey),
    /// Of a role, for a token in a file (Kubernetes: IAM roles for service accounts).
    WebIdentity {
        /// The role's ARN.
        role: String,
        /// What the session is called in AWS's records.
        session: String,
        token_file: PathBuf,
        /// AWS's token service.
        url: Url,
    },
    /// From the host of a container (ECS, EKS Pod Identity).
    Container {
        url: Url,
        /// Path and query.
        target: String,
        authorization: Option<Authorization>,
    },
    /// From the metadata service of an EC2 instance, here.
    Instance(Url),
}

/// A pair of keys, with a token when they are lent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKey {
    pub id: Secret,
    pub secret: Secret,
    pub session_token: Option<Secret>,
}

/// What a container shows its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authorization {
    Token(Secret),
    /// Read anew each time: its host writes others into it.
    File(PathBuf),
}

// === impl AwsLogin ===

impl AwsLogin {
    pub(super) fn of(
        s: &Section,
        given: &Given,
        around: &Surroundings,
        access: Access,
    ) -> Option<Self> {
        let said = given.access_key_id.is_some() || given.secret_access_key.is_some();
        if access.keys && said {
            return s.error("Bedrock is called with `api_keys` or with `access_key_id`, not both");
        }
        // What is empty was meant to come from the environment.
        if said || given.session_token.is_some() {
            require(s, "access_key_id");
            require(s, "secret_access_key");
        }
        let both = s.has("access_key_id") && s.has("secret_access_key");
        if both && given.access_key_id.is_some() != given.secret_access_key.is_some() {
            return s.error("one of `access_key_id` and `secret_access_key` is empty");
        }
        let chosen = given.access_key_id.clone().zip(given.secret_access_key.clone());
        let region = given.region.as_deref().unwrap_or("us-east-1");
        let login = if let Some((id, secret)) = chosen {
            Self::Keys(AccessKey { id, secret, session_token: given.session_token.clone() })
        } else if let Some((id, secret)) = around.aws_keys.clone() {
            Self::Keys(AccessKey { id, secret, session_token: around.aws_session_token.clone() })
        } else if let Some((token_file, role)) = around.aws_web_identity.clone() {
            let url = format!("https://sts.{region}.{}", domain(region)).parse().ok();
            let session = around.aws_session_name.clone().unwrap_or_else(|| "forebay".to_owned());
            Self::WebIdentity { role, session, token_file, url: given.token_url.clone().or(url)? }
        } else if let Some((url, target)) = around.aws_container.clone() {
            let token = around.aws_container_token.clone().map(Authorization::Token);
            let file = around.aws_container_token_file.clone().map(Authorization::File);
            Self::Container { url, target, authorization: file.or(token) }
        } else {
            let instance = "http://169.254.169.254".parse().ok();
            Self::Instance(around.aws_metadata.clone().or(instance)?)
        };
        access.wants_login().then_some(login)
    }
}

/// What the names of a region's hosts end with.
pub(super) fn domain(region: &str) -> &'static str {
    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
}
