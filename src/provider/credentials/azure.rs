//! Tokens of Microsoft Entra: <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow>
//! (applications), and of a machine's own identity.

use std::path::Path;
use std::time::Duration;

use http::HeaderName;

use super::request::{TokenRequest, Unobtained, form};
use super::{Asking, Awaited, Step};
use crate::config::{AzureLogin, AzureProof, Secret};

/// How long before its end a token is renewed.
pub const AHEAD: Duration = Duration::from_mins(5);

/// What a federated token is shown as (RFC 7523 §2.2).
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

pub fn first(
    given: &AzureLogin,
    read: impl Fn(&Path) -> Result<String, Unobtained>,
) -> Result<Step, Unobtained> {
    let request = match &given.proof {
        AzureProof::Secret(secret) => {
            application(given, &[("client_secret", secret.expose())]).hide(secret)
        }
        AzureProof::File(path) => {
            let token = Secret::new(read(path)?.trim());
            let shown =
                [("client_assertion_type", ASSERTION), ("client_assertion", token.expose())];
            application(given, &shown).hide(&token)
        }
        AzureProof::Machine(header) => machine(given, header.as_ref()),
    };
    Ok(Step::Ask(Asking { request, awaited: Awaited::Azure }))
}

fn application(given: &AzureLogin, proof: &[(&str, &str)]) -> TokenRequest {
    let client = given.client_id.as_deref().unwrap_or_default();
    let mut pairs =
        vec![("grant_type", "client_credentials"), ("client_id", client), ("scope", &given.scope)];
    pairs.extend(proof);
    TokenRequest::form(given.url.clone(), &pairs)
}

/// A virtual machine's metadata service; with a `header` to show, that of App Service:
/// <https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference>.
fn machine(given: &AzureLogin, header: Option<&Secret>) -> TokenRequest {
    let version = if header.is_some() { "2019-08-01" } else { "2018-02-01" };
    // It knows resources, where Entra has scopes.
    let resource = given.scope.trim_end_matches("/.default");
    let mut pairs = vec![("api-version", version), ("resource", resource)];
    pairs.extend(given.client_id.as_deref().map(|client| ("client_id", client)));
    let target = format!("{}?{}", given.url.path, form(&pairs));
    let request = TokenRequest::get(given.url.clone(), target);
    match header {
        Some(header) => request.secret_header(HeaderName::from_static("x-identity-header"), header),
        None => request.header("metadata", "true"),
    }
}
