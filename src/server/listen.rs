//! One listener: plain or TLS, HTTP/1.1 and HTTP/2 on both.

use std::net::{SocketAddr, TcpListener};

use pingora::listeners::ListenerConfig;
use pingora::listeners::tls::TlsSettings;
use pingora::protocols::l4::stream::L4BufferSettings;

use super::Unstartable;
use crate::config::Listen;

/// Bytes gathered before a write. Pingora's 1,460 would cut most events and answers in two.
const WRITE_BUFFER: usize = 16 << 10;

/// What pingora shall listen on.
pub fn listener(given: &Listen) -> Result<ListenerConfig, Unstartable> {
    // HTTP parsers have buffers of their own; a second one of 64 KiB per connection adds nothing.
    let buffers = L4BufferSettings { read: Some(0), write: Some(WRITE_BUFFER) };
    let listener = ListenerConfig::tcp(given.address.to_string()).l4_buffer(buffers);
    let Some(tls) = &given.tls else { return Ok(listener) };
    let failed = |reason: String| Unstartable::Listener { address: given.address, reason };
    let (cert, key) = (tls.cert.to_string_lossy(), tls.key.to_string_lossy());
    for path in [&tls.cert, &tls.key] {
        let readable = std::fs::File::open(path);
        readable.map_err(|error| failed(format!("cannot read {}: {error}", path.display())))?;
    }
    let settings = TlsSettings::intermediate(&cert, &key);
    let mut settings = settings.map_err(|error| failed(error.to_string()))?;
    settings.enable_h2();
    Ok(listener.tls(settings))
}

/// Tries an address out. Pingora binds late, tries for half a minute, and then leaves a process
/// without a listener.
pub fn probe(address: SocketAddr) -> Result<(), Unstartable> {
    let bound = TcpListener::bind(address).map(drop);
    bound.map_err(|source| Unstartable::Address { address, source })
}

/// A listener in words.
pub fn describe(given: &Listen) -> String {
    let scheme = if given.tls.is_some() { "https" } else { "http" };
    format!("{scheme}://{}", given.address)
}
