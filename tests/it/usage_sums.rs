//! Sums of usage: whatever is asked for by whomever, however it ends, they are the sum of what was used.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::cli_keys::{forebay, good};
use crate::support::answer::{Answer, DONE, content};
use crate::support::client::CHAT;
use crate::support::gateway::{self, ADMIN_KEY, Gateway};
use crate::support::upstream::{self, Call, Upstream};
use crate::support::vault::{PRICED, STORE, Vault, known};
use crate::support::{eventually, within};

const TWO: &str = r#"
providers:
  - { name: one, kind: vllm, base_url: "http://@a", health_check: { type: none }, ejection: off }
  - { name: two, kind: vllm, base_url: "http://@b", health_check: { type: none }, ejection: off }
models:
  - { name: first, targets: [{ provider: one }] }
  - { name: second, targets: [{ provider: two }] }
  - { name: both, targets: [{ provider: one }, { provider: two, weight: 0 }] }
retry: { budget: 100% }
access_log: { format: json, to: access.log, rotate: off }
audit: { store: "sqlite:@dir/audit.db" }
"#;
const REQUESTS: usize = 240;

/// By key, user, model and provider: requests, tokens of prompts and of answers.
type Sums = BTreeMap<[String; 4], [u64; 3]>;

/// What an upstream is to do stands in the member `user`.
fn behave(here: &'static str) -> impl Fn(&Call) -> Answer {
    move |call| {
        let body = call.json();
        let words: Vec<&str> = body["user"].as_str().unwrap().split(' ').collect();
        let number = |place: usize| words[place].parse::<u64>().unwrap();
        match words[0] {
            "refuse" => Answer::error(400, "the caller's mistake"),
            "fail" => Answer::error(503, "in trouble"),
            "fail-at-one" if here == "one" => Answer::error(503, "in trouble"),
            _ if body["stream"] == true => {
                let usage = json!({
                    "choices": [],
                    "usage": {"prompt_tokens": number(1), "completion_tokens": number(2)},
                });
                let words = (0..3).map(|_| content("word"));
                Answer::events(words.chain([format!("data: {usage}\n\n"), DONE.to_owned()]))
            }
            _ => Answer::json(
                200,
                &json!({
                    "choices": [{"index": 0, "finish_reason": "stop",
                        "message": {"role": "assistant", "content": "hi"}}],
                    "usage": {"prompt_tokens": number(1), "completion_tokens": number(2)},
                }),
            ),
        }
    }
}

/// Numbers that look like chance, the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// One request: its body, where it ends up, and what it uses there.
fn roll(dice: &mut Dice) -> (&'static str, &'static str, Value, [u64; 3]) {
    let (model, mut provider) = [("first", "one"), ("second", "two"), ("both", "one")]
        [usize::try_from(dice.below(3)).unwrap()];
    let (prompt, completion) = (1 + dice.below(50), 1 + dice.below(50));
    let tokens = format!("{prompt} {completion}");
    let (user, spent) = match dice.below(6) {
        0 => ("refuse".to_owned(), [1, 0, 0]),
        1 => {
            // The last one that was asked.
            provider = if model == "both" { "two" } else { provider };
            ("fail".to_owned(), [1, 0, 0])
        }
        2 if model == "both" => {
            provider = "two";
            (format!("fail-at-one {tokens}"), [1, prompt, completion])
        }
        _ => (format!("use {tokens}"), [1, prompt, completion]),
    };
    let body = json!({"model": model, "user": user, "stream": dice.below(2) == 0, "messages": []});
    (model, provider, body, spent)
}

fn add(sums: &mut Sums, key: &str, model: &str, provider: &str, spent: [u64; 3]) {
    let user = format!("user of {key}");
    let of = [key, &user, model, provider].map(str::to_owned);
    let sum = sums.entry(of).or_default();
    for (sum, part) in sum.iter_mut().zip(spent) {
        *sum += part;
    }
}

async fn start() -> (Upstream, Upstream, Gateway, Vault) {
    let one = upstream::with(behave("one")).await;
    let two = upstream::with(behave("two")).await;
    let yaml = format!("{TWO}{STORE}{PRICED}");
    let gateway = gateway::with(&yaml).up("a", &one).up("b", &two).start().await;
    let vault = Vault::of(&gateway).await;
    (one, two, gateway, vault)
}

async fn key(gateway: &Gateway, vault: &Vault, id: &str) -> String {
    let user = format!("user of {id}");
    vault.user(&user, json!({})).await;
    let key = vault.key(id, json!({ "user": user })).await;
    known(gateway, &key).await;
    key
}

async fn ask(gateway: &Gateway, query: &str) -> Value {
    let operator = gateway.operator().key(ADMIN_KEY);
    operator.get(&format!("/admin/v1/usage?{query}")).await.ok().json()
}

