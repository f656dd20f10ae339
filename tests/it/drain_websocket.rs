//! The way down, for WebSockets: they live on until the deadline, and are told when it comes.

use std::time::{Duration, Instant};

use crate::support::client::Connection;
use crate::support::gateway::{self, Gateway};
use crate::support::tunnel::{Provider, Tunnel, closing, handshake, hear, hear_out};
use crate::support::{until, within};

/// A frame of the server's, and one of the client's.
const SAID: &[u8] = b"\x81\x05Hello";
const ASKED: &[u8] = b"\x81\x85\x01\x02\x03\x04Igohn";
const GOODBYE: &[u8] = b"\x88\x82\x00\x00\x00\x00\x03\xe9";

async fn open(drain: &str) -> (Gateway, Provider, Tunnel) {
    let provider = Provider::new().await;
    let yaml = format!("{}\ntimeouts: {{ drain: {drain} }}\n", gateway::FRONT);
    let gateway = gateway::with(&yaml).place("up", &provider.address).start().await;
    let mut tunnel = provider.tunnel(&gateway.client()).await;
    tunnel.client.send(ASKED).await;
    hear(&mut tunnel.provider, ASKED).await;
    tunnel.provider.send(SAID).await;
    hear(&mut tunnel.client, SAID).await;
    (gateway, provider, tunnel)
}

/// The deadline has come.
async fn told(gateway: &Gateway) {
    gateway.signal("TERM");
    until("the deadline", || gateway.log().contains("streams are told")).await;
}

/// Waits for the close frame; nothing comes behind it.
async fn goodbye(client: &mut Connection) {
    loop {
        let heard = &client.wire.buffer;
        if heard.len() >= 2 && heard.len() >= 2 + usize::from(heard[1]) {
            break;
        }
        let read = within("a close frame", client.wire.fill()).await.unwrap();
        assert!(read > 0, "a bare cut");
    }
    assert_eq!(closing(&client.wire.buffer.split()).0, 1001);
}

#[tokio::test]
async fn both_ends_are_told_at_the_deadline() {
    let (mut gateway, _provider, mut tunnel) = open("500ms").await;
    gateway.signal("TERM");
    let asked = Instant::now();
    goodbye(&mut tunnel.client).await;
    assert!(asked.elapsed() >= Duration::from_millis(400), "before the deadline");
    tunnel.client.send(GOODBYE).await;
    let answered = Instant::now();
    assert_eq!(hear_out(&mut tunnel.client).await, b"");
    let last = hear_out(&mut tunnel.provider).await;
    let (status, reason) = closing(&last);
    assert_eq!((status, last[1] & 0x80), (1001, 0x80), "a client's frame is masked");
    assert!(reason.contains("shutting down"), "{reason}");
    assert_eq!(gateway.ended().await.code(), Some(0));
    assert!(answered.elapsed() < Duration::from_millis(900), "an answered end waits for nothing");
}

