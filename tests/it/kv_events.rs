//! Servers that tell what they have cached: their word counts, and without it the estimate.

use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::answer::Answer;
use crate::support::client::{CHAT, Client, Reply};
use crate::support::eventually;
use crate::support::gateway::{self, Gateway};
use crate::support::publisher::{self, Publisher};
use crate::support::upstream::{self, Upstream};

/// Tokens of a server's block.
const BLOCK: usize = 16;

struct Server {
    name: &'static str,
    upstream: Upstream,
    publisher: Publisher,
}

/// Two servers that tell of their caches, each at an address of its own, and the gateway.
async fn two() -> (Server, Server, Gateway) {
    let ips = ["127.0.0.1", "127.0.0.2"];
    let (port, [a, b]) = publisher::same_port(ips).await;
    let server = async |name, ip, listener: TcpListener| {
        let answer = move |call: &upstream::Call| match call.target() {
            "/tokenize" => {
                let tokens = tokens(&call.json());
                Answer::new(200, "application/json", json!({ "tokens": tokens }).to_string())
            }
            _ => Answer::chat(name),
        };
        let upstream = upstream::at(ip, answer).await;
        Server { name, upstream, publisher: publisher::on(listener) }
    };
    let (a, b) = (server("a", ips[0], a).await, server("b", ips[1], b).await);
    let yaml = format!(
        r#"
providers:
  - name: p
    kind: vllm
    endpoints: [{{ url: "http://@a" }}, {{ url: "http://@b" }}]
    load_balancing: prefix_affinity
    kv_events: {{ port: {port} }}
    health_check: {{ type: none }}
models:
  - {{ name: m, targets: [{{ provider: p }}] }}
"#
    );
    let plan = gateway::with(&yaml).up("a", &a.upstream).up("b", &b.upstream);
    let gateway = plan.start().await;
    a.publisher.wait_for_subscriber().await;
    b.publisher.wait_for_subscriber().await;
    (a, b, gateway)
}

fn chat(name: &str) -> Value {
    json!({"model": "m", "messages": [{"role": "user", "content": format!("{name} ").repeat(600)}]})
}

/// Four bytes are a token.
fn tokens(body: &Value) -> Vec<u32> {
    let text = body["messages"][0]["content"].as_str().unwrap();
    let word = |word: &[u8]| word.iter().fold(0, |all, byte| all << 8 | u32::from(*byte));
    text.as_bytes().chunks(4).map(word).collect()
}

/// A server's blocks of a chat, by names of its own.
fn names(server: &Server, body: &Value) -> Vec<u64> {
    let first =
        u64::from(server.name.as_bytes()[0]) << 32 | u64::from(tokens(body)[0] & 0xffff) << 16;
    (first..).take(tokens(body).len() / BLOCK).collect()
}

fn stored(server: &Server, body: &Value) -> Value {
    let names = names(server, body);
    let tokens: Vec<u32> = tokens(body).into_iter().take(names.len() * BLOCK).collect();
    json!({
        "type": "BlockStored", "block_hashes": names, "parent_block_hash": null, "token_ids": tokens,
        "block_size": BLOCK, "lora_id": null, "medium": "GPU", "lora_name": null,
        "extra_keys": vec![Value::Null; names.len()], "group_idx": 0,
    })
}

fn removed(server: &Server, body: &Value) -> Value {
    let names = names(server, body);
    json!({"type": "BlockRemoved", "block_hashes": names, "medium": "GPU", "group_idx": 0})
}

async fn ask(client: &Client, body: &Value) -> Reply {
    client.post(CHAT, body.to_string()).send().await.ok()
}

/// Waits until a server is known to have so many blocks, or not to tell.
async fn told(gateway: &Gateway, server: &Server, blocks: Option<usize>) {
    let address = server.upstream.address.to_string();
    eventually("what a server tells is known", async || {
        let provider = gateway.health().await["providers"][0].clone();
        let replicas = provider["replicas"].as_array()?;
        let replica = replicas.iter().find(|one| one["address"] == address.as_str())?;
        (replica["told_blocks"] == json!(blocks)).then_some(())
    })
    .await;
}

/// Waits until the gateway knows what a chat comes to in tokens.
async fn learned(gateway: &Gateway, least: u64) {
    eventually("the prompt is learned", async || {
        let provider = gateway.health().await["providers"][0].clone();
        (provider["learned_blocks"].as_u64()? >= least).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_prompt_goes_where_a_server_says_it_is_cached() {
    let (a, b, gateway) = two().await;
    let (client, chats) = (gateway.client(), [chat("one"), chat("two")]);
    let blocks = tokens(&chats[0]).len() / BLOCK;
    // Each of the two tells what it has of another chat, so that both are heard.
    a.publisher.say(&[stored(&a, &chat("any"))]);
    b.publisher.say(&[stored(&b, &chat("any"))]);
    told(&gateway, &a, Some(blocks)).await;
    told(&gateway, &b, Some(blocks)).await;
    let home = ask(&client, &chats[0]).await.said();
    assert_eq!(ask(&client, &chats[0]).await.said(), home);
    learned(&gateway, 8).await;
    // It is evicted there, and cached at the other through somebody else.
    let (home, other) = if home == "a" { (&a, &b) } else { (&b, &a) };
    home.publisher.say(&[stored(home, &chats[0])]);
    told(&gateway, home, Some(2 * blocks)).await;
    other.publisher.say(&[stored(other, &chats[0])]);
    home.publisher.say(&[removed(home, &chats[0])]);
    told(&gateway, other, Some(2 * blocks)).await;
    told(&gateway, home, Some(blocks)).await;
    assert_eq!(ask(&client, &chats[0]).await.said(), other.name);
    // A cleared cache has nothing.
    other.publisher.say(&[json!({"type": "AllBlocksCleared"})]);
    home.publisher.say(&[stored(home, &chats[0])]);
    told(&gateway, other, Some(0)).await;
    told(&gateway, home, Some(2 * blocks)).await;
    assert_eq!(ask(&client, &chats[0]).await.said(), home.name);
}

#[tokio::test]
async fn without_a_word_of_the_servers_what_was_sent_is_what_counts() {
    let (a, b, gateway) = two().await;
    let (client, body) = (gateway.client(), chat("one"));
    let blocks = tokens(&body).len() / BLOCK;
    let home = ask(&client, &body).await.said();
    let home = if home == "a" { &a } else { &b };
    home.publisher.say(&[stored(home, &body)]);
    told(&gateway, home, Some(blocks)).await;
    home.publisher.hang_up();
    told(&gateway, home, None).await;
    for _ in 0..4 {
        assert_eq!(ask(&client, &body).await.said(), home.name);
    }
    // It is back, with a message missed: what it told before does not count any more.
    home.publisher.wait_for_subscriber().await;
    home.publisher.lose_one();
    home.publisher.say(&[stored(home, &chat("two"))]);
    told(&gateway, home, Some(blocks)).await;
    assert_eq!(ask(&client, &body).await.said(), home.name);
    // What makes no sense ends the connection, and nothing else.
    home.publisher.say(&[json!({"type": "BlockStored", "block_hashes": "x"})]);
    told(&gateway, home, None).await;
    assert_eq!(ask(&client, &body).await.said(), home.name);
}
