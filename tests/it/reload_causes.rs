//! What makes the gateway read its configuration again: files that change in every way files do, and
//! a signal.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use crate::support::certificate::Certificate;
use crate::support::client::{CHAT, Client, Connection, chat_body};
use crate::support::gateway::{self, Gateway};
use crate::support::port::Port;
use crate::support::upstream::{self, Upstream};

async fn served() -> (Upstream, Gateway) {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::front(&upstream).await;
    (upstream, gateway)
}

async fn serves(client: &Client, model: &str) -> bool {
    let reply = client.post(CHAT, json!({ "model": model }).to_string()).send().await;
    reply.status == 200
}

/// Renames the model in the file's text.
fn renamed(file: &Path, model: &str) -> String {
    let yaml = fs::read_to_string(file).unwrap();
    let (before, after) = yaml.split_once("models:\n  - { name: ").unwrap();
    let (_, after) = after.split_once(',').unwrap();
    format!("{before}models:\n  - {{ name: {model},{after}")
}

#[tokio::test]
async fn an_editor_may_write_or_replace_the_file() {
    let (_upstream, gateway) = served().await;
    let before = gateway.reloads();
    fs::write(gateway.file(), renamed(&gateway.file(), "written")).unwrap();
    assert!(gateway.reloaded_since(before).await, "{}", gateway.log());
    assert!(serves(&gateway.client(), "written").await);

    let before = gateway.reloads();
    let new = gateway.file().with_file_name("forebay.yaml.swp");
    fs::write(&new, renamed(&gateway.file(), "replaced")).unwrap();
    fs::rename(&new, gateway.file()).unwrap();
    assert!(gateway.reloaded_since(before).await, "{}", gateway.log());
    assert!(serves(&gateway.client(), "replaced").await);
    assert_eq!(gateway.reloads(), (2, 0), "{}", gateway.log());
}

#[tokio::test]
async fn a_file_that_comes_back_is_read_however_long_it_was_away() {
    let (_upstream, gateway) = served().await;
    let text = renamed(&gateway.file(), "back");
    let before = gateway.reloads();
    fs::remove_file(gateway.file()).unwrap();
    assert!(!gateway.reloaded_since(before).await);
    assert!(serves(&gateway.client(), "m").await);
    let before = gateway.reloads();
    fs::write(gateway.file(), text).unwrap();
    assert!(gateway.reloaded_since(before).await);
    assert!(serves(&gateway.client(), "back").await);
    // It was told of once.
    assert_eq!(gateway.reloads(), (1, 1), "{}", gateway.log());
}

