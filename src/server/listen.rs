//! One listener: plain or TLS, HTTP/1.1 and HTTP/2 on both.

use pingora::Error;
use pingora::listeners::ListenerConfig;
use pingora::listeners::tls::TlsSettings;
use pingora::protocols::l4::stream::L4BufferSettings;

use super::Unstartable;
use super::certificates::Certificates;
use crate::config::Listen;

/// Bytes gathered before a write. Pingora's 1,460 would cut most events and answers in two.
const WRITE_BUFFER: usize = 16 << 10;

/// What pingora shall listen on.
pub fn listener(
    given: &Listen,
    certificates: &Certificates,
) -> Result<ListenerConfig, Unstartable> {
    // HTTP parsers have buffers of their own; a second one of 64 KiB per connection adds nothing.
    let buffers = L4BufferSettings { read: Some(0), write: Some(WRITE_BUFFER) };
    let listener = ListenerConfig::tcp(given.address.to_string()).l4_buffer(buffers);
    let Some(shown) = certificates.of(given.address) else { return Ok(listener) };
    let failed = |error: Box<Error>| Unstartable::Listener {
        address: given.address,
        reason: error.to_string(),
    };
    let mut settings = TlsSettings::intermediate("", "").map_err(failed)?;
    settings.set_cert_resolver(shown);
    settings.enable_h2();
    Ok(listener.tls(settings))
}

/// A listener in words.
pub fn describe(given: &Listen) -> String {
    let scheme = if given.tls.is_some() { "https" } else { "http" };
    format!("{scheme}://{}", given.address)
}
