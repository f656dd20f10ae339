//! The `listen` section: where clients are served.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::Privacy;
use super::read::Value;

/// One address clients are served on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Where it listens.
    pub address: SocketAddr,
    /// With what certificate; absent means plain.
    pub tls: Option<ListenTls>,
    /// `privacy: strict` holds for those who call here.
    pub strict: bool,
}

/// A listener's certificate and key, in PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenTls {
    /// The certificate chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

// === impl Listen ===

impl Listen {
    /// A plain listener on 127.0.0.1.
    pub fn loopback(port: u16) -> Self {
        Self::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    /// A listener without TLS.
    pub fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None, strict: false }
    }

    /// Whether a connection to this local address came in here.
    pub fn takes(&self, local: SocketAddr) -> bool {
        let (here, there) = (self.address.ip().to_canonical(), local.ip().to_canonical());
        self.address.port() == local.port() && (here.is_unspecified() || here == there)
    }

    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        self.address.ip().to_canonical().is_loopback()
    }
}

impl Listen {
    pub(super) fn read(value: Value) -> Option<Self> {
        value.section(|s| {
            let tls = s.read("tls", ListenTls::read);
            let strict = s.read("privacy", Privacy::read_strict).unwrap_or_default();
            s.require("address", Value::address).map(|address| Self { address, tls, strict })
        })?
    }
}

// === impl ListenTls ===

impl ListenTls {
    fn read(value: Value) -> Option<Self> {
        value.section(|s| {
            let cert = s.require("cert", Value::path);
            let key = s.require("key", Value::path);
            Some(Self { cert: cert?, key: key? })
        })?
    }
}
