//! The running server's side: takes orders on the control socket, and hands itself over.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use log::{error, info, warn};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Child;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::super::keeper::{Desk, Order};
use super::super::notify;
use super::launch::Launch;
use super::message::{self, Message};

/// Conversations at once; more wait.
const CONVERSATIONS: usize = 8;
/// How long whoever connects may take to say what for, and to take an answer.
const MANNERS: Duration = Duration::from_secs(5);
/// How long a process that is being let go on may take to serve; longer than all steps of that.
const HAND_OVER: Duration = Duration::from_secs(3 * MANNERS.as_secs());
/// How often a successor is told of the connections that are left.
const REPORT: Duration = Duration::from_millis(250);

/// Why nobody takes over from a process that ends.
const STOPPED: &str = "this process was told to stop";

/// The connections a process has: overall and by address.
pub type Connections = (usize, HashMap<IpAddr, usize>);

/// What a running server knows of being replaced.
pub struct Office {
    launch: Launch,
    /// Where the control socket is.
    pub path: PathBuf,
    /// What is listened on, by address.
    sockets: Vec<(String, RawFd)>,
    /// How long a new process may take until it serves.
    deadline: Duration,
    connections: Box<dyn Fn() -> Connections + Send + Sync>,
    /// Who delivers what was counted here.
    desk: Arc<Desk>,
    phase: watch::Sender<Phase>,
    /// One upgrade at a time.
    turn: tokio::sync::Mutex<()>,
    offer: tokio::sync::Mutex<()>,
    /// Orders that have not been answered yet.
    owed: AtomicUsize,
    /// The process that was started to take over, and has.
    started: Mutex<Option<Child>>,
    /// The control socket is to be opened anew: a process that failed has put its own there.
    reopen: Notify,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    /// This process ends, and nobody takes its place.
    Stopping,
    /// This process took too long: it may not have the sockets any more.
    GivenUp(u32),
    HandingOver,
    /// This process has taken over.
    HandedOver(u32),
}

/// The control socket.
pub struct Control {
    listener: UnixListener,
}

/// An order whose answer is owed.
struct Owed<'o>(&'o Office);

// === impl Office ===

impl Office {
    pub fn new(
        launch: Launch,
        path: PathBuf,
        sockets: Vec<(String, RawFd)>,
        deadline: Duration,
        connections: Box<dyn Fn() -> Connections + Send + Sync>,
        desk: Arc<Desk>,
    ) -> Self {
        Self {
            launch,
            path,
            sockets,
            deadline,
            connections,
            desk,
            phase: watch::Sender::new(Phase::Serving),
            turn: tokio::sync::Mutex::default(),
            offer: tokio::sync::Mutex::default(),
            owed: AtomicUsize::new(0),
            started: Mutex::new(None),
            reopen: Notify::new(),
        }
    }

    /// From here on nobody is let in this process's place: its sockets will be closed.
    pub fn stop(&self) {
        self.phase.send_if_modified(|phase| {
            let stops = matches!(*phase, Phase::Serving | Phase::GivenUp(_));
            if stops {
                *phase = Phase::Stopping;
            }
            stops
        });
    }

    /// The process that has taken over.
    pub fn successor(&self) -> Option<u32> {
        match *self.phase.borrow() {
            Phase::HandedOver(pid) => Some(pid),
            _ => None,
        }
    }

    /// Resolves when another process has taken over.
    pub async fn succeeded(&self) {
        self.reached(|phase| matches!(phase, Phase::HandedOver(_))).await;
    }

    async fn stopping(&self) {
        self.reached(|phase| *phase == Phase::Stopping).await;
    }

    async fn reached(&self, is_it: impl FnMut(&Phase) -> bool) {
        // It is told for as long as there is an office.
        let _phase = self.phase.subscribe().wait_for(is_it).await.is_ok();
    }

    /// Resolves when the process that has taken over has failed: it is this one's child, and
    /// nobody else hears of its end. Never, otherwise.
    pub async fn successor_failed(&self) {
        self.succeeded().await;
        let mut look = tokio::time::interval(REPORT);
        let started = || self.started.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut child = loop {
            // It is put there a moment after it has taken over.
            look.tick().await;
            if let Some(child) = started() {
                break child;
            }
        };
        match child.wait().await {
            Ok(status) if status.success() => std::future::pending().await,
            Ok(status) => error!("the process that took over has failed: {status}"),
            Err(error) => warn!("the process that took over cannot be watched: {error}"),
        }
    }

    /// Whether somebody still waits for the answer to an order.
    pub fn owes_answers(&self) -> bool {
        self.owed.load(Relaxed) > 0
    }

    /// Has a new process take over: its id, or why that came to nothing.
    pub async fn upgrade(&self, binary: Option<&Path>) -> Result<u32, String> {
        let _owed = Owed::new(self);
        let outcome = self.try_upgrade(binary).await;
        match &outcome {
            Ok(pid) => info!("upgrade: process {pid} serves"),
            Err(why) => error!("upgrade: {why}; this process serves on"),
        }
        outcome
    }

