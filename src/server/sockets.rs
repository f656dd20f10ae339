//! The listening sockets: bound before pingora starts, or taken over, and given to its services.

use std::net::SocketAddr;
use std::os::fd::{IntoRawFd, RawFd};

use async_trait::async_trait;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;
use socket2::{Domain, Protocol, Socket, Type};

use super::Unstartable;

/// Connections that may wait to be accepted; the kernel has a bound of its own (`somaxconn`).
const BACKLOG: i32 = 65_535;

/// What is listened on, by address as pingora writes it.
#[derive(Clone, Debug, Default)]
pub struct Sockets(pub Vec<(String, RawFd)>);

/// A service of pingora's that finds its sockets open. Pingora would bind late, try for half a
/// minute, and then leave a process without a listener.
pub struct Seated<S> {
    pub service: S,
    pub sockets: Sockets,
}

impl Sockets {
    /// A socket for each address: of `inherited`, or a new one. What is left of those is closed.
    pub fn open(
        addresses: impl Iterator<Item = SocketAddr>,
        mut inherited: Vec<(String, RawFd)>,
    ) -> Result<Self, Unstartable> {
        let mut open = Vec::new();
        for address in addresses {
            let name = address.to_string();
            let socket = match inherited.iter().position(|(of, _)| *of == name) {
                Some(found) => inherited.swap_remove(found).1,
                None => bind(address).map_err(|source| Unstartable::Address { address, source })?,
            };
            open.push((name, socket));
        }
        for (name, socket) in inherited {
            log::info!("{name} is not listened on any more");
            let _closed = nix::unistd::close(socket);
        }
        Ok(Self(open))
    }
}

fn bind(address: SocketAddr) -> std::io::Result<RawFd> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into_raw_fd())
}

#[async_trait]
impl<S: Service> Service for Seated<S> {
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        listeners_per_fd: usize,
    ) {
        if let Some(fds) = &fds {
            for (address, socket) in &self.sockets.0 {
                fds.lock().add(address.clone(), *socket);
            }
        }
        self.service.start_service(fds, shutdown, listeners_per_fd).await;
    }

    fn name(&self) -> &str {
        self.service.name()
    }

    fn threads(&self) -> Option<usize> {
        self.service.threads()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn what_was_inherited_is_used_or_closed() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let [kept, dropped] = [any, any].map(|address| {
            let listener = std::net::TcpListener::bind(address).unwrap();
            (listener.local_addr().unwrap(), listener.into_raw_fd())
        });
        let inherited = [kept, dropped].map(|(address, socket)| (address.to_string(), socket));
        let open = Sockets::open([kept.0].into_iter(), inherited.to_vec()).unwrap();
        assert_eq!(open.0, [(kept.0.to_string(), kept.1)]);
        TcpStream::connect(kept.0).expect("it listens");
        TcpStream::connect(dropped.0).expect_err("it does not");
    }

    #[test]
    fn an_address_in_use_is_told() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let refused = Sockets::open([address].into_iter(), Vec::new());
        assert!(matches!(refused, Err(Unstartable::Address { .. })), "{refused:?}");
    }
}
