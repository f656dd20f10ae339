//! TLS handshakes: connections that are counted and bounded like others, and must be done in time.
//!
//! Pingora gives a handshake a minute, and hands the connection over when it is done. What it does
//! offer is a look at each socket before.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use nix::sys::socket::{Shutdown, shutdown};
use pingora::http::ResponseHeader;
use pingora::listeners::PreTlsProcess;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{GetProxyDigest, GetSocketDigest, SocketDigest, Stream};
use pingora::{Error, ErrorType, Result};
use tokio::task::AbortHandle;

use super::connections::{Open, Ticket};
use crate::snapshot::Snapshot;

/// Looks at each socket before its handshake.
pub struct Handshakes {
    pub open: Arc<Open>,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
}

/// A handshake under way. It travels with the connection, as what pingora keeps of a proxy before
/// it: a server has none.
struct Handshake {
    ticket: Mutex<Option<Ticket>>,
    late: AbortHandle,
}

#[async_trait]
impl PreTlsProcess for Handshakes {
    async fn process(&self, stream: &mut L4Stream) -> Result<()> {
        let (ticket, deadline) = {
            let snapshot = self.snapshot.load();
            let config = &snapshot.config;
            let peer = address(stream);
            let ticket = Ticket::take(&self.open, &config.limits, &config.trusted_proxies, peer);
            (ticket, config.timeouts.request_header)
        };
        if ticket.is_none() {
            return Error::e_explain(ErrorType::AcceptError, "too many connections");
        }
        let late = tokio::spawn(close_when_late(stream.as_raw_fd(), deadline)).abort_handle();
        let handshake = Handshake { ticket: Mutex::new(ticket), late };
        let nothing = Box::new(ResponseHeader::build(200, Some(0))?);
        stream.set_proxy_digest(ProxyDigest::new(nothing, Some(Box::new(handshake))));
        Ok(())
    }
}

/// Ends the handshake of this connection, if it had one; the ticket it took.
pub fn done(stream: &Stream) -> Option<Ticket> {
    let digest = stream.get_proxy_digest()?;
    let handshake = digest.user_data.as_ref()?.downcast_ref::<Handshake>()?;
    handshake.late.abort();
    handshake.ticket.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// The peer's address.
pub fn address(stream: &(impl GetSocketDigest + ?Sized)) -> Option<IpAddr> {
    let digest = stream.get_socket_digest()?;
    Some(digest.peer_addr()?.as_inet()?.ip().to_canonical())
}

/// Closes a socket, unless this is aborted before. Whoever waits for the client then reads its end.
async fn close_when_late(socket: RawFd, deadline: Duration) {
    // The kernel's name for the socket, which is never given twice: its number is.
    let name = || SocketDigest::from_raw_fd(socket).socket_cookie().ok();
    let before = name();
    tokio::time::sleep(deadline).await;
    if before.is_some() && name() == before {
        let _closed = shutdown(socket, Shutdown::Both);
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.late.abort();
    }
}
