//! What systemd is told by the real binary, over a socket such as systemd's.

use std::io::IoSliceMut;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg, setsockopt, sockopt,
};
use tempfile::TempDir;
use tokio::io::Interest;
use tokio::net::UnixDatagram;

use crate::support::answer::{Answer, Gate};
use crate::support::client::{CHAT, chat_body};
use crate::support::gateway::{self, Plan};
use crate::support::{until, upstream, within};

/// systemd's end.
struct Manager {
    socket: UnixDatagram,
    folder: TempDir,
}

impl Manager {
    fn listen() -> Self {
        let folder = TempDir::with_prefix("forebay-it-").unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        setsockopt(&socket, sockopt::PassCred, &true).unwrap();
        Self { socket, folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("notify")
    }

    /// Has `plan` started by it, with a watchdog that waits that long.
    fn starts(&self, plan: Plan, watchdog: &str) -> Plan {
        plan.env("NOTIFY_SOCKET", self.path().to_str().unwrap()).env("WATCHDOG_USEC", watchdog)
    }

    /// The next message, and who sent it.
    async fn heard(&self) -> (u32, String) {
        let receive = || {
            let mut bytes = [0; 4096];
            let mut into = [IoSliceMut::new(&mut bytes)];
            let mut beside = nix::cmsg_space!(UnixCredentials);
            let socket = self.socket.as_raw_fd();
            let received =
                recvmsg::<()>(socket, &mut into, Some(&mut beside), MsgFlags::MSG_DONTWAIT)?;
            let sender = received.cmsgs()?.find_map(|one| match one {
                ControlMessageOwned::ScmCredentials(sender) => Some(sender.pid().cast_unsigned()),
                _ => None,
            });
            let length = received.bytes;
            Ok((sender.unwrap(), String::from_utf8(bytes[..length].to_vec()).unwrap()))
        };
        within("a message", self.socket.async_io(Interest::READABLE, receive)).await.unwrap()
    }

    async fn told(&self) -> String {
        self.heard().await.1
    }

    /// Waits for a message with this line.
    async fn told_of(&self, line: &str) {
        while !self.told().await.lines().any(|told| told == line) {}
    }
}

const NEVER: &str = "3600000000";

#[tokio::test]
async fn it_hears_of_a_life_from_the_start_to_the_end() {
    let gate = Gate::closed();
    let upstream = upstream::always(Answer::chat("hello").after(&gate)).await;
    let manager = Manager::listen();
    let plan = manager.starts(gateway::with(gateway::FRONT).up("up", &upstream), NEVER);
    let mut gateway = plan.spawn();
    assert_eq!(manager.told().await, "READY=1\nSTATUS=serving\n");
    // What it says is so: this very connection is served.
    let request = gateway.client().post(CHAT, chat_body("hi").to_string());
    let mut waiting = request.begin().await;
    upstream.wait_for(0).await;
    gateway.signal("TERM");
    manager.told_of("STOPPING=1").await;
    gate.open();
    assert_eq!(waiting.reply().await.said(), "hello");
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn signs_of_life_come_in_turn() {
    let upstream = upstream::chat("hello").await;
    let manager = Manager::listen();
    let plan = manager.starts(gateway::with(gateway::FRONT).up("up", &upstream), "90000");
    let _gateway = plan.start().await;
    for _ in 0..5 {
        manager.told_of("WATCHDOG=1").await;
    }
}

#[tokio::test]
async fn a_watchdog_that_waits_for_another_process_is_told_nothing() {
    let upstream = upstream::chat("hello").await;
    let manager = Manager::listen();
    let plan = manager.starts(gateway::with(gateway::FRONT).up("up", &upstream), "3000");
    let mut gateway = plan.env("WATCHDOG_PID", "1").start().await;
    manager.told_of("READY=1").await;
    for _ in 0..20 {
        gateway.client().chat("hi").await.ok();
    }
    gateway.signal("TERM");
    assert_eq!(manager.told().await, "STOPPING=1\nSTATUS=draining\n");
    gateway.ended().await;
}

#[tokio::test]
async fn a_start_that_fails_is_not_told_as_ready() {
    let manager = Manager::listen();
    let plan = manager.starts(gateway::with("providers: nonsense"), NEVER);
    assert_eq!(plan.spawn().ended().await.code(), Some(2));
    let mut byte = [0];
    manager.socket.try_recv(&mut byte).expect_err("nothing was told");
}

#[tokio::test]
async fn a_successor_is_the_main_process_and_gives_the_signs_of_life() {
    let gate = Gate::closed();
    let upstream = upstream::always(Answer::chat("hello").after(&gate)).await;
    let manager = Manager::listen();
    let plan = gateway::with(gateway::UPGRADABLE).up("up", &upstream);
    let mut gateway = manager.starts(plan, "90000").start().await;
    manager.told_of("READY=1").await;
    let request = gateway.client().post(CHAT, chat_body("hi").to_string());
    let mut waiting = request.begin().await;
    upstream.wait_for(0).await;
    let (old, new) = (gateway.pid(), gateway.upgrade(&[]).await.unwrap());
    // The old process drains, and says neither that the service ends nor that all is well: it cannot
    // know that of the new one.
    let (mut named, mut ready, mut signs) = (false, false, 0);
    for _ in 0..200 {
        let (sender, told) = manager.heard().await;
        assert!(!told.contains("STOPPING"), "{told}");
        named |= sender == old && told.lines().any(|line| line == format!("MAINPID={new}"));
        ready |= sender == new && told.lines().any(|line| line == "READY=1");
        signs = if sender == new { signs + told.matches("WATCHDOG=1").count() } else { 0 };
        if named && ready && signs >= 10 {
            break;
        }
    }
    assert!(named && ready && signs >= 10, "named {named}, ready {ready}, {signs} signs of life");
    assert!(gateway::runs(old), "with a request");
    gate.open();
    assert_eq!(waiting.reply().await.said(), "hello");
    until("the old process ends", || !gateway::runs(old)).await;
}