fn sums_of(told: &Value) -> Sums {
    let mut sums = Sums::new();
    for row in told["data"].as_array().unwrap() {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let count = |name: &str| row[name].as_u64().unwrap();
        let used = [count("requests"), count("prompt_tokens"), count("completion_tokens")];
        let cost = forebay::config::parse_usd(row["cost_usd"].as_str().unwrap()).unwrap();
        // A dollar per million tokens.
        assert_eq!(cost, (used[1] + used[2]) * 1000, "{row}");
        sums.insert(["key", "user", "model", "provider"].map(text), used);
    }
    sums
}

fn total(sums: &Sums) -> [u64; 3] {
    let add = |all: [u64; 3], one: &[u64; 3]| [all[0] + one[0], all[1] + one[1], all[2] + one[2]];
    sums.values().fold([0; 3], add)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sums_are_those_of_all_requests_however_they_ended() {
    let (_one, _two, gateway, vault) = start().await;
    let mut keys = Vec::new();
    for id in ["ada", "bob", "eve"] {
        keys.push((id, key(&gateway, &vault, id).await));
    }
    let gateway = Arc::new(gateway);
    let (mut dice, mut expected) = (Dice(42), Sums::new());
    let mut crowd = JoinSet::new();
    for _ in 0..REQUESTS {
        let (id, key) = keys[usize::try_from(dice.below(3)).unwrap()].clone();
        let (model, provider, body, used) = roll(&mut dice);
        add(&mut expected, id, model, provider, used);
        let client = gateway.client().key(&key);
        if crowd.len() >= 8 {
            within("an answer", crowd.join_next()).await.unwrap().unwrap();
        }
        crowd.spawn(async move {
            let reply = client.post(CHAT, body.to_string()).send().await;
            let good = if used[1] > 0 { reply.status == 200 } else { reply.status >= 400 };
            assert!(good, "{body}: {}", reply.said());
        });
    }
    while let Some(done) = within("an answer", crowd.join_next()).await {
        done.unwrap();
    }
    // Those who leave a stream early are charged for what there is to charge; how much of it came depends.
    let leaver = key(&gateway, &vault, "leaver").await;
    for _ in 0..10 {
        let body = json!({"model": "first", "user": "use 5 5", "stream": true, "messages": []});
        let mut incoming = gateway.client().key(&leaver).post(CHAT, body.to_string()).open().await;
        assert!(incoming.event().await.is_some());
    }

    let all = "group_by=key,user,model,provider";
    let told = eventually("all of it is in the store", async || {
        let told = ask(&gateway, all).await;
        (total(&sums_of(&told))[0] == REQUESTS as u64 + 10).then_some(told)
    })
    .await;
    let mut sums = sums_of(&told);
    let of_leaver = ["leaver", "user of leaver", "first", "one"].map(str::to_owned);
    let [left, prompt, _] = sums.remove(&of_leaver).unwrap();
    assert_eq!(left, 10);
    assert!(prompt >= 10, "{prompt}");
    assert_eq!(sums, expected);

    lines_and_rows_say_the_same(&gateway, &told).await;

    // The same, however it is asked for.
    let whole = total(&sums_of(&told));
    for group_by in ["", "hour", "day", "month", "key", "model,provider", "hour,user", "month,key"]
    {
        let told = ask(&gateway, &format!("group_by={group_by}")).await;
        let mut sum = [0; 3];
        for row in told["data"].as_array().unwrap() {
            for (sum, name) in
                sum.iter_mut().zip(["requests", "prompt_tokens", "completion_tokens"])
            {
                *sum += row[name].as_u64().unwrap();
            }
        }
        assert_eq!(sum, whole, "{group_by}");
    }
    let of_ada = total(&sums_of(&ask(&gateway, &format!("{all}&key=ada")).await));
    let ada = expected.iter().filter(|(of, _)| of[0] == "ada");
    assert_eq!(of_ada, total(&ada.map(|(of, used)| (of.clone(), *used)).collect()));
    pages_are_parts_of_the_whole(&gateway, all, &told).await;
    csv_says_the_same(&gateway, all, &told).await;
    the_command_says_the_same(&gateway, whole);
}

/// By key, model and provider: requests, tokens of prompts and of answers, nanodollars.
type Booked = BTreeMap<[String; 3], [u64; 4]>;

/// What lines or rows add up to, of those that used something.
fn booked(rows: impl Iterator<Item = Value>) -> Booked {
    let mut sums = Booked::new();
    for row in rows {
        let in_words = row["cost_usd"].as_str().and_then(forebay::config::parse_usd);
        let Some(cost) = in_words.or(row["cost_nanos"].as_u64()) else { continue };
        let key = row["key"].as_str().or(row["key_name"].as_str());
        let of = [key, row["model"].as_str(), row["provider"].as_str()];
        let of = of.map(|name| name.unwrap().to_owned());
        let count = |name: &str| row[name].as_u64();
        let parts = [
            count("requests").unwrap_or(1),
            count("prompt_tokens").unwrap_or(0),
            count("completion_tokens").unwrap_or(0),
            cost,
        ];
        let sum = sums.entry(of).or_default();
        sum.iter_mut().zip(parts).for_each(|(sum, part)| *sum += part);
    }
    sums
}

/// Lines of the access log and rows of the audit add up to what is told.
async fn lines_and_rows_say_the_same(gateway: &Gateway, told: &Value) {
    let expected = booked(told["data"].as_array().unwrap().iter().cloned());
    let requests = |sums: &Booked| sums.values().map(|sum| sum[0]).sum::<u64>();
    let path = gateway.dir().join("access.log");
    let lines = eventually("a line for each", async || {
        let text = std::fs::read_to_string(&path).unwrap();
        // The last one may be under way.
        let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        let sums = booked(lines);
        (requests(&sums) == requests(&expected)).then_some(sums)
    })
    .await;
    assert_eq!(lines, expected);
    let operator = gateway.operator().key(ADMIN_KEY);
    let rows = eventually("a row for each", async || {
        let page = operator.get("/admin/v1/audit?limit=1000").await.ok().json();
        let sums = booked(page["data"].as_array().unwrap().iter().cloned());
        (requests(&sums) == requests(&expected)).then_some(sums)
    })
    .await;
    assert_eq!(rows, expected);
}

async fn pages_are_parts_of_the_whole(gateway: &Gateway, query: &str, whole: &Value) {
    let (mut rows, mut offset) = (Vec::new(), 0);
    loop {
        let page = ask(gateway, &format!("{query}&limit=3&offset={offset}")).await;
        let data = page["data"].as_array().unwrap();
        assert!((1..=3).contains(&data.len()), "{page}");
        rows.extend(data.iter().cloned());
        let Some(next) = page["next_offset"].as_u64() else { break };
        assert_eq!(page["truncated"], true);
        offset = next;
    }
    assert_eq!(&json!(rows), &whole["data"]);
    let operator = gateway.operator().key(ADMIN_KEY);
    for wrong in ["limit=0", "limit=10001", "offset=99999999", "group_by=colour", "format=xml"] {
        let reply = operator.get(&format!("/admin/v1/usage?{wrong}")).await;
        assert_eq!(reply.status, 400, "{wrong}");
    }
}

async fn csv_says_the_same(gateway: &Gateway, query: &str, whole: &Value) {
    let operator = gateway.operator().key(ADMIN_KEY);
    let asked = operator.request("GET", &format!("/admin/v1/usage?{query}"));
    let reply = asked.header("accept", "text/csv").send().await.ok();
    assert_eq!(reply.header("content-type"), Some("text/csv; charset=utf-8"));
    let by_format = operator.get(&format!("/admin/v1/usage?{query}&format=csv")).await.ok();
    assert_eq!(reply.text(), by_format.text());
    let text = reply.text();
    let mut lines = text.split_terminator("\r\n");
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let rows = whole["data"].as_array().unwrap();
    assert_eq!(lines.clone().count(), rows.len());
    for (line, row) in lines.zip(rows) {
        for (name, cell) in names.iter().zip(line.split(',')) {
            let told = row[*name].as_str().map_or_else(|| row[*name].to_string(), str::to_owned);
            assert_eq!(told, cell, "{name}");
        }
    }
    let first = operator.get(&format!("/admin/v1/usage?{query}&format=csv&limit=1")).await.ok();
    assert_eq!(first.header("x-forebay-next-offset"), Some("1"));
}

#[track_caller]
fn the_command_says_the_same(gateway: &Gateway, [requests, prompt, completion]: [u64; 3]) {
    let file = gateway.file();
    let table = good(&forebay(&file, &["usage"]));
    let last: Vec<&str> = table.lines().last().unwrap().split_whitespace().collect();
    let expected = [requests, prompt, completion].map(|count| count.to_string());
    assert_eq!((last[0], &last[2..5]), ("TOTAL", &expected.each_ref().map(String::as_str)[..]));
    let json = good(&forebay(&file, &["usage", "--by", "month", "--json"]));
    let told: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(told["total"]["requests"], requests);
    assert_eq!(told["data"][0]["prompt_tokens"], prompt);
    let csv = good(&forebay(&file, &["usage", "--by", "model", "--key", "bob", "--csv"]));
    assert!(csv.starts_with("model,requests,prompt_tokens,"), "{csv}");
    let old = good(&forebay(&file, &["usage", "--to", "2020-01-01"]));
    assert!(old.starts_with("KEY") && old.contains("TOTAL"), "{old}");
    let wrong = forebay(&file, &["usage", "--by", "colour"]);
    assert_eq!(wrong.status.code(), Some(1), "{wrong:?}");
}

#[test]
fn without_a_server_the_store_is_asked() {
    let (_dir, file) = crate::cli_keys::offline("");
    let table = good(&forebay(&file, &["usage", "--by", "day"]));
    assert!(table.starts_with("DAY"), "{table}");
}
