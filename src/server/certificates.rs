//! The certificates of TLS listeners: read again at each reload, and given to new connections.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use pingora::tls::sign::CertifiedKey;
use pingora::tls::{
    CertificateDer, ClientHello, CryptoProvider, PrivateKeyDer, ResolvesServerCert,
    install_default_crypto_provider,
};
use rustls_pki_types::pem::PemObject;

use super::Unstartable;
use crate::config::{Listen, ListenTls};

/// More than any chain of certificates has: a path such as `/dev/zero` must not fill the memory.
const LONGEST: u64 = 1 << 20;

/// The certificates that listeners show, by address.
#[derive(Clone, Debug, Default)]
pub struct Certificates(Vec<(SocketAddr, Arc<Shown>)>);

/// Certificates with their keys, read and not shown yet.
pub type Fresh = Vec<(SocketAddr, Arc<CertifiedKey>)>;

/// What one listener shows.
#[derive(Debug)]
pub struct Shown(ArcSwap<CertifiedKey>);

impl Certificates {
    /// Those of all listeners, as the configuration names them.
    pub fn read(listeners: &[Listen]) -> Result<Fresh, Unstartable> {
        let mut fresh = Vec::new();
        for Listen { address, tls, .. } in listeners {
            let Some(tls) = tls else { continue };
            let key = read(tls);
            let failed = |reason| Unstartable::Listener { address: *address, reason };
            fresh.push((*address, Arc::new(key.map_err(failed)?)));
        }
        Ok(fresh)
    }

    pub fn new(fresh: Fresh) -> Self {
        let shown = |(address, key)| (address, Arc::new(Shown(ArcSwap::new(key))));
        Self(fresh.into_iter().map(shown).collect())
    }

    /// What the listener at this address shows.
    pub fn of(&self, address: SocketAddr) -> Option<Arc<Shown>> {
        let mut shown = self.0.iter().filter(|(known, _)| *known == address);
        shown.next().map(|(_, shown)| Arc::clone(shown))
    }

    /// Shows these from the next handshake on. A listener that is not among them goes on as before.
    pub fn show(&self, fresh: Fresh) {
        for (address, key) in fresh {
            if let Some(shown) = self.of(address) {
                shown.0.store(key);
            }
        }
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// Reads a chain and its key, and sees that they belong together.
fn read(given: &ListenTls) -> Result<CertifiedKey, String> {
    install_default_crypto_provider();
    let provider = CryptoProvider::get_default().ok_or("there is no cryptography")?;
    let (cert, key) = (given.cert.display(), given.key.display());
    let chain = CertificateDer::pem_slice_iter(&bytes(&given.cert)?).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| format!("{cert} cannot be used: {error}"))?;
    if chain.is_empty() {
        return Err(format!("{cert} holds no PEM certificate"));
    }
    // Not repeated: what stands in the file is a secret.
    let secret = PrivateKeyDer::from_pem_slice(&bytes(&given.key)?);
    let secret = secret.map_err(|_| format!("{key} holds no PEM private key"))?;
    let pair = CertifiedKey::from_der(chain, secret, provider);
    pair.map_err(|error| format!("{cert} and {key} cannot be used together: {error}"))
}

fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |error| format!("cannot read {}: {error}", path.display());
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(LONGEST).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str) -> ListenTls {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let path = |kind: &str| folder.join(format!("{name}.{kind}"));
        std::fs::write(path("crt"), made.cert.pem()).unwrap();
        std::fs::write(path("key"), made.signing_key.serialize_pem()).unwrap();
        ListenTls { cert: path("crt"), key: path("key") }
    }

    #[test]
    fn a_certificate_needs_its_own_key() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (write(folder.path(), "one"), write(folder.path(), "other"));
        assert!(read(&one).is_ok() && read(&other).is_ok());
        let mixed = ListenTls { cert: one.cert.clone(), key: other.key };
        assert!(read(&mixed).unwrap_err().contains("cannot be used together"));
        let swapped = ListenTls { cert: one.key.clone(), key: one.cert.clone() };
        assert!(read(&swapped).unwrap_err().contains("no PEM certificate"));
        let twice = ListenTls { cert: one.cert.clone(), key: one.cert };
        let said = read(&twice).unwrap_err();
        assert!(said.contains("no PEM private key") && !said.contains("BEGIN"), "{said}");
    }

    #[test]
    fn only_listeners_that_are_open_show_a_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let listen =
            |port: u16| Listen { tls: Some(write(folder.path(), "one")), ..Listen::loopback(port) };
        let (open, new) = (listen(1), listen(2));
        let certificates =
            Certificates::new(Certificates::read(std::slice::from_ref(&open)).unwrap());
        let before = certificates.of(open.address).unwrap().0.load_full();
        write(folder.path(), "one");
        let fresh = Certificates::read(&[open.clone(), new.clone()]).unwrap();
        certificates.show(fresh);
        let after = certificates.of(open.address).unwrap().0.load_full();
        assert_ne!(before.cert, after.cert);
        assert!(certificates.of(new.address).is_none());
        certificates.show(Vec::new());
        assert_eq!(certificates.of(open.address).unwrap().0.load_full().cert, after.cert);
    }
}