    async fn try_upgrade(&self, binary: Option<&Path>) -> Result<u32, String> {
        let Ok(_turn) = self.turn.try_lock() else {
            return Err("another upgrade is under way".to_owned());
        };
        self.begin_upgrade()?;
        let mut child = self.launch.start(binary, &self.path)?;
        let Some(pid) = child.id() else { return Err("the new process ended at once".to_owned()) };
        info!("upgrade: started process {pid}");
        let why = tokio::select! {
            biased;
            () = self.succeeded() => return Ok(self.succeeded_by(child, pid)),
            ended = child.wait() => match ended {
                Ok(status) => format!("the new process ended before it served ({status}): its log says why"),
                Err(error) => format!("the new process cannot be watched: {error}"),
            },
            () = self.stopping() => STOPPED.to_owned(),
            () = tokio::time::sleep(self.deadline) => {
                format!("the new process did not serve within {:?}", self.deadline)
            }
        };
        if !self.give_up(pid) {
            // It made it at the last moment.
            if timeout(HAND_OVER, self.succeeded()).await.is_ok() {
                return Ok(self.succeeded_by(child, pid));
            }
        }
        if let Err(error) = child.kill().await {
            warn!("process {pid} cannot be ended: {error}");
        }
        Err(why)
    }

    fn succeeded_by(&self, child: Child, pid: u32) -> u32 {
        *self.started.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        // It may be another one's child, if the one that was started is a wrapper.
        self.successor().unwrap_or(pid)
    }

    /// Whether that process can still be kept from taking over.
    fn give_up(&self, pid: u32) -> bool {
        let given_up = self.turn_to(|phase| match phase {
            Phase::Serving | Phase::GivenUp(_) => Ok(Phase::GivenUp(pid)),
            Phase::Stopping => Ok(Phase::Stopping),
            Phase::HandingOver | Phase::HandedOver(_) => Err(String::new()),
        });
        given_up.is_ok()
    }

    fn begin_upgrade(&self) -> Result<(), String> {
        self.turn_to(|phase| match phase {
            Phase::Stopping => Err(STOPPED.to_owned()),
            Phase::HandedOver(pid) => Err(format!("process {pid} has taken over already")),
            // Whoever was given up is gone.
            Phase::GivenUp(_) => Ok(Phase::Serving),
            other => Ok(other),
        })
    }

    /// Lets a process that is ready go on.
    async fn hand_over(&self, stream: &mut UnixStream, pid: u32) -> Result<(), String> {
        self.turn_to(|phase| match phase {
            Phase::Stopping => Err(STOPPED.to_owned()),
            Phase::GivenUp(slow) if slow == pid => Err("it took too long".to_owned()),
            Phase::Serving | Phase::GivenUp(_) => Ok(Phase::HandingOver),
            Phase::HandingOver | Phase::HandedOver(_) => {
                Err("another process has taken over".to_owned())
            }
        })?;
        // What was counted here is what the new process counts on from.
        self.desk.ask(Order::HandOver).await;
        let gone = async {
            say(stream, &Message::Go).await?;
            // Whoever asks next must find the new process at the control socket.
            timeout(MANNERS, hear(stream)).await?
        };
        let confirmed = match gone.await {
            Ok(Message::Serving { .. }) => Ok(()),
            Ok(_) => Err("it said something else".to_owned()),
            Err(error) => Err(format!("it went away: {error}")),
        };
        if confirmed.is_err() {
            self.phase.send_replace(Phase::Serving);
            self.reopen.notify_one();
            return confirmed;
        }
        notify::main_pid(pid);
        self.phase.send_replace(Phase::HandedOver(pid));
        Ok(())
    }

    /// Takes the next phase, if there is one from here.
    fn turn_to(&self, next: impl FnOnce(Phase) -> Result<Phase, String>) -> Result<(), String> {
        let mut turned = Ok(());
        self.phase.send_if_modified(|phase| match next(*phase) {
            Ok(next) => std::mem::replace(phase, next) != next,
            Err(why) => {
                turned = Err(why);
                false
            }
        });
        turned
    }
}

// === impl Control ===

impl Control {
    /// Takes the place of whatever is at `path`: a socket nobody listens on any more, or that of
    /// the process whose place this one takes.
    pub fn open(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}", std::process::id()));
        let fresh = path.with_file_name(name);
        let _left_behind = std::fs::remove_file(&fresh);
        let listener = UnixListener::bind(&fresh)?;
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&fresh, path)?;
        Ok(Self { listener })
    }

    /// Answers whoever connects, until dropped.
    pub async fn serve(mut self, office: Arc<Office>) {
        let mut conversations = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if conversations.len() < CONVERSATIONS => {
                    match accepted {
                        Ok((stream, _)) => {
                            let office = Arc::clone(&office);
                            conversations.spawn(async move { converse(stream, &office).await });
                        }
                        Err(error) => {
                            warn!("the control socket: {error}");
                            tokio::time::sleep(REPORT).await;
                        }
                    }
                }
                Some(_ended) = conversations.join_next() => {}
                () = office.reopen.notified() => match Self::open(&office.path) {
                    Ok(again) => self = again,
                    Err(error) => error!("{}: {error}", office.path.display()),
                },
            }
        }
    }
}

