//! Asks a running server how it is, as a load balancer would.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use pingora::connectors::http::v1::Connector;
use pingora::http::RequestHeader;
use pingora::upstreams::peer::HttpPeer;
use tokio::net::lookup_host;
use tokio::time::timeout;

use crate::config::{Listen, Url};

/// For the whole question. A server that is slower is in no state to be sent anything.
const DEADLINE: Duration = Duration::from_secs(5);

/// Why a server is not ready.
#[derive(Debug, thiserror::Error)]
pub enum Unready {
    #[error("no answer within {DEADLINE:?}")]
    Silent,
    #[error("it answers {0}")]
    Status(u16),
    #[error("{0}")]
    Unreachable(#[from] io::Error),
    #[error("{0}")]
    Http(#[from] Box<pingora::Error>),
}

/// Where a server with these listeners is best asked: without TLS if it can be, and on this machine.
pub fn address(listeners: &[Listen]) -> Option<Url> {
    let plain = listeners.iter().find(|one| one.tls.is_none());
    let chosen = plain.or(listeners.first())?;
    let address = reachable(chosen.address);
    Some(Url {
        https: chosen.tls.is_some(),
        host: address.ip().to_string(),
        port: address.port(),
        path: "/health/ready".to_owned(),
    })
}

/// Where to connect to for a listener: one on every address is on this machine as well.
pub fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Asks once.
pub fn probe(url: &Url) -> Result<(), Unready> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = runtime.block_on(async { timeout(DEADLINE, get(url)).await });
    // A look-up that hangs would be waited for.
    runtime.shutdown_background();
    match asked.map_err(|_| Unready::Silent)?? {
        200 => Ok(()),
        status => Err(Unready::Status(status)),
    }
}

/// The status of what a GET of `url` brings.
async fn get(url: &Url) -> Result<u16, Unready> {
    let mut found = lookup_host((url.host.as_str(), url.port)).await?;
    let address = found.next().ok_or_else(|| io::Error::other("the name has no address"))?;
    let mut peer = HttpPeer::new(address, url.https, url.host.clone());
    // The certificate is for those outside; here it is this machine that is asked.
    peer.options.verify_cert = false;
    peer.options.verify_hostname = false;
    let path = if url.path.is_empty() { "/" } else { &url.path };
    let mut request = RequestHeader::build("GET", path.as_bytes(), None)?;
    request.insert_header("host", url.authority())?;
    request.insert_header("connection", "close")?;
    let (mut session, _) = Connector::new(None).get_http_session(&peer).await?;
    session.write_request_header(Box::new(request)).await?;
    session.read_response().await?;
    Ok(session.resp_header().map_or(0, |head| head.status.as_u16()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ListenTls;

    #[test]
    fn it_asks_on_this_machine_and_without_tls_if_it_can() {
        let listen = |address: &str, tls: bool| {
            let tls = tls.then(|| ListenTls { cert: "cert".into(), key: "key".into() });
            Listen { tls, ..Listen::plain(address.parse().unwrap()) }
        };
        let asked = |listeners: &[Listen]| address(listeners).map(|url| url.to_string());
        let outside = listen("0.0.0.0:443", true);
        let expected = "https://127.0.0.1/health/ready";
        assert_eq!(asked(std::slice::from_ref(&outside)).as_deref(), Some(expected));
        let expected = "http://[::1]:8080/health/ready";
        assert_eq!(asked(&[outside, listen("[::]:8080", false)]).as_deref(), Some(expected));
        let expected = "http://10.0.0.7:8080/health/ready";
        assert_eq!(asked(&[listen("10.0.0.7:8080", false)]).as_deref(), Some(expected));
        assert_eq!(asked(&[]), None);
    }
}
