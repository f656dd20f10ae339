//! The variables that clouds, and their own tools, put around a program.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Secret, Url};

/// What a cloud has put around this process, as its own SDKs read it. An empty variable is none.
#[derive(Debug, Default)]
pub(in crate::config) struct Surroundings {
    /// `GOOGLE_APPLICATION_CREDENTIALS`.
    pub google_file: Option<PathBuf>,
    /// Where `gcloud` keeps what is its user's: `CLOUDSDK_CONFIG`, or `~/.config/gcloud`.
    pub gcloud: Option<PathBuf>,
    /// `GCE_METADATA_HOST`, as an address.
    pub google_metadata: Option<Url>,
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`.
    pub aws_keys: Option<(Secret, Secret)>,
    /// `AWS_SESSION_TOKEN`.
    pub aws_session_token: Option<Secret>,
    /// `AWS_WEB_IDENTITY_TOKEN_FILE`, `AWS_ROLE_ARN`.
    pub aws_web_identity: Option<(PathBuf, String)>,
    /// `AWS_ROLE_SESSION_NAME`.
    pub aws_session_name: Option<String>,
    /// `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`, or `AWS_CONTAINER_CREDENTIALS_FULL_URI`: an address,
    /// and what is asked for there.
    pub aws_container: Option<(Url, String)>,
    /// `AWS_CONTAINER_AUTHORIZATION_TOKEN`.
    pub aws_container_token: Option<Secret>,
    /// `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`.
    pub aws_container_token_file: Option<PathBuf>,
    /// `AWS_EC2_METADATA_SERVICE_ENDPOINT`.
    pub aws_metadata: Option<Url>,
    /// `IDENTITY_ENDPOINT`, `IDENTITY_HEADER`.
    pub azure_identity: Option<(Url, Secret)>,
    /// `KUBERNETES_SERVICE_HOST`, `KUBERNETES_SERVICE_PORT`: the cluster's API server.
    pub kubernetes: Option<Url>,
}

/// Where the agent of a container's host answers.
const CONTAINER_HOST: &str = "http://169.254.170.2";
/// … and other addresses of it, which never leave the machine:
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>.
const CONTAINER_HOSTS: [&str; 4] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23", "localhost"];

// === impl Surroundings ===

impl Surroundings {
    /// Reads the variables. What is wrong with one of them makes it none: they are not our own, and
    /// may be there for somebody else.
    pub fn read(environment: &BTreeMap<String, String>) -> Self {
        let text = |name: &str| {
            let value = environment.get(name).map(|value| value.trim());
            value.filter(|value| !value.is_empty()).map(str::to_owned)
        };
        // Relative to where the process was started, whatever the configuration's folder is.
        let path = |name: &str| {
            let path = PathBuf::from(text(name)?);
            Some(std::path::absolute(&path).unwrap_or(path))
        };
        let secret = |name: &str| {
            text(name).filter(|it| it.bytes().all(|it| it.is_ascii_graphic())).map(Secret::new)
        };
        let gcloud = path("CLOUDSDK_CONFIG")
            .or_else(|| Some(path("HOME")?.join(".config").join("gcloud")))
            .map(|folder| folder.join("application_default_credentials.json"));
        let metadata = text("GCE_METADATA_HOST").and_then(|it| format!("http://{it}").parse().ok());
        let relative = text("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
        let container = match relative {
            Some(path) => address(&format!("{CONTAINER_HOST}/{}", path.trim_start_matches('/'))),
            None => text("AWS_CONTAINER_CREDENTIALS_FULL_URI").and_then(|it| address(&it)),
        };
        let identity = text("IDENTITY_ENDPOINT").and_then(|it| it.parse().ok());
        Self {
            google_file: path("GOOGLE_APPLICATION_CREDENTIALS"),
            gcloud,
            google_metadata: metadata,
            aws_keys: secret("AWS_ACCESS_KEY_ID").zip(secret("AWS_SECRET_ACCESS_KEY")),
            aws_session_token: secret("AWS_SESSION_TOKEN"),
            aws_web_identity: path("AWS_WEB_IDENTITY_TOKEN_FILE").zip(text("AWS_ROLE_ARN")),
            aws_session_name: text("AWS_ROLE_SESSION_NAME"),
            aws_container: container.filter(|(url, _)| is_trusted(url)),
            aws_container_token: secret("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
            aws_container_token_file: path("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
            aws_metadata: text("AWS_EC2_METADATA_SERVICE_ENDPOINT").and_then(|it| it.parse().ok()),
            azure_identity: identity.zip(secret("IDENTITY_HEADER")),
            kubernetes: text("KUBERNETES_SERVICE_HOST").and_then(|host| {
                let port = text("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".to_owned());
                let host = if host.contains(':') { format!("[{host}]") } else { host };
                format!("https://{host}:{port}").parse().ok()
            }),
        }
    }
}

/// An address, and what is asked for there: its path and query.
fn address(text: &str) -> Option<(Url, String)> {
    let start = text.find("://")?.saturating_add(3);
    let end = text.get(start..)?.find(['/', '?']).map_or(text.len(), |at| start + at);
    let (origin, target) = text.split_at_checked(end)?;
    let plain = target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    let slash = if target.starts_with('/') { "" } else { "/" };
    plain.then_some((origin.parse().ok()?, format!("{slash}{target}")))
}

/// Whether keys may be asked for there: over TLS, or without leaving the machine.
fn is_trusted(url: &Url) -> bool {
    let loopback = url.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    url.https || loopback || CONTAINER_HOSTS.contains(&url.host.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Surroundings {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Surroundings::read(&pairs.collect())
    }

    #[test]
    fn a_container_is_asked_only_where_its_host_answers() {
        let container = |name: &str, text: &str| {
            let (url, target) = read(&[(name, text)]).aws_container?;
            Some(format!("{}://{} {target}", url.scheme(), url.authority()))
        };
        let relative = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
        let full = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
        let cases = [
            (relative, "/v2/credentials/x?a=b", Some("http://169.254.170.2 /v2/credentials/x?a=b")),
            (full, "http://169.254.170.23/v1/credentials", {
                Some("http://169.254.170.23 /v1/credentials")
            }),
            (full, "http://[fd00:ec2::23]/v1/", Some("http://[fd00:ec2::23] /v1/")),
            (full, "http://127.0.0.1:9000", Some("http://127.0.0.1:9000 /")),
            (full, "https://keys.example.org/x", Some("https://keys.example.org /x")),
            (full, "http://keys.example.org/x", None),
            (full, "http://10.0.0.1/x", None),
            (full, "nonsense", None),
        ];
        for (name, text, expected) in cases {
            assert_eq!(container(name, text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn half_of_a_pair_is_none() {
        let half = read(&[("AWS_ACCESS_KEY_ID", "a"), ("AWS_ROLE_ARN", "r"), ("HOME", " ")]);
        assert!(half.aws_keys.is_none() && half.aws_web_identity.is_none());
        assert!(half.gcloud.is_none());
    }

    #[test]
    fn gclouds_folder_may_be_elsewhere() {
        let home = read(&[("HOME", "/home/a")]).gcloud.unwrap();
        assert_eq!(
            home.to_str().unwrap(),
            "/home/a/.config/gcloud/application_default_credentials.json"
        );
        let moved = read(&[("HOME", "/home/a"), ("CLOUDSDK_CONFIG", "/g")]).gcloud.unwrap();
        assert_eq!(moved.to_str().unwrap(), "/g/application_default_credentials.json");
    }
}
