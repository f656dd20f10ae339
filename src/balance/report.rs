//! What a server says of its load: the few of its metrics that matter here, vLLM's or `SGLang`'s.

/// One reading of a server's `/metrics`, summed over its engines.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// Requests it works on; `None`: it tells of no load.
    pub running: Option<f64>,
    /// Requests it has taken and not begun.
    pub waiting: f64,
    /// How full its KV cache is, 0 to 1: the fullest engine's.
    pub kv_use: f64,
    /// Tokens its KV cache holds.
    pub capacity: u64,
    /// When its process began, in seconds since 1970.
    pub started: f64,
    /// Prompt tokens looked up in its prefix cache since it began, and found there.
    pub looked_up: f64,
    pub found: f64,
    /// Something that only grows for as long as it runs.
    pub counter: f64,
}

impl Report {
    /// Reads Prometheus' text format. Lines of other metrics are passed over.
    pub fn read(text: &str) -> Self {
        let mut report = Self::default();
        for line in text.lines() {
            if line.starts_with("vllm:") || line.starts_with("sglang") || line.starts_with("proc") {
                report.take(line);
            }
        }
        report
    }

    fn take(&mut self, line: &str) {
        let Some((name, labels, value)) = parts(line) else { return };
        match name {
            "vllm:num_requests_running" | "sglang:num_running_reqs" => {
                self.running = Some(self.running.unwrap_or(0.0) + value);
            }
            "vllm:num_requests_waiting" | "sglang:num_queue_reqs" => self.waiting += value,
            // The second is the first's name in earlier versions.
            "vllm:kv_cache_usage_perc" | "vllm:gpu_cache_usage_perc" | "sglang:token_usage" => {
                self.kv_use = self.kv_use.max(value);
            }
            "vllm:cache_config_info" => self.capacity = self.capacity.saturating_add(room(labels)),
            "sglang:max_total_num_tokens" => {
                self.capacity = self.capacity.saturating_add(whole(value));
            }
            "process_start_time_seconds" => self.started = value,
            "vllm:prefix_cache_queries_total" => {
                self.looked_up += value;
                self.counter += value;
            }
            "vllm:prefix_cache_hits_total" => self.found += value,
            "sglang:prompt_tokens_total" => self.counter += value,
            _ => {}
        }
    }

    /// Whether the server has begun anew since `before`.
    pub fn is_after_restart(&self, before: &Self) -> bool {
        // Two readings may differ in rounding; no server starts twice within half a second.
        let known = before.started > 0.0 && self.started > 0.0;
        let other = known && (self.started - before.started).abs() > 0.5;
        other || self.counter < before.counter
    }
}

/// Name, labels and value of a sample.
fn parts(line: &str) -> Option<(&str, &str, f64)> {
    let (head, value) = line.trim_end().rsplit_once(' ')?;
    let value: f64 = value.parse().ok().filter(|value: &f64| value.is_finite() && *value >= 0.0)?;
    let (name, labels) = head.split_once('{').unwrap_or((head, ""));
    Some((name, labels.strip_suffix('}').unwrap_or(labels), value))
}

/// Tokens of a cache by the labels vLLM describes it with.
fn room(labels: &str) -> u64 {
    let label = |name: &str| {
        let before = |at: &usize| *at == 0 || labels.as_bytes().get(at - 1) == Some(&b',');
        let at = labels.match_indices(name).map(|(at, _)| at).find(before)?;
        let value = labels.get(at + name.len()..)?.strip_prefix("=\"")?;
        value.split('"').next()?.parse::<u64>().ok()
    };
    let product = || label("num_gpu_blocks")?.checked_mul(label("block_size")?);
    label("kv_cache_size_tokens").or_else(product).unwrap_or(0)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "finite and not negative, and a cast of a float stays within bounds"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const VLLM: &str = r#"
# HELP process_start_time_seconds Start time of the process since unix epoch in seconds.
process_start_time_seconds 1.79523180098e+09
vllm:num_requests_running{engine="0",model_name="tiny"} 3.0
vllm:num_requests_running{engine="1",model_name="tiny"} 2.0
vllm:num_requests_waiting{engine="0",model_name="tiny"} 7.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="tiny",reason="capacity"} 7.0
vllm:kv_cache_usage_perc{engine="0",model_name="tiny"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="tiny"} 0.75
vllm:prefix_cache_queries_total{engine="0",model_name="tiny"} 7997.0
vllm:prefix_cache_hits_total{engine="0",model_name="tiny"} 2688.0
vllm:cache_config_info{_block_size_resolved="True",block_size="128",engine="0",kv_cache_size_tokens="65536",num_gpu_blocks="512"} 1.0
"#;

    #[test]
    fn what_vllm_says_is_summed_over_its_engines() {
        let report = Report::read(VLLM);
        assert_eq!((report.running, report.waiting, report.kv_use), (Some(5.0), 7.0, 0.75));
        assert_eq!((report.looked_up, report.found, report.capacity), (7997.0, 2688.0, 65_536));
        assert!(report.started > 1.795e9);
    }

    #[test]
    fn sglangs_and_older_names_are_known() {
        let report = Report::read(
            "sglang:num_running_reqs{tp_rank=\"0\"} 4.0\nsglang:num_queue_reqs 2.0\n\
             sglang:token_usage{a=\"b\"} 0.5\nsglang:max_total_num_tokens 1000.0\n",
        );
        assert_eq!((report.running, report.waiting, report.kv_use), (Some(4.0), 2.0, 0.5));
        assert_eq!(report.capacity, 1000);
        let older = Report::read("vllm:gpu_cache_usage_perc 0.5");
        assert_eq!(older, Report { kv_use: 0.5, ..Report::default() });
        let blocks = "vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"10\"} 1.0";
        assert_eq!(Report::read(blocks).capacity, 160);
    }

    #[test]
    fn what_is_no_number_is_passed_over() {
        for text in ["", "vllm:num_requests_running", "vllm:num_requests_running NaN", "{} }{ 1"] {
            assert_eq!(Report::read(text), Report::default(), "{text}");
        }
    }

    #[test]
    fn a_later_start_or_a_smaller_count_is_a_restart() {
        let before = Report { started: 100.0, counter: 50.0, ..Report::default() };
        let same = Report { counter: 60.0, ..before };
        assert!(!same.is_after_restart(&before));
        assert!(Report { started: 160.0, ..same }.is_after_restart(&before));
        assert!(Report { counter: 0.0, ..before }.is_after_restart(&before));
        assert!(!same.is_after_restart(&Report::default()), "the first one is none");
    }
}
