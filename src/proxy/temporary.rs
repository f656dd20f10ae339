//! `POST /v1/temporary-keys`: a key for whoever knows the password, or has done the work.

use std::time::Duration;

use pingora::proxy::Session;
use serde::Deserialize;
use serde_json::{Value, json};

use super::context::Context;
use super::me::moment;
use super::refusal::Refusal;
use super::{Gateway, address, arrive};
use crate::access::Digest;
use crate::access::limits::Now;
use crate::access::temporary::{Challenge, Issued, NotIssued};
use crate::config::TemporaryKeys;
use crate::store::{Store, StoreError};

/// The longest body, in bytes.
const LONGEST: u64 = 4096;
/// How long the store may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// What an address is hashed with: unlike every key's and user's id.
const PURPOSE: &str = "temporary-keys";

/// What is asked for with a password, or with the solution of a challenge.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    password: Option<String>,
    challenge: Option<Challenge>,
    solution: Option<String>,
}

/// A challenge to work on.
pub async fn challenge(
    session: &mut Session,
    ctx: &mut Context,
    gateway: &Gateway,
) -> Result<Value, Refusal> {
    let terms = terms(ctx)?;
    // Nothing in it matters, but the connection can live on.
    let _body = arrive::read_json(session, ctx, &gateway.metrics, LONGEST).await;
    let tries = terms.proof_of_work.ok_or_else(|| Refusal::not_offered("A proof of work"))?;
    let store = store(gateway)?;
    let address = address_of(ctx, session)?;
    let key = in_time(gateway.registry.issuer.signing_key(&store, false)).await?;
    let made = Challenge::new(&key, tries, address, Now::by_clock().0);
    let mut told = json!(made);
    if let Some(told) = told.as_object_mut() {
        told.insert("parameters".to_owned(), Challenge::parameters());
        told.insert("difficulty".to_owned(), json!(tries));
    }
    Ok(told)
}

/// A key, shown once.
pub async fn make(
    session: &mut Session,
    ctx: &mut Context,
    gateway: &Gateway,
) -> Result<Value, Refusal> {
    let terms = terms(ctx)?;
    let (body, _members) = arrive::read_json(session, ctx, &gateway.metrics, LONGEST).await?;
    let asked: Asked = serde_json::from_slice(&body).map_err(|_| Refusal::no_proof())?;
    let store = store(gateway)?;
    let address = address_of(ctx, session)?;
    let issuer = &gateway.registry.issuer;
    issuer.attempt(address, Now::by_clock().0).map_err(Refusal::too_many_attempts)?;
    let proof = match asked {
        Asked { password: Some(password), challenge: None, solution: None } => {
            let right = terms.password.as_ref();
            let right = right.ok_or_else(|| Refusal::not_offered("A password"))?;
            if Digest::of(right.expose()) != Digest::of(&password) {
                return Err(Refusal::wrong_proof("The password is wrong."));
            }
            None
        }
        Asked { password: None, challenge: Some(challenge), solution: Some(solution) } => {
            terms.proof_of_work.ok_or_else(|| Refusal::not_offered("A proof of work"))?;
            check(gateway, &store, &challenge, address).await?;
            if !issuer.is_solved(&challenge, solution).await {
                return Err(Refusal::wrong_proof("The solution is wrong."));
            }
            Some(challenge.signature)
        }
        _ => return Err(Refusal::no_proof()),
    };
    let making = issuer.issue(&store, &terms, address, proof.as_deref(), Now::by_clock().0);
    let Ok(made) = tokio::time::timeout(PATIENCE, making).await else {
        return Err(Refusal::keys_away());
    };
    let Issued { key, user } = made.map_err(|error| not_issued(&error))?;
    // Written it is; where this comes late, word of it comes from the store.
    let _learnt = in_time(gateway.registry.learn(&store)).await;
    Ok(json!({
        "key": key.secret.expose(),
        "expires_at": user.expires_at.and_then(moment),
        "user": { "id": user.id, "name": user.name },
    }))
}

/// A challenge of another node is signed with a key this one may not have read yet.
async fn check(
    gateway: &Gateway,
    store: &Store,
    challenge: &Challenge,
    address: u64,
) -> Result<(), Refusal> {
    let (issuer, now) = (&gateway.registry.issuer, Now::by_clock().0);
    let mut checked = Ok(());
    for anew in [false, true] {
        let key = in_time(issuer.signing_key(store, anew)).await?;
        checked = challenge.check(&key, address, now);
        if checked.is_ok() {
            break;
        }
    }
    checked.map_err(|why| Refusal::wrong_challenge(&why.to_string()))
}

async fn in_time<T>(answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, Refusal> {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) if !error.may_pass() => {
            log::error!("temporary keys: {error}");
            Err(Refusal::internal())
        }
        _ => Err(Refusal::keys_away()),
    }
}

fn not_issued(error: &NotIssued) -> Refusal {
    match error {
        NotIssued::TooMany { until } => {
            let left = until.saturating_sub(Now::by_clock().0);
            Refusal::too_many_keys(Duration::from_millis(u64::try_from(left).unwrap_or(0)))
        }
        NotIssued::Used => Refusal::wrong_challenge(&error.to_string()),
        NotIssued::Store(error) if error.may_pass() => Refusal::keys_away(),
        NotIssued::Store(error) => {
            log::error!("temporary keys: {error}");
            Refusal::internal()
        }
    }
}

fn terms(ctx: &Context) -> Result<TemporaryKeys, Refusal> {
    ctx.snapshot.config.temporary_keys.clone().ok_or_else(Refusal::internal)
}

fn store(gateway: &Gateway) -> Result<Store, Refusal> {
    gateway.registry.store().ok_or_else(Refusal::keys_away)
}

fn address_of(ctx: &Context, session: &Session) -> Result<u64, Refusal> {
    let address = address::client(ctx, session).ok_or_else(Refusal::internal)?;
    Ok(address::hash(PURPOSE, address))
}
