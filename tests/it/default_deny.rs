//! Of a server's own surface only what the gateway serves can be reached.

use serde_json::{Value, json};

use crate::support::answer::Answer;
use crate::support::gateway::{self, ADMIN_KEY, Gateway};
use crate::support::upstream::{self, Upstream};

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// vLLM's and `SGLang`'s routes that the gateway does not serve: management, weights, profiling,
/// development, other protocols.
const ROUTES: [&str; 74] = [
    "/abort_request",
    "/abort_requests",
    "/add_lora",
    "/close_session",
    "/collective_rpc",
    "/configure_logging",
    "/continue_generation",
    "/delete_adapter",
    "/destroy_weights_update_group",
    "/docs",
    "/dump_metrics",
    "/encode",
    "/finish_weight_update",
    "/flush_cache",
    "/freeze_gc",
    "/generate",
    "/generative_scoring",
    "/get_internal_state",
    "/get_load",
    "/get_model_info",
    "/get_server_info",
    "/get_weights_by_name",
    "/get_world_size",
    "/inference/v1/generate",
    "/init_weight_transfer_engine",
    "/init_weights_update_group",
    "/invocations",
    "/is_paused",
    "/is_scaling_elastic_ep",
    "/is_sleeping",
    "/load",
    "/load_lora_adapter",
    "/open_session",
    "/openapi.json",
    "/pause",
    "/pause_generation",
    "/ping",
    "/pooling",
    "/redoc",
    "/release_memory_occupation",
    "/render",
    "/reset_encoder_cache",
    "/reset_mm_cache",
    "/reset_prefix_cache",
    "/resume",
    "/resume_generation",
    "/resume_memory_occupation",
    "/scale_elastic_ep",
    "/server_info",
    "/set_internal_state",
    "/slow_down",
    "/sleep",
    "/start_draft_weight_update",
    "/start_expert_distribution_record",
    "/start_profile",
    "/start_weight_update",
    "/stop_expert_distribution_record",
    "/stop_profile",
    "/tokenizer_info",
    "/unload_lora_adapter",
    "/update_weight_version",
    "/update_weights",
    "/update_weights_from_disk",
    "/update_weights_from_distributed",
    "/update_weights_from_tensor",
    "/v1/load_lora_adapter",
    "/v1/loads",
    "/v1/unload_lora_adapter",
    "/vertex_generate",
    "/version",
    "/wake_up",
    "/weight_checker",
    "/weight_info",
    "/weights_checker",
];

const YAML: &str = r#"
providers:
  - name: p
    kind: vllm
    endpoints: [{ url: "http://@a" }, { url: "http://@b" }]
    health_check: { type: none }
    OPERATIONS
models:
  - { match: { prefix: "" }, targets: [{ provider: p }] }
default_provider: p
"#;

async fn start(operations: &str) -> (Upstream, Upstream, Gateway) {
    let (a, b) = (upstream::chat("a").await, upstream::chat("b").await);
    let yaml = YAML.replace("OPERATIONS", operations);
    let gateway = gateway::with(&yaml).up("a", &a).up("b", &b).start().await;
    (a, b, gateway)
}

#[tokio::test]
async fn no_caller_reaches_what_manages_a_server() {
    let (a, b, gateway) = start("operations: [load_lora_adapter, sleep]").await;
    let (client, operator) = (gateway.client(), gateway.operator().key(ADMIN_KEY));
    let body = json!({"model": "m", "lora_name": "x", "lora_path": "/x"}).to_string();
    for route in ROUTES {
        let plain = METHODS.map(|method| (method, route.to_owned()));
        let other = [format!("{route}/"), format!("/{route}"), format!("{route}?model=m")];
        for (method, spelled) in plain.into_iter().chain(other.map(|it| ("POST", it))) {
            for (who, door) in [(&client, "callers"), (&operator, "operators")] {
                let reply = who.request(method, &spelled).body(body.clone()).send().await;
                assert_eq!(reply.status, 404, "{method} {spelled} at the {door}' door");
            }
        }
    }
    assert_eq!((a.count(), b.count()), (0, 0), "a server was asked");
}

fn call(replica: &Upstream, operation: &str) -> String {
    format!("/admin/v1/providers/p/replicas/{}/calls/{operation}", replica.address)
}

#[tokio::test]
async fn an_operation_that_is_named_goes_to_one_replica() {
    let (a, b, gateway) = start("operations: [load_lora_adapter, is_sleeping]").await;
    b.behave(|call| Answer::json(200, &json!({"asked": call.target()})));
    let operator = gateway.operator().key(ADMIN_KEY);
    let body = json!({"lora_name": "x", "lora_path": "/adapters/x"});
    let asked = operator.post(&call(&b, "load_lora_adapter"), body.to_string()).send().await.ok();
    assert_eq!(asked.json(), json!({"status": 200, "body": {"asked": "/v1/load_lora_adapter"}}));
    let seen = b.call();
    assert_eq!((seen.head.word(0), seen.json()), ("POST", body));
    assert_eq!(seen.header("authorization"), None, "the operator's key stays here");
    operator.post(&call(&b, "is_sleeping"), "").send().await.ok();
    assert_eq!((b.calls()[1].head.word(0), b.calls()[1].target()), ("GET", "/is_sleeping"));
    assert_eq!(a.count(), 0);
}

#[tokio::test]
async fn what_a_replica_says_of_an_operation_is_handed_on() {
    let (a, _b, gateway) = start("operations: [sleep]").await;
    a.behave(|_| Answer::new(500, "text/plain", "out of memory"));
    let operator = gateway.operator().key(ADMIN_KEY);
    let told: Value = operator.post(&call(&a, "sleep"), "").send().await.ok().json();
    assert_eq!(told, json!({"status": 500, "body": "out of memory"}));
}

#[tokio::test]
async fn what_is_not_named_is_refused_to_operators_too() {
    let (a, b, gateway) = start("operations: [sleep]").await;
    let operator = gateway.operator().key(ADMIN_KEY);
    operator.post(&call(&a, "pause"), "").send().await.refused(403, "not_permitted");
    operator.post(&call(&a, "nonsense"), "").send().await.refused(404, "not_found");
    let elsewhere = "/admin/v1/providers/p/replicas/127.0.0.1:1/calls/sleep";
    operator.post(elsewhere, "").send().await.refused(404, "not_found");
    let nobody = gateway.operator().post(&call(&a, "sleep"), "").send().await;
    assert_eq!(nobody.status, 401);
    assert_eq!((a.count(), b.count()), (0, 0));
}
