//! How pingora shall connect to a provider's replicas.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pingora::connectors::l4::Connect;
use pingora::tls::{CertificateDer, RootCertStore};
use pingora::upstreams::peer::{HttpPeer, PeerOptions};
use pingora::utils::tls::WrappedX509;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

use super::replica::Replica;
use crate::config;
use crate::mock;

/// How long an upstream may refuse to take the next bytes of a request. Pingora's own default is
/// for ever.
const WRITE_TIMEOUT: Duration = Duration::from_mins(1);

/// A certificate authority file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {path} as `tls.ca_file`: {reason}")]
pub struct InvalidAuthority {
    path: PathBuf,
    reason: String,
}

/// What all connections to one provider have in common.
pub struct PeerTemplate {
    options: PeerOptions,
    server_name: Option<String>,
    /// Stands for the authorities in `tls.ca_file`; 0 without.
    trust: u64,
}

impl PeerTemplate {
    pub fn new(provider: &config::Provider) -> Result<Self, InvalidAuthority> {
        let timeouts = &provider.timeouts;
        let mut options = PeerOptions::new();
        options.connection_timeout = Some(timeouts.connect);
        // TCP and TLS together: a machine that takes the one and hangs in the other is away too.
        options.total_connection_timeout = Some(timeouts.connect.saturating_mul(2));
        options.read_timeout = Some(timeouts.first_byte.max(timeouts.between_chunks));
        options.write_timeout = Some(WRITE_TIMEOUT);
        options.idle_timeout = Some(timeouts.idle_pool);
        options.verify_cert = provider.tls.verify;
        options.verify_hostname = provider.tls.verify;
        let mut trust = 0;
        if let Some(path) = &provider.tls.ca_file {
            let authorities = read_authorities(path)?;
            trust = fingerprint(&authorities);
            options.ca = Some(authorities.into());
        }
        if provider.is_built_in() {
            options.custom_l4 = Some(in_process(provider.mock.as_ref()));
        }
        Ok(Self { options, server_name: provider.tls.server_name.clone(), trust })
    }

    /// Whether both trust the same authorities.
    pub fn trusts_as(&self, other: &Self) -> bool {
        self.trust == other.trust
    }

    /// The peer for one attempt.
    pub fn peer(&self, replica: &Replica) -> HttpPeer {
        let url = &replica.url;
        let server_name = match (&self.server_name, url.https) {
            (Some(name), true) => name.clone(),
            (None, true) => url.host.clone(),
            (_, false) => String::new(),
        };
        let mut peer = HttpPeer::new(replica.address, url.https, server_name);
        peer.options = self.options.clone();
        // A connection is taken up again only by those who trust the same.
        peer.group_key = self.trust;
        peer
    }

    /// The peer for what belongs to the provider and is none of its replicas: whoever lends its tokens.
    /// It trusts the same authorities, and certificates are checked whatever the replicas' are.
    pub fn beside(&self, address: SocketAddr, url: &config::Url, connect: Duration) -> HttpPeer {
        let server_name = if url.https { url.host.clone() } else { String::new() };
        let mut peer = HttpPeer::new(address, url.https, server_name);
        peer.options.ca.clone_from(&self.options.ca);
        peer.options.total_connection_timeout = Some(connect);
        peer.options.connection_timeout = Some(connect);
        peer
    }
}

fn in_process(given: Option<&config::MockOptions>) -> Arc<dyn Connect + Send + Sync> {
    let mut options = mock::Options::default();
    if let Some(given) = given {
        options.tokens = given.tokens.unwrap_or(options.tokens);
        options.delay = given.delay.unwrap_or(options.delay);
        options.interval = given.interval.unwrap_or(options.interval);
        options.fail = given.fail.as_deref().and_then(|fail| fail.parse().ok());
    }
    mock::Connector::new(options)
}

fn fingerprint(authorities: &[WrappedX509]) -> u64 {
    let mut digest = Sha256::new();
    for authority in authorities {
        digest.update(authority.borrow_raw_cert());
    }
    let first = digest.finalize().first_chunk().copied();
    first.map_or(0, u64::from_be_bytes)
}

/// Reads PEM certificates, and tries each as a trust anchor: pingora would only find out at the
/// first connection.
pub(super) fn read_authorities(path: &Path) -> Result<Vec<WrappedX509>, InvalidAuthority> {
    let invalid = |reason: String| InvalidAuthority { path: path.to_owned(), reason };
    let text = std::fs::read(path).map_err(|error| invalid(error.to_string()))?;
    let mut authorities = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
        let der = certificate.to_vec();
        RootCertStore::empty().add(certificate).map_err(|error| invalid(error.to_string()))?;
        authorities.push(WrappedX509::new(der, pingora::utils::tls::parse_x509));
    }
    if authorities.is_empty() {
        return Err(invalid("it holds no PEM certificate".to_owned()));
    }
    Ok(authorities)
}
