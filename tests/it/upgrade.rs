//! A new process takes the place of a running one, or the running one goes on.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crate::support::answer::{self, Answer, DONE, content};
use crate::support::client::{CHAT, chat_body};
use crate::support::gateway::{self, Gateway, UPGRADABLE};
use crate::support::until;
use crate::support::upstream::{self, Upstream};

/// A gateway that can be upgraded.
async fn upgradable(upstream: &Upstream, more: &str) -> Gateway {
    let yaml = format!("{UPGRADABLE}\n{more}\n");
    gateway::with(&yaml).up("up", upstream).start().await
}

#[tokio::test]
async fn the_command_returns_when_another_process_serves() {
    let upstream = upstream::chat("hello").await;
    let mut gateway = upgradable(&upstream, "").await;
    let old = gateway.pid();
    for _ in 0..3 {
        let before = gateway.pid();
        let new = gateway.upgrade(&[]).await.unwrap();
        assert_ne!(new, before);
        assert_eq!(gateway.client().chat("hi").await.said(), "hello");
    }
    assert_eq!(gateway.ended().await.code(), Some(0), "the first one, {old}");
    until("the others end", || !gateway.predecessors().into_iter().any(gateway::runs)).await;
    let mode = std::fs::metadata(gateway.dir().join("run")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn a_signal_upgrades_too() {
    let upstream = upstream::chat("hello").await;
    let gateway = upgradable(&upstream, "").await;
    gateway.signal("USR2");
    let new = gateway.started().await;
    until("it serves", || gateway.log().contains(&format!("process {new} serves"))).await;
    assert_eq!(gateway.client().chat("hi").await.said(), "hello");
    gateway::signal(new, "TERM");
    until("it ends", || !gateway::runs(new)).await;
}

#[tokio::test]
async fn a_stream_of_the_old_process_goes_on_to_its_end() {
    let (cues, feed) = answer::feed();
    let upstream = upstream::always(Answer::live(feed)).await;
    let mut gateway = upgradable(&upstream, "").await;
    cues.send(content("one"));
    let mut stream = gateway.client().stream("hi").await;
    stream.data().await.expect("the first event");
    let old = gateway.pid();
    gateway.upgrade(&[]).await.unwrap();
    gateway.upgrade(&[]).await.unwrap();
    assert!(gateway::runs(old), "with a stream");
    cues.send(content(" two"));
    assert_eq!(stream.data().await.unwrap(), content(" two").trim_end());
    cues.send(DONE);
    cues.end();
    assert_eq!(stream.rest().await.ok().text(), DONE);
    until("the old process ends", || !gateway::runs(old)).await;
}

#[tokio::test]
async fn an_idle_connection_gets_one_more_answer_that_says_it_closes() {
    let upstream = upstream::chat("hello").await;
    let mut gateway = upgradable(&upstream, "").await;
    let request = gateway.client().post(CHAT, chat_body("hi").to_string());
    let mut connection = gateway.client().connect().await;
    assert_eq!(request.over(&mut connection).await.said(), "hello");
    let old = gateway.pid();
    gateway.upgrade(&[]).await.unwrap();
    until("it drains", || gateway.log().contains("draining for a successor")).await;
    let last = request.over(&mut connection).await;
    assert_eq!(last.said(), "hello");
    assert_eq!(last.head.get("connection"), Some("close"), "{last:?}");
    until("the old process ends", || !gateway::runs(old)).await;
}

/// An upgrade that must fail, while the gateway answers; what the command said.
async fn fails(gateway: &mut Gateway, arguments: &[&str]) -> String {
    let old = gateway.pid();
    let client = gateway.client();
    let traffic = tokio::spawn(async move {
        let mut answered = 0;
        loop {
            assert_eq!(client.chat("hi").await.said(), "hello");
            answered += 1;
            if answered > 1_000_000 {
                return;
            }
        }
    });
    let said = gateway.upgrade(arguments).await.expect_err("a broken upgrade");
    assert!(!traffic.is_finished(), "every request is answered");
    traffic.abort();
    assert_eq!(gateway.pid(), old);
    assert_eq!(gateway.client().chat("hi").await.said(), "hello");
    said
}

#[tokio::test]
async fn a_missing_binary_changes_nothing() {
    let upstream = upstream::chat("hello").await;
    let mut gateway = upgradable(&upstream, "").await;
    let said = fails(&mut gateway, &["--binary", "/no/such/binary"]).await;
    assert!(said.contains("cannot start /no/such/binary: No such file"), "{said}");
    gateway.upgrade(&[]).await.expect("a later one works");
}

#[tokio::test]
async fn a_binary_that_ends_at_once_changes_nothing() {
    let upstream = upstream::chat("hello").await;
    let mut gateway = upgradable(&upstream, "").await;
    let new = gateway.binary("exit 3");
    let said = fails(&mut gateway, &["--binary", &new]).await;
    assert!(said.contains("ended before it served (exit status: 3)"), "{said}");
    gateway.upgrade(&[]).await.expect("a later one works");
}

#[tokio::test]
async fn a_bad_file_changes_nothing() {
    let upstream = upstream::chat("hello").await;
    let mut gateway = upgradable(&upstream, "").await;
    let file = gateway.dir().join("forebay.yaml");
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, good.replace("providers:", "provoders:")).unwrap();
    let said = fails(&mut gateway, &[]).await;
    assert!(said.contains("provoders") && said.contains("(exit status: 2)"), "{said}");
    // The process itself finds it, too.
    gateway.signal("USR2");
    until("it fails", || gateway.log().contains("ended before it served (exit status: 2)")).await;
    assert_eq!(gateway.client().chat("hi").await.said(), "hello");
    std::fs::write(&file, good).unwrap();
    gateway.upgrade(&[]).await.expect("a later one works");
}

#[tokio::test]
async fn a_panic_at_the_start_changes_nothing() {
    let upstream = upstream::chat("hello").await;
    let mut gateway = upgradable(&upstream, "").await;
    let new = gateway.binary("export FAILPOINTS=server::start=panic");
    let said = fails(&mut gateway, &["--binary", &new]).await;
    assert!(said.contains("ended before it served (exit status: 101)"), "{said}");
    gateway.upgrade(&[]).await.expect("a later one works");
}

#[tokio::test]
async fn a_process_killed_with_the_sockets_in_hand_changes_nothing() {
    let upstream = upstream::chat("hello").await;
    let mut gateway = upgradable(&upstream, "").await;
    // It kills itself once it waits with the sockets in hand.
    let wait =
        "for _ in $(seq 1000); do grep -q 'ready to take over' stderr && break; sleep 0.01; done";
    let script = format!("export FAILPOINTS=server::ready=pause; ({wait}; kill -KILL $$) &");
    let new = gateway.binary(&script);
    let said = fails(&mut gateway, &["--binary", &new]).await;
    assert!(said.contains("ended before it served (signal: 9"), "{said}");
    gateway.upgrade(&[]).await.expect("a later one works");
}

#[tokio::test]
async fn a_process_that_hangs_is_ended_at_the_deadline() {
    let upstream = upstream::chat("hello").await;
    let mut gateway = upgradable(&upstream, "timeouts: { upgrade_ready: 2s }").await;
    let new = gateway.binary("export FAILPOINTS=server::ready=pause");
    let said = fails(&mut gateway, &["--binary", &new]).await;
    assert!(said.contains("did not serve within 2s"), "{said}");
    let hung = gateway.started().await;
    until("it is gone", || !gateway::runs(hung)).await;
    gateway.upgrade(&[]).await.expect("a later one works");
}

#[tokio::test]
async fn an_announced_upgrade_that_does_not_come_ends_nothing() {
    let upstream = upstream::chat("hello").await;
    let gateway = upgradable(&upstream, "").await;
    gateway.signal("QUIT");
    until("it is heard", || gateway.log().contains("SIGQUIT")).await;
    for _ in 0..20 {
        assert_eq!(gateway.client().chat("hi").await.said(), "hello");
    }
    assert!(gateway::runs(gateway.pid()));
}

#[tokio::test]
async fn a_second_server_does_not_start_beside_one_but_takes_over_by_hand() {
    let upstream = upstream::chat("hello").await;
    let mut gateway = upgradable(&upstream, "").await;
    let file = gateway.dir().join("forebay.yaml");
    let real = env!("CARGO_BIN_EXE_forebay");
    let run = |more: &'static [&'static str]| {
        let mut command = tokio::process::Command::new(real);
        command.args(["run", "-c"]).arg(&file).args(more).env_clear().kill_on_drop(true);
        command
    };
    let refused = crate::support::within("a second start", run(&[]).output()).await.unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("another server answers"), "{said}");
    let mut second = run(&["-u"]).spawn().unwrap();
    assert_eq!(gateway.ended().await.code(), Some(0));
    assert_eq!(gateway.client().chat("hi").await.said(), "hello");
    second.kill().await.unwrap();
}

