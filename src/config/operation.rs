//! `operations`: what of a server's own management may be called through the admin API.

use super::read::Value;

/// One call that manages a server, as vLLM has it. None of these is ever reachable for callers.
#[derive(Debug, PartialEq, Eq)]
pub struct Operation {
    /// What `operations` calls it.
    pub name: &'static str,
    /// Whether it is asked with `POST`; else with `GET`.
    pub post: bool,
    /// Where a server has it.
    pub path: &'static str,
}

const fn post(name: &'static str, path: &'static str) -> Operation {
    Operation { name, post: true, path }
}

const fn get(name: &'static str, path: &'static str) -> Operation {
    Operation { name, post: false, path }
}

/// All there are: vLLM has their handlers in `vllm/entrypoints/serve`.
pub const OPERATIONS: [Operation; 28] = [
    post("load_lora_adapter", "/v1/load_lora_adapter"),
    post("unload_lora_adapter", "/v1/unload_lora_adapter"),
    post("reset_prefix_cache", "/reset_prefix_cache"),
    post("reset_mm_cache", "/reset_mm_cache"),
    post("reset_encoder_cache", "/reset_encoder_cache"),
    post("sleep", "/sleep"),
    post("wake_up", "/wake_up"),
    get("is_sleeping", "/is_sleeping"),
    post("pause", "/pause"),
    post("resume", "/resume"),
    get("is_paused", "/is_paused"),
    post("init_weight_transfer_engine", "/init_weight_transfer_engine"),
    post("start_weight_update", "/start_weight_update"),
    post("update_weights", "/update_weights"),
    post("start_draft_weight_update", "/start_draft_weight_update"),
    post("finish_weight_update", "/finish_weight_update"),
    post("update_weight_version", "/update_weight_version"),
    post("weight_checker", "/weight_checker"),
    get("weight_info", "/weight_info"),
    get("get_world_size", "/get_world_size"),
    post("collective_rpc", "/collective_rpc"),
    post("abort_requests", "/abort_requests"),
    post("scale_elastic_ep", "/scale_elastic_ep"),
    post("is_scaling_elastic_ep", "/is_scaling_elastic_ep"),
    post("start_profile", "/start_profile"),
    post("stop_profile", "/stop_profile"),
    get("server_info", "/server_info"),
    get("version", "/version"),
];

impl Operation {
    /// The one of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        OPERATIONS.iter().find(|operation| operation.name == name)
    }

    pub(super) fn read(value: Value) -> Option<&'static Self> {
        let words: Vec<(&str, &Self)> = OPERATIONS.iter().map(|it| (it.name, it)).collect();
        value.one_of(&words)
    }
}
