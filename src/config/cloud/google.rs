//! Google Cloud's application default credentials.

use std::path::PathBuf;

use super::{Access, Given, Surroundings, Url};

/// Where a token for Google Cloud comes from, in the order of Google's own libraries:
/// <https://docs.cloud.google.com/docs/authentication/application-default-credentials>.
#[derive(Debug, Clone, PartialEq)]
pub struct GoogleLogin {
    /// `credentials_file`, else what `GOOGLE_APPLICATION_CREDENTIALS` names: it has to be there.
    pub file: Option<PathBuf>,
    /// What `gcloud` keeps for its user: taken when it is there, and no `file` is named.
    pub gcloud: Option<PathBuf>,
    /// The machine's metadata server, when there is neither.
    pub metadata: Url,
    /// Asked in place of what the credentials, or the metadata server, say.
    pub token_url: Option<Url>,
}

// === impl GoogleLogin ===

impl GoogleLogin {
    pub(super) fn of(given: &Given, around: &Surroundings, access: Access) -> Option<Self> {
        // The address rather than the name, which only a machine of Google's can look up.
        let metadata = "http://169.254.169.254".parse().ok();
        let login = Self {
            file: given.credentials_file.clone().or_else(|| around.google_file.clone()),
            gcloud: around.gcloud.clone(),
            metadata: around.google_metadata.clone().or(metadata)?,
            token_url: given.token_url.clone(),
        };
        access.wants_login().then_some(login)
    }
}