#[tokio::test]
async fn the_connections_of_both_processes_count() {
    let (cues, feed) = answer::feed();
    let upstream = upstream::always(Answer::live(feed)).await;
    let limits = "limits: { connections_per_ip: 3 }";
    let mut gateway = upgradable(&upstream, limits).await;
    cues.send(content("one"));
    let mut stream = gateway.client().stream("hi").await;
    stream.data().await.expect("the first event");
    let mut second = gateway.client().connect().await;
    let live = gateway.client().request("GET", "/health/live");
    live.over(&mut second).await.ok();
    gateway.upgrade(&[]).await.unwrap();
    // Two with the old process, and one with the new: the next one is too many.
    let mut third = crate::support::eventually("the new one accepts", async || {
        let mut third = gateway.client().connect().await;
        let reply = live.over(&mut third).await.ok();
        // The old one may have been quicker, and closes it.
        (reply.header("connection") != Some("close")).then_some(third)
    })
    .await;
    crate::support::eventually("the fourth is refused", async || {
        live.over(&mut third).await.ok();
        let mut fourth = gateway.client().connect().await;
        let _sent = fourth.wire.send(&live.bytes()).await;
        let head = fourth.wire.head().await;
        (!matches!(head, Ok(Some(_)))).then_some(())
    })
    .await;
    drop(second);
    cues.send(DONE);
    cues.end();
    stream.rest().await;
    let begun = Instant::now();
    crate::support::eventually("there is room again", async || {
        let mut fourth = gateway.client().connect().await;
        let _sent = fourth.wire.send(&live.bytes()).await;
        matches!(fourth.wire.head().await, Ok(Some(_))).then_some(())
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(10));
}
