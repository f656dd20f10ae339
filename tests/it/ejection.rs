//! A replica that keeps failing: left out, probed, and taken back.

use crate::support::answer::Answer;
use crate::support::eventually;
use crate::support::gateway::{self, Gateway};
use crate::support::upstream::{self, Upstream};

fn pair(ejection: &str) -> String {
    format!(
        r#"
providers:
  - name: p
    kind: vllm
    endpoints: [{{ url: "http://@a" }}, {{ url: "http://@b" }}]
    health_check: {{ type: none }}
    ejection: {ejection}
models:
  - {{ name: m, targets: [{{ provider: p }}] }}
retry: {{ budget: 100% }}
"#
    )
}

async fn one_of_two_fails(ejection: &str, answer: Answer) -> (Upstream, Upstream, Gateway) {
    let (bad, good) = (upstream::always(answer).await, upstream::chat("well").await);
    let plan = gateway::with(&pair(ejection)).up("a", &bad).up("b", &good);
    let gateway = plan.start().await;
    (bad, good, gateway)
}

async fn chats(gateway: &Gateway, count: usize) {
    for _ in 0..count {
        assert_eq!(gateway.client().chat("hi").await.said(), "well");
    }
}

#[tokio::test]
async fn five_failures_in_a_row_put_a_replica_out() {
    let (bad, good, gateway) =
        one_of_two_fails("{ base: 60s }", Answer::error(500, "in trouble")).await;
    chats(&gateway, 30).await;
    assert_eq!((bad.count(), good.count()), (5, 30));
    assert_eq!(gateway.health_of(&bad).await, "ejected");
    assert_eq!(gateway.health_of(&good).await, "healthy");
    let health = format!(r#"forebay_provider_health{{endpoint="{}",provider="p"}}"#, bad.address);
    gateway.counts(&health, 0).await;
    let health = gateway.health().await;
    let replicas = health["providers"][0]["replicas"].as_array().unwrap();
    let told = replicas.iter().any(|one| one["last_error"] == "server_error");
    assert!(told, "{health}");
}

#[tokio::test]
async fn a_good_answer_between_them_keeps_a_replica_in() {
    let (bad, _good, gateway) = one_of_two_fails("{ after: 3 }", Answer::error(500, "x")).await;
    let turn = std::sync::atomic::AtomicUsize::new(0);
    bad.behave(move |_| match turn.fetch_add(1, std::sync::atomic::Ordering::SeqCst) % 3 {
        2 => Answer::chat("well"),
        _ => Answer::error(500, "in trouble"),
    });
    chats(&gateway, 40).await;
    assert_eq!(gateway.health_of(&bad).await, "healthy");
    assert!(bad.count() > 15, "{}", bad.count());
}

#[tokio::test]
async fn limits_and_the_callers_mistakes_put_nobody_out() {
    for status in [400, 404, 422, 429] {
        let (bad, good, gateway) =
            one_of_two_fails("{ after: 2 }", Answer::error(status, "your fault")).await;
        for _ in 0..12 {
            gateway.client().chat("hi").await;
        }
        assert_eq!(gateway.health_of(&bad).await, "healthy", "{status}");
        assert!(bad.count() >= 5, "{status}: {} of {}", bad.count(), good.count());
    }
}

#[tokio::test]
async fn the_last_replica_is_never_put_out() {
    let upstream = upstream::always(Answer::error(503, "in trouble")).await;
    let yaml = gateway::FRONT.replace("{ type: none }", "{ type: none }, ejection: { after: 2 }");
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    for _ in 0..20 {
        gateway.client().chat("hi").await.refused(503, "upstream_error");
    }
    assert_eq!(upstream.count(), 20);
    upstream.behave(|_| Answer::chat("well"));
    assert_eq!(gateway.client().chat("hi").await.said(), "well");
}

#[tokio::test]
async fn of_two_bad_replicas_one_stays_in() {
    let (a, b, gateway) =
        one_of_two_fails("{ after: 2, base: 60s }", Answer::error(503, "x")).await;
    b.behave(|_| Answer::error(503, "x"));
    for _ in 0..20 {
        gateway.client().chat("hi").await.refused(503, "upstream_error");
    }
    assert!(a.count() + b.count() >= 20, "{} and {}", a.count(), b.count());
    let healthy = [gateway.health_of(&a).await, gateway.health_of(&b).await];
    assert!(healthy.contains(&"healthy".to_owned()), "{healthy:?}");
}

#[tokio::test]
async fn a_replica_that_works_again_is_taken_back_by_a_probe() {
    let (bad, _good, gateway) =
        one_of_two_fails("{ after: 2, base: 200ms, max: 200ms }", Answer::error(500, "x")).await;
    chats(&gateway, 8).await;
    assert_eq!(gateway.health_of(&bad).await, "ejected");
    let before = bad.count();
    bad.behave(|_| Answer::chat("well"));
    eventually("the replica serves again", async || {
        chats(&gateway, 1).await;
        (bad.count() > before).then_some(())
    })
    .await;
    assert_eq!(gateway.health_of(&bad).await, "healthy");
    let before = bad.count();
    chats(&gateway, 10).await;
    assert_eq!(bad.count() - before, 5, "it has its full share again");
}

#[tokio::test]
async fn a_probe_that_fails_costs_no_caller_and_puts_it_out_again() {
    let (bad, _good, gateway) =
        one_of_two_fails("{ after: 2, base: 100ms, max: 10s }", Answer::error(500, "x")).await;
    chats(&gateway, 8).await;
    let before = bad.count();
    eventually("a probe", async || {
        chats(&gateway, 1).await;
        (bad.count() > before).then_some(())
    })
    .await;
    assert_eq!(gateway.health_of(&bad).await, "ejected");
}

#[tokio::test]
async fn a_probe_whose_caller_leaves_is_given_back() {
    let (bad, _good, gateway) =
        one_of_two_fails("{ after: 2, base: 100ms, max: 100ms }", Answer::error(500, "x")).await;
    chats(&gateway, 8).await;
    bad.behave(|_| Answer::silence());
    let before = bad.count();
    // One of these becomes the probe, is left waiting, and leaves.
    eventually("a probe", async || {
        let waiting = gateway.client().post("/v1/chat/completions", r#"{"model":"m"}"#);
        let mut waiting = waiting.begin().await;
        let answered = async { waiting.wire.head().await.is_ok() };
        let pause = std::time::Duration::from_millis(100);
        let _left = tokio::time::timeout(pause, answered).await;
        (bad.count() > before).then_some(())
    })
    .await;
    let probe = bad.calls().last().unwrap().clone();
    crate::support::until("the probe is let go", || probe.gone().is_some()).await;
    bad.behave(|_| Answer::chat("well"));
    let before = bad.count();
    eventually("the next probe", async || {
        chats(&gateway, 1).await;
        (bad.count() > before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn no_ejection_where_it_is_off() {
    let (bad, _good, gateway) = one_of_two_fails("off", Answer::error(500, "x")).await;
    chats(&gateway, 20).await;
    assert_eq!(bad.count(), 10);
    assert_eq!(gateway.health_of(&bad).await, "healthy");
}

#[tokio::test]
async fn the_last_one_that_passes_its_check_is_never_put_out() {
    let (ill, bad, gateway) = {
        let (ill, bad) = (upstream::chat("well").await, upstream::chat("well").await);
        let check = "{ interval: 50ms, unhealthy_after: 1 }";
        let yaml = pair("{ after: 2, base: 60s }").replace("{ type: none }", check);
        let gateway = gateway::with(&yaml).up("a", &ill).up("b", &bad).start().await;
        (ill, bad, gateway)
    };
    ill.set_healthy(false);
    eventually("one is out", async || (gateway.health_of(&ill).await == "unhealthy").then_some(()))
        .await;
    bad.behave(|_| Answer::error(500, "in trouble"));
    let before = bad.count();
    for _ in 0..10 {
        gateway.client().chat("hi").await.refused(500, "upstream_error");
    }
    assert_eq!(bad.count() - before, 10);
    bad.behave(|_| Answer::chat("well"));
    chats(&gateway, 5).await;
}

#[tokio::test]
async fn one_that_was_put_out_is_tried_when_the_others_fall_ill() {
    let (bad, good) = (upstream::chat("well").await, upstream::chat("well").await);
    let check = "{ interval: 50ms, unhealthy_after: 1 }";
    let yaml = pair("{ after: 2, base: 60s }").replace("{ type: none }", check);
    let gateway = gateway::with(&yaml).up("a", &bad).up("b", &good).start().await;
    bad.behave(|_| Answer::error(500, "in trouble"));
    chats(&gateway, 8).await;
    assert_eq!(gateway.health_of(&bad).await, "ejected");
    bad.behave(|_| Answer::chat("well"));
    good.set_healthy(false);
    eventually("the other is ill", async || {
        (gateway.health_of(&good).await == "unhealthy").then_some(())
    })
    .await;
    // It passes its checks, and nobody else does: better tried than 503 for a minute.
    chats(&gateway, 5).await;
}

#[tokio::test]
async fn a_provider_that_heals_serves_at_once() {
    let (a, b, gateway) = one_of_two_fails("{ base: 60s }", Answer::error(503, "x")).await;
    b.behave(|_| Answer::error(503, "x"));
    for _ in 0..40 {
        gateway.client().chat("hi").await.refused(503, "upstream_error");
    }
    a.behave(|_| Answer::chat("well"));
    b.behave(|_| Answer::chat("well"));
    chats(&gateway, 40).await;
}