#[tokio::test]
async fn a_mounted_directory_is_switched_as_kubernetes_does() {
    let upstream = upstream::chat("hello").await;
    let mount = tempfile::tempdir().unwrap();
    let at = |name: &str| mount.path().join(name);
    let port = Port::take();
    let version = |name: &str, model: &str| {
        let front = gateway::FRONT.replace("@up", &upstream.address.to_string());
        let yaml = front.replace("name: m,", &format!("name: {model},"));
        let listen = format!("listen: [{{ address: \"{}\" }}]\nthreads: 2\n", port.address());
        fs::create_dir(at(name)).unwrap();
        fs::write(at(name).join("forebay.yaml"), format!("{yaml}{listen}")).unwrap();
    };
    version("..2026_01", "first");
    symlink("..2026_01", at("..data")).unwrap();
    symlink("..data/forebay.yaml", at("forebay.yaml")).unwrap();
    let file = at("forebay.yaml");
    version("..2026_02", "second");
    let plan = gateway::by_arguments(&["run", "-c", file.to_str().unwrap()], port);
    let gateway = plan.start().await;
    assert!(serves(&gateway.client(), "first").await);

    let before = gateway.reloads();
    symlink("..2026_02", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    fs::remove_dir_all(at("..2026_01")).unwrap();
    assert!(gateway.reloaded_since(before).await, "{}", gateway.log());
    assert!(serves(&gateway.client(), "second").await);
    assert!(!serves(&gateway.client(), "first").await);
}

#[tokio::test]
async fn variables_beside_the_file_count() {
    let upstream = upstream::chat("hello").await;
    let yaml = gateway::FRONT
        .replace("{ type: none }", "{ type: none }, api_keys: [\"${FROM_DOT_ENV:-none}\"]");
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let dotenv = gateway.file().with_file_name(".env");
    for key in ["key-one-1111", "key-two-2222"] {
        let before = gateway.reloads();
        fs::write(&dotenv, format!("FROM_DOT_ENV={key}\n")).unwrap();
        assert!(gateway.reloaded_since(before).await, "{}", gateway.log());
        gateway.client().chat("hi").await.ok();
        let last = upstream.calls().last().unwrap().clone();
        assert_eq!(last.header("authorization"), Some(format!("Bearer {key}").as_str()));
    }
}

#[tokio::test]
async fn a_hangup_without_a_file_is_answered_and_changes_nothing() {
    let upstream = upstream::chat("hello").await;
    let port = Port::take();
    let (number, url) = (port.number.to_string(), format!("http://{}/v1", upstream.address));
    let arguments = ["run", "-p", &number, "--upstream", &url];
    let gateway = gateway::by_arguments(&arguments, port).start().await;
    gateway.signal("HUP");
    let told = || gateway.log().contains("there is no configuration file to read again");
    crate::support::until("it says so", told).await;
    gateway.client().chat("hi").await.ok();
    let health = gateway.health().await;
    assert_eq!(health["configuration"]["version"], serde_json::Value::Null);
}

#[tokio::test]
async fn hangups_in_a_row_do_no_harm() {
    let (_upstream, gateway) = served().await;
    for _ in 0..50 {
        gateway.signal("HUP");
    }
    fs::write(gateway.file(), renamed(&gateway.file(), "last")).unwrap();
    assert!(gateway.reload().await);
    crate::support::eventually("the last one counts", async || {
        serves(&gateway.client(), "last").await.then_some(())
    })
    .await;
}

async fn encrypted() -> (Upstream, Gateway, Certificate) {
    let upstream = upstream::chat("hello").await;
    let tls = "tls: { cert: tls.crt, key: tls.key }";
    let yaml = format!("listen: [{{ address: \"@listen\", {tls} }}]\n{}", gateway::FRONT);
    let plan = gateway::with(&yaml).up("up", &upstream);
    let certificate = Certificate::write(plan.dir());
    (upstream, plan.start().await, certificate)
}

async fn chats(certificate: &Certificate, gateway: &Gateway) {
    let mut connection = Connection::over(certificate.connect(gateway.address, &[]).await);
    let request = gateway.client().post(CHAT, chat_body("hi").to_string());
    assert_eq!(request.over(&mut connection).await.said(), "hello");
}

#[tokio::test]
async fn a_certificate_that_is_replaced_is_shown_to_new_connections() {
    let (_upstream, gateway, old) = encrypted().await;
    let mut open = Connection::over(old.connect(gateway.address, &[]).await);
    let request = gateway.client().post(CHAT, chat_body("hi").to_string());
    assert_eq!(request.over(&mut open).await.said(), "hello");

    let before = gateway.reloads();
    let folder = gateway.file().parent().unwrap().to_owned();
    let new = Certificate::write(&folder);
    crate::support::until("a reload", || gateway.reloads().0 > before.0).await;
    // Whoever connects now trusts the new one only, and the open connection lives on.
    chats(&new, &gateway).await;
    assert_eq!(request.over(&mut open).await.said(), "hello");
}

#[tokio::test]
async fn a_certificate_without_its_key_is_not_taken() {
    let (_upstream, gateway, old) = encrypted().await;
    let folder = gateway.file().parent().unwrap().to_owned();
    let (cert, key) = (folder.join("tls.crt"), folder.join("tls.key"));
    let elsewhere = tempfile::tempdir().unwrap();
    let new = Certificate::write(elsewhere.path());
    // The new certificate with the old key: the renewal is only half done.
    fs::copy(elsewhere.path().join("tls.crt"), &cert).unwrap();
    assert!(!gateway.reload().await);
    assert!(gateway.log().contains("cannot be used together"), "{}", gateway.log());
    assert!(!gateway.log().contains("BEGIN"), "{}", gateway.log());
    chats(&old, &gateway).await;
    let before = gateway.reloads();
    fs::copy(elsewhere.path().join("tls.key"), &key).unwrap();
    crate::support::until("a reload", || gateway.reloads().0 > before.0).await;
    chats(&new, &gateway).await;

    fs::remove_file(&cert).unwrap();
    assert!(!gateway.reload().await);
    assert!(gateway.log().contains("tls.crt"), "{}", gateway.log());
    chats(&new, &gateway).await;
}

#[tokio::test]
async fn a_mistake_in_the_file_lets_no_certificate_run_out() {
    let (_upstream, gateway, _old) = encrypted().await;
    gateway.configure(|yaml| yaml + "heartbeat: soon\n");
    assert!(!gateway.reload().await);
    let before = gateway.reloads();
    let new = Certificate::write(gateway.file().parent().unwrap());
    assert!(!gateway.reloaded_since(before).await, "{}", gateway.log());
    chats(&new, &gateway).await;
}
