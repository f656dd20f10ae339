//! A request that is signed instead of carrying a key: the last thing that is done to it.

use http::header;
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType, OrErr, Result};

use super::attempt::Attempt;
use super::body::Part;
use super::heads;

/// Signs a request whose head is finished, and whose body these parts are. Nothing, for a provider
/// that is called with a key.
pub fn sign(attempt: &Attempt, request: &mut RequestHeader, parts: &[Part]) -> Result<()> {
    let Some(signer) = attempt.key().and_then(|key| key.signer()) else { return Ok(()) };
    let mut body = Vec::with_capacity(parts.len());
    for part in parts {
        let Part::Bytes(bytes) = part else {
            // The signature stands in the head, and is about every byte.
            return Error::e_explain(ErrorType::InternalError, "an upload cannot be signed");
        };
        body.push(bytes.as_ref());
    }
    let target = String::from_utf8_lossy(request.raw_path()).into_owned();
    let (method, headers) = (request.method.as_str(), &request.headers);
    let added = signer.sign(method, &target, headers, body);
    let added = added.or_err(ErrorType::InternalError, "a request that cannot be signed")?;
    heads::edit_request(request, |headers| {
        headers.remove(header::AUTHORIZATION);
        for (name, value) in added {
            headers.insert(name, value);
        }
        Ok(())
    })
}
