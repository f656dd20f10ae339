//! Microsoft Entra, in place of Azure's API keys.

use std::path::PathBuf;

use super::super::read::Section;
use super::{Access, Given, Secret, Surroundings, Url, require};

/// What a token is for, when nothing is said: every resource of Azure AI takes it. Newer ones take
/// `https://ai.azure.com/.default` as well, clouds of their own have others.
const SCOPE: &str = "https://cognitiveservices.azure.com/.default";

/// How a token of Microsoft Entra is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct AzureLogin {
    /// Where.
    pub url: Url,
    /// The application, or the identity of the machine when it has several.
    pub client_id: Option<String>,
    /// What the token is for.
    pub scope: String,
    pub proof: AzureProof,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq)]
pub enum AzureProof {
    /// An application, by its secret.
    Secret(Secret),
    /// An application, by the token in a file (AKS: workload identity).
    File(PathBuf),
    /// The machine; `None` on a virtual one, else what App Service has it show.
    Machine(Option<Secret>),
}

// === impl AzureLogin ===

impl AzureLogin {
    pub(super) fn of(
        s: &Section,
        given: &Given,
        around: &Surroundings,
        access: Access,
    ) -> Option<Self> {
        let names = ["tenant_id", "client_id", "client_secret", "federated_token_file"];
        if !given.managed_identity && !names.iter().any(|name| s.has(name)) {
            report_lonely(s);
            return None;
        }
        if access.keys {
            return s.error("Azure is called with `api_keys` or with an identity, not both");
        }
        if proofs(s) + usize::from(given.managed_identity) != 1 {
            return s.error(
                "an identity needs one of `client_secret`, `federated_token_file` and \
                 `managed_identity: true`",
            );
        }
        let scope = given.scope.clone().unwrap_or_else(|| SCOPE.to_owned());
        let login = if given.managed_identity {
            let machine = "http://169.254.169.254/metadata/identity/oauth2/token".parse().ok();
            let (url, header) = around.azure_identity.clone().unzip();
            let url = given.token_url.clone().or(url).or(machine)?;
            let proof = AzureProof::Machine(header);
            Self { url, client_id: given.client_id.clone(), scope, proof }
        } else {
            require(s, "client_id");
            if given.token_url.is_none() {
                require(s, "tenant_id");
            }
            let tenant = given.tenant_id.as_deref().unwrap_or_default();
            let entra = format!("https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token");
            let url = given.token_url.clone().or_else(|| entra.parse().ok())?;
            let secret = given.client_secret.clone().map(AzureProof::Secret);
            let file = given.federated_token_file.clone().map(AzureProof::File);
            let Some(proof) = secret.or(file) else {
                return s.error("`client_secret` is empty");
            };
            Self { url, client_id: given.client_id.clone(), scope, proof }
        };
        access.wants_login().then_some(login)
    }
}

fn proofs(s: &Section) -> usize {
    ["client_secret", "federated_token_file"].iter().filter(|name| s.has(name)).count()
}

/// What says something of an identity where there is none.
fn report_lonely(s: &Section) {
    for name in ["scope", "token_url"].into_iter().filter(|name| s.has(name)) {
        let message = format!("`{name}` belongs to an identity, such as `managed_identity: true`");
        s.value.findings.error(s.location_of(name), message);
    }
}
