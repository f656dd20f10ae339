//! What is counted of one model at one provider, looked up once.
//!
//! A look-up by labels hashes them, takes a lock and counts a reference, all of which the processor's
//! cores would share in every request.

use std::sync::OnceLock;

use http::StatusCode;
use prometheus::{Histogram, HistogramVec, IntCounter};

use super::{Metrics, Tokens};

/// The numbers of one model at one provider, each found when it first counts something: what has never
/// counted anything is not told.
#[derive(Debug, Default)]
pub struct Series {
    /// Of good answers, at the endpoint that was asked first: hardly a model has two.
    answers: OnceLock<Answers>,
    /// By the kind's place in [`Tokens::by_kind`].
    tokens: [OnceLock<IntCounter>; 4],
    first_token: OnceLock<Histogram>,
    inter_token: OnceLock<Histogram>,
    served: OnceLock<IntCounter>,
}

#[derive(Debug)]
struct Answers {
    endpoint: &'static str,
    requests: IntCounter,
    duration: Histogram,
}

/// Whose numbers they are.
#[derive(Clone, Copy)]
pub struct Counted<'a> {
    pub model: &'a str,
    pub provider: &'a str,
    /// Those of just these two, where they are known beforehand.
    pub series: Option<&'a Series>,
}

impl Metrics {
    /// Counts a request that has been answered, after so many seconds.
    pub fn count_request(
        &self,
        of: Counted,
        endpoint: &'static str,
        status: StatusCode,
        seconds: f64,
    ) {
        let Counted { model, provider, series } = of;
        let find = || Answers {
            endpoint,
            requests: self.requests.with_label_values(&[endpoint, model, provider, "200"]),
            duration: self.duration.with_label_values(&[endpoint, model, provider]),
        };
        let good = series.filter(|_| status == StatusCode::OK);
        let known = good.map(|series| series.answers.get_or_init(find));
        if let Some(answers) = known.filter(|answers| answers.endpoint == endpoint) {
            answers.requests.inc();
            return answers.duration.observe(seconds);
        }
        let labels = [endpoint, model, provider, status.as_str()];
        self.requests.with_label_values(&labels).inc();
        self.duration.with_label_values(&[endpoint, model, provider]).observe(seconds);
    }

    /// Counts the tokens of one answer.
    pub fn count_tokens(&self, of: Counted, tokens: Tokens) {
        let Counted { model, provider, series } = of;
        for (place, (kind, count)) in tokens.by_kind().into_iter().enumerate() {
            if count == 0 {
                continue;
            }
            let find = || self.tokens.with_label_values(&[model, provider, kind]);
            match series.and_then(|series| series.tokens.get(place)) {
                Some(known) => known.get_or_init(find).inc_by(count),
                None => find().inc_by(count),
            }
        }
    }

    /// Counts how long a stream's first event took, in seconds.
    pub fn observe_first_token(&self, of: Counted, seconds: f64) {
        let known = of.series.map(|series| &series.first_token);
        observe(known, &self.first_token, of, seconds);
    }

    /// Counts the mean time between the events of a stream, in seconds.
    pub fn observe_inter_token(&self, of: Counted, seconds: f64) {
        let known = of.series.map(|series| &series.inter_token);
        observe(known, &self.inter_token, of, seconds);
    }

    /// Counts an attempt that was answered in full.
    pub fn count_served(&self, of: Counted) {
        let find = || self.attempts.with_label_values(&[of.provider, "ok"]);
        match of.series {
            Some(series) => series.served.get_or_init(find).inc(),
            None => find().inc(),
        }
    }
}

fn observe(known: Option<&OnceLock<Histogram>>, all: &HistogramVec, of: Counted, seconds: f64) {
    let find = || all.with_label_values(&[of.model, of.provider]);
    match known {
        Some(known) => known.get_or_init(find).observe(seconds),
        None => find().observe(seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(series: Option<&Series>) -> Vec<u8> {
        let metrics = Metrics::new().unwrap();
        let of = Counted { model: "m", provider: "p", series };
        for endpoint in ["/v1/chat/completions", "/v1/embeddings", "/v1/chat/completions"] {
            for status in [StatusCode::OK, StatusCode::BAD_GATEWAY] {
                metrics.count_request(of, endpoint, status, 0.2);
            }
        }
        metrics.count_tokens(of, Tokens { prompt: 3, completion: 5, ..Tokens::default() });
        metrics.count_tokens(of, Tokens { prompt: 3, reasoning: 5, ..Tokens::default() });
        metrics.observe_first_token(of, 0.1);
        metrics.observe_inter_token(of, 0.1);
        metrics.count_served(of);
        metrics.count_served(of);
        metrics.render()
    }

    #[test]
    fn what_is_looked_up_once_counts_as_what_is_looked_up_each_time() {
        let lines = |text: Vec<u8>| {
            let text = String::from_utf8(text).unwrap();
            let lines = text.lines().filter(|line| !line.contains("timestamp"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let known = lines(told(Some(&Series::default())));
        assert_eq!(known, lines(told(None)));
        let has = |line: &str| assert!(known.iter().any(|known| known == line), "{line}");
        has(
            r#"forebay_requests_total{endpoint="/v1/chat/completions",model="m",provider="p",status="200"} 2"#,
        );
        has(
            r#"forebay_requests_total{endpoint="/v1/embeddings",model="m",provider="p",status="200"} 1"#,
        );
        has(r#"forebay_tokens_total{model="m",provider="p",type="prompt"} 6"#);
        has(r#"forebay_upstream_attempts_total{outcome="ok",provider="p"} 2"#);
        assert!(!known.iter().any(|line| line.contains(r#"type="cached""#)));
    }
}