/// Hears what somebody wants, and sees to it.
async fn converse(mut stream: UnixStream, office: &Office) {
    if !is_ours(&stream) {
        return warn!("the control socket: somebody else's process was sent away");
    }
    let Ok(Ok(wanted)) = timeout(MANNERS, hear(&mut stream)).await else { return };
    match wanted {
        Message::Upgrade { binary } => {
            let _owed = Owed::new(office);
            let answer = match office.upgrade(binary.as_deref()).await {
                Ok(pid) => Message::Serving { pid },
                Err(why) => Message::Failed { why },
            };
            let _gone = say(&mut stream, &answer).await;
        }
        Message::Sockets => offer(stream, office).await,
        _ => {}
    }
}

/// Gives a new process the sockets, and waits for it to be ready.
async fn offer(mut stream: UnixStream, office: &Office) {
    let refuse = |why: &str| Message::Failed { why: why.to_owned() };
    let Ok(_offer) = office.offer.try_lock() else {
        let _gone = say(&mut stream, &refuse("another process is taking over")).await;
        return;
    };
    if matches!(*office.phase.borrow(), Phase::HandedOver(_) | Phase::Stopping) {
        let _gone = say(&mut stream, &refuse("this process ends")).await;
        return;
    }
    if let Err(error) = send_sockets(&mut stream, &office.sockets).await {
        return warn!("hand-over: the sockets cannot be sent: {error}");
    }
    let heard = tokio::select! {
        heard = timeout(office.deadline, hear(&mut stream)) => heard,
        () = office.stopping() => {
            let _gone = say(&mut stream, &refuse(STOPPED)).await;
            return;
        }
    };
    let why = match heard {
        Ok(Ok(Message::Ready { pid })) => match office.hand_over(&mut stream, pid).await {
            Ok(()) => {
                info!("hand-over: process {pid} takes over");
                return report(stream, office).await;
            }
            Err(why) => why,
        },
        Ok(Ok(Message::Failed { why })) => why,
        Ok(Ok(_)) => "it said something else".to_owned(),
        Ok(Err(_)) => "it went away".to_owned(),
        Err(_) => "it took too long".to_owned(),
    };
    warn!("hand-over: the new process does not serve: {why}; this process serves on");
    let _gone = say(&mut stream, &refuse(&why)).await;
}

/// Tells the successor of the connections that are left, for as long as this process lives.
async fn report(mut stream: UnixStream, office: &Office) {
    let mut last = None;
    let mut look = tokio::time::interval(REPORT);
    loop {
        look.tick().await;
        let now = (office.connections)();
        if last.as_ref() != Some(&now) {
            let (overall, by_address) = now.clone();
            if say(&mut stream, &Message::Open { overall, by_address }).await.is_err() {
                return;
            }
            last = Some(now);
        }
    }
}

async fn send_sockets(stream: &mut UnixStream, sockets: &[(String, RawFd)]) -> io::Result<()> {
    let (addresses, sockets): (Vec<String>, Vec<RawFd>) = sockets.iter().cloned().unzip();
    let line = message::line(&Message::Addresses(addresses))?;
    let with_sockets =
        stream.async_io(Interest::WRITABLE, || message::send_with_sockets(stream, &line, &sockets));
    let gone = timeout(MANNERS, with_sockets).await??;
    let rest = line.get(gone..).unwrap_or_default();
    timeout(MANNERS, stream.write_all(rest)).await?
}

/// Only the server's own user and root may give orders.
fn is_ours(stream: &UnixStream) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

pub(super) async fn say(stream: &mut UnixStream, message: &Message) -> io::Result<()> {
    timeout(MANNERS, stream.write_all(&message::line(message)?)).await?
}

/// The next line. Whoever speaks here says one line and waits for an answer, so nothing of a
/// second one can be lost.
async fn hear(stream: &mut UnixStream) -> io::Result<Message> {
    let mut line = Vec::new();
    BufReader::new(stream.take(message::LONGEST)).read_until(b'\n', &mut line).await?;
    message::parse(&line)
}

// === impl Owed ===

impl<'o> Owed<'o> {
    fn new(office: &'o Office) -> Self {
        office.owed.fetch_add(1, Relaxed);
        Self(office)
    }
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        self.0.owed.fetch_sub(1, Relaxed);
    }
}
