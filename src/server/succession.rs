//! Between starting and serving: a self-request, then the sockets are this process's. And from then
//! on the readiness to be succeeded itself.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use log::{error, info, warn};
use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::stream::Stream;
use pingora::server::ShutdownWatch;
use pingora::services::ServiceReadyNotifier;
use pingora::services::background::BackgroundService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::connections::Open;
use super::ear::{Ear, Kind};
use super::handover::{Control, Following, Office, Predecessor};
use super::keeper::{Desk, Order};
use super::notify;

/// How long the gateway may take to answer itself.
const SELF_REQUEST: Duration = Duration::from_secs(5);

/// Who came before this process, and who comes after.
pub struct Succession {
    /// `None`: there is no control socket, and nobody can take over.
    pub office: Option<Arc<Office>>,
    pub predecessor: Mutex<Option<Predecessor>>,
    /// The predecessor still drains.
    preceded: AtomicBool,
}

/// The service between the first look at the providers and the listeners.
pub struct Beginning<A> {
    pub succession: Arc<Succession>,
    /// What answers requests.
    pub app: Arc<A>,
    pub open: Arc<Open>,
    /// Who learns what was counted by the process before this one.
    pub desk: Arc<Desk>,
    /// Where this process's id is written.
    pub pid_file: Option<String>,
}

impl Succession {
    pub fn new(office: Option<Arc<Office>>, predecessor: Option<Predecessor>) -> Self {
        Self { office, predecessor: Mutex::new(predecessor), preceded: AtomicBool::new(false) }
    }

    /// Resolves when another process has taken over.
    pub async fn succeeded(&self) {
        if let Some(office) = &self.office {
            office.succeeded().await;
        } else {
            std::future::pending::<()>().await;
        }
    }

    pub fn has_successor(&self) -> bool {
        self.office.as_ref().is_some_and(|office| office.successor().is_some())
    }

    /// Whether nobody needs this process any more. A predecessor's connections are counted through
    /// it, so it outlives that one.
    pub fn may_leave(&self) -> bool {
        let owes = self.office.as_ref().is_some_and(|office| office.owes_answers());
        !owes && !self.preceded.load(Relaxed)
    }

    /// This process is told to end: nobody takes over any more.
    pub fn stop(&self) {
        if let Some(office) = &self.office {
            office.stop();
        }
    }

    /// Has a new process take over.
    pub async fn upgrade(&self) {
        match &self.office {
            Some(office) => drop(office.upgrade(None).await),
            None => warn!("no upgrade without a control socket: `upgrade_sock` names it"),
        }
    }

    fn take_predecessor(&self) -> Option<Predecessor> {
        self.predecessor.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> BackgroundService for Beginning<A> {
    async fn start_with_ready_notifier(
        &self,
        shutdown: ShutdownWatch,
        ready: ServiceReadyNotifier,
    ) {
        // A panic here would leave a process that neither serves nor ends.
        let begun = AssertUnwindSafe(self.begin(&shutdown)).catch_unwind().await;
        let mut asked = Ear::new(Kind::Upgrade);
        let (control, mut following) = match begun.unwrap_or_else(|_| Err("it panicked".to_owned()))
        {
            Ok(begun) => begun,
            Err(why) => {
                give_way(&why);
            }
        };
        ready.notify_ready();
        info!("serving");
        notify::ready();
        if let Some(following) = &mut following
            && let Err(error) = following.confirm().await
        {
            warn!("the old process is gone: {error}");
        }
        let orders = async {
            if let (Some(control), Some(office)) = (control, &self.succession.office) {
                control.serve(Arc::clone(office)).await;
            }
        };
        let follow = async {
            if let Some(following) = following {
                let note = |connections| self.open.set_elsewhere(connections);
                match following.follow(note).await {
                    Ok(()) => info!("the old process has ended"),
                    Err(why) => give_way(&why),
                }
            }
            self.succession.preceded.store(false, Relaxed);
        };
        let watch = async {
            if let Some(office) = &self.succession.office {
                office.successor_failed().await;
                // A service manager is not its parent, and would wait for the watchdog.
                notify::trigger_watchdog();
            }
        };
        let by_signal = async {
            loop {
                asked.hear().await;
                self.succession.upgrade().await;
            }
        };
        // To the very end of the process: the successor is told of what is left here.
        tokio::select! {
            never = by_signal => never,
            _ = async { tokio::join!(orders, follow, watch) } => {}
        }
        std::future::pending::<()>().await;
    }
}

impl<A: HttpServerApp + Send + Sync + 'static> Beginning<A> {
    /// Takes over from the predecessor, if there is one. An error: this process must not serve.
    async fn begin(
        &self,
        shutdown: &ShutdownWatch,
    ) -> Result<(Option<Control>, Option<Following>), String> {
        let predecessor = self.succession.take_predecessor();
        let answered = timeout(SELF_REQUEST, ask_self(&self.app, shutdown)).await;
        let answered = answered.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        if let Err(why) = answered {
            let why = format!("it does not answer itself: {why}");
            if let Some(predecessor) = predecessor {
                predecessor.decline(&why);
            }
            return Err(why);
        }
        let mut following = None;
        if let Some(predecessor) = predecessor {
            info!("ready to take over");
            fail::fail_point!("server::ready");
            self.succession.preceded.store(true, Relaxed);
            let released = predecessor.release().await;
            following = released.map_err(|error| format!("the old process serves on: {error}"))?;
            self.desk.ask(Order::TakeOver).await;
        }
        let path = self.succession.office.as_ref().map(|office| office.path.as_path());
        // From here on this process serves: what fails now is no reason not to.
        let control = path.and_then(|path| {
            let opened = Control::open(path);
            opened.inspect_err(|error| error!("{}: {error}", path.display())).ok()
        });
        if let Some(path) = &self.pid_file {
            let written = std::fs::write(Path::new(path), format!("{}\n", std::process::id()));
            written.unwrap_or_else(|error| error!("{path}: {error}"));
        }
        Ok((control, following))
    }
}

/// Another process serves, or none can: this one must not.
pub(super) fn give_way(why: &str) -> ! {
    error!("cannot start: {why}");
    #[expect(
        clippy::disallowed_methods,
        reason = "pingora has no other way to end when a service cannot start"
    )]
    std::process::exit(1);
}

/// Asks the gateway for its health, over a connection inside this process: the listening sockets
/// may be another process's still.
pub async fn ask_self<A: HttpServerApp + Send + Sync + 'static>(
    app: &Arc<A>,
    shutdown: &ShutdownWatch,
) -> Result<(), String> {
    let (mut ours, theirs) = UnixStream::pair().map_err(|error| error.to_string())?;
    let session = ServerSession::new_http1(Box::new(Stream::from(theirs)));
    let ask = async {
        let request = b"GET /health/live HTTP/1.1\r\nHost: self\r\nConnection: close\r\n\r\n";
        ours.write_all(request).await?;
        let mut answer = Vec::new();
        (&mut ours).take(64 << 10).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let (_, answer) = tokio::join!(app.process_new_http(session, shutdown), ask);
    let answer = answer.map_err(|error| error.to_string())?;
    if answer.starts_with(b"HTTP/1.1 200 ") {
        Ok(())
    } else {
        let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
        Err(String::from_utf8_lossy(line).into_owned())
    }
}