#[tokio::test]
async fn frames_pass_while_the_gateway_drains() {
    let (mut gateway, _provider, mut tunnel) = open("10s").await;
    gateway.signal("TERM");
    until("it drains", || gateway.log().contains("draining")).await;
    for _ in 0..3 {
        tunnel.client.send(ASKED).await;
        hear(&mut tunnel.provider, ASKED).await;
        tunnel.provider.send(SAID).await;
        hear(&mut tunnel.client, SAID).await;
    }
    let goodbye = b"\x88\x02\x03\xe8";
    tunnel.provider.send(goodbye).await;
    hear(&mut tunnel.client, goodbye).await;
    tunnel.client.send(GOODBYE).await;
    hear(&mut tunnel.provider, GOODBYE).await;
    drop(tunnel.provider);
    assert_eq!(hear_out(&mut tunnel.client).await, b"", "one close frame is enough");
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_frame_under_way_is_finished_first() {
    let (mut gateway, _provider, mut tunnel) = open("300ms").await;
    let long = [&[0x82, 126, 0x40, 0x00][..], &[7; 0x4000]].concat();
    let (begin, rest) = long.split_at(5000);
    tunnel.provider.send(begin).await;
    hear(&mut tunnel.client, begin).await;
    told(&gateway).await;
    // The next frame comes with the end of this one, and comes too late.
    tunnel.provider.send([rest, SAID].concat()).await;
    hear(&mut tunnel.client, rest).await;
    goodbye(&mut tunnel.client).await;
    tunnel.client.send(GOODBYE).await;
    assert_eq!(hear_out(&mut tunnel.client).await, b"");
    assert_eq!(closing(&hear_out(&mut tunnel.provider).await).0, 1001);
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_message_in_fragments_is_finished_first() {
    let (mut gateway, _provider, mut tunnel) = open("300ms").await;
    let (first, last) = (b"\x01\x03one", b"\x80\x03two");
    tunnel.provider.send(first).await;
    hear(&mut tunnel.client, first).await;
    told(&gateway).await;
    tunnel.provider.send(last).await;
    hear(&mut tunnel.client, last).await;
    goodbye(&mut tunnel.client).await;
    tunnel.client.send(GOODBYE).await;
    assert_eq!(hear_out(&mut tunnel.client).await, b"");
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_message_that_does_not_end_is_broken_off_between_two_frames() {
    let (mut gateway, _provider, mut tunnel) = open("300ms").await;
    let first = b"\x01\x03one";
    tunnel.provider.send(first).await;
    hear(&mut tunnel.client, first).await;
    gateway.signal("TERM");
    goodbye(&mut tunnel.client).await;
    assert_eq!(hear_out(&mut tunnel.client).await, b"");
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn nothing_is_written_into_a_frame_of_the_clients() {
    let (mut gateway, _provider, mut tunnel) = open("300ms").await;
    tunnel.client.send(&ASKED[..8]).await;
    hear(&mut tunnel.provider, &ASKED[..8]).await;
    gateway.signal("TERM");
    goodbye(&mut tunnel.client).await;
    assert_eq!(hear_out(&mut tunnel.provider).await, b"");
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_client_that_goes_on_talking_still_gets_to_read_why() {
    let (mut gateway, _provider, mut tunnel) = open("300ms").await;
    gateway.signal("TERM");
    // Whoever does not look at what it gets sends on.
    for _ in 0..40 {
        if tunnel.client.wire.send(ASKED).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    goodbye(&mut tunnel.client).await;
    let status = gateway.ended().await;
    assert_eq!(status.code(), Some(0), "{status}");
}

#[tokio::test]
async fn a_client_that_never_answers_holds_nothing_up() {
    let (mut gateway, _provider, mut tunnel) = open("300ms").await;
    gateway.signal("TERM");
    goodbye(&mut tunnel.client).await;
    let told = Instant::now();
    assert_eq!(gateway.ended().await.code(), Some(0));
    assert!(told.elapsed() < Duration::from_secs(2), "it took {:?}", told.elapsed());
}

#[tokio::test]
async fn a_tunnel_that_is_closing_is_told_nothing_more() {
    let (mut gateway, _provider, mut tunnel) = open("300ms").await;
    let goodbye = b"\x88\x02\x03\xe8";
    tunnel.provider.send(goodbye).await;
    hear(&mut tunnel.client, goodbye).await;
    gateway.signal("TERM");
    assert_eq!(hear_out(&mut tunnel.client).await, b"");
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_handshake_without_an_answer_is_refused_at_the_deadline() {
    let provider = Provider::new().await;
    let yaml = format!("{}\ntimeouts: {{ drain: 300ms }}\n", gateway::FRONT);
    let mut gateway = gateway::with(&yaml).place("up", &provider.address).start().await;
    let mut client = handshake(&gateway.client(), "?model=m").await;
    let (_waiting, _head) = provider.accept().await;
    gateway.signal("TERM");
    let reply = client.reply().await;
    reply.refused(503, "overloaded");
    assert!(reply.header("retry-after").is_some(), "{reply:?}");
    assert_eq!(gateway.ended().await.code(), Some(0));
}
