//! Too many at once: some are turned away, the others are served.

use crate::support::gateway;
use crate::support::upstream;
use crate::support::within;

async fn turned_away(limits: &str) {
    let upstream = upstream::chat("hello").await;
    let yaml = format!("{}\nlimits: {limits}\n", gateway::FRONT);
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let health = gateway.client().request("GET", "/health");
    // The harness has looked whether it listens; that connection is gone, but may still count.
    crate::support::eventually("three connections", async || {
        let mut open = Vec::new();
        for _ in 0..3 {
            let mut connection = gateway.client().connect().await;
            connection.wire.send(&health.bytes()).await.ok()?;
            let head = connection.wire.head().await.ok()??;
            (head.word(1) == "200").then_some(())?;
            open.push(connection);
        }
        let mut fourth = gateway.client().connect().await;
        let _sent = fourth.wire.send(&health.bytes()).await;
        // Told so, or just closed.
        if let Ok(Some(head)) = within("an answer or the end", fourth.wire.head()).await {
            assert_eq!(head.word(1), "503", "{head:?}");
        }
        Some(())
    })
    .await;
    // They have left: there is room again.
    crate::support::eventually("room again", async || {
        let mut connection = gateway.client().connect().await;
        connection.wire.send(&health.bytes()).await.ok()?;
        let head = connection.wire.head().await.ok()??;
        (head.word(1) == "200").then_some(())
    })
    .await;
}

#[tokio::test]
async fn more_connections_than_allowed_are_turned_away() {
    turned_away("{ connections: 3 }").await;
}

#[tokio::test]
async fn more_connections_of_one_address_than_allowed_are_turned_away() {
    turned_away("{ connections_per_ip: 3 }").await;
}
