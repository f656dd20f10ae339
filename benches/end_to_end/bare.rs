//! The role to compare with: pingora's proxy with the gateway's settings, and nothing of its own.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use forebay::config::{Kind, ProviderTimeouts, Timeouts};
use pingora::Result;
use pingora::apps::HttpServerOptions;
use pingora::listeners::ListenerConfig;
use pingora::modules::http::HttpModules;
use pingora::protocols::l4::stream::L4BufferSettings;
use pingora::proxy::{ProxyHttp, Session, http_proxy};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::services::listening::Service;
use pingora::upstreams::peer::{HttpPeer, PeerOptions};

/// What the gateway gives an upstream to take the next bytes of a request.
const WRITE_TIMEOUT: Duration = Duration::from_mins(1);

struct Bare {
    upstream: SocketAddr,
    options: PeerOptions,
    timeouts: Timeouts,
}

/// Proxies for ever.
pub fn serve(listen: SocketAddr, upstream: SocketAddr, threads: usize) -> ! {
    let conf = ServerConf { threads, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();

    let timeouts = Timeouts::default();
    let bare = Bare { upstream, options: options(), timeouts };
    let mut proxy = http_proxy(&server.configuration, bare);
    let mut http = HttpServerOptions::default();
    http.h2c = true;
    http.h2_idle_timeout = Some(timeouts.client_idle);
    proxy.server_options = Some(http);

    let buffers = L4BufferSettings { read: Some(0), write: Some(16 << 10) };
    let mut service = Service::new("bare".to_owned(), proxy);
    service.add_listener(ListenerConfig::tcp(listen.to_string()).l4_buffer(buffers));
    server.add_service(service);
    server.run_forever()
}

/// Those of a vLLM provider.
fn options() -> PeerOptions {
    let timeouts = ProviderTimeouts::by_kind(Kind::Vllm);
    let mut options = PeerOptions::new();
    options.connection_timeout = Some(timeouts.connect);
    options.total_connection_timeout = Some(timeouts.connect.saturating_mul(2));
    options.read_timeout = Some(timeouts.first_byte.max(timeouts.between_chunks));
    options.write_timeout = Some(WRITE_TIMEOUT);
    options.idle_timeout = Some(timeouts.idle_pool);
    options
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, _ctx: &mut ()) -> Result<()> {
        session.set_keepalive(Some(self.timeouts.client_idle.as_secs()));
        session.set_write_timeout(Some(self.timeouts.client_write));
        session.set_read_timeout(Some(self.timeouts.request_body));
        Ok(())
    }

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> Result<Box<HttpPeer>> {
        let mut peer = HttpPeer::new(self.upstream, false, String::new());
        peer.options = self.options.clone();
        Ok(Box::new(peer))
    }
}
