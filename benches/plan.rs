//! What it costs to find a model and to plan a request's way through its targets.

#![expect(clippy::expect_used, clippy::panic, reason = "a benchmark that cannot begin ends")]
use std::fmt::Write;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use forebay::config::{Source, load};
use forebay::routing::Models;

/// A configuration with `count` models of three targets and a fallback each, and a few rules.
fn models(count: usize) -> Models {
    let mut text = String::from("anonymous: true\nproviders:\n");
    for name in ["a", "b", "c"] {
        writeln!(text, "  - {{ name: {name}, kind: vllm, base_url: \"http://127.0.0.1:1\" }}")
            .expect("a String takes everything");
    }
    text.push_str("models:\n");
    for index in 0..count {
        writeln!(
            text,
            "  - {{ name: model-{index}, fallback: [model-{}], targets: [\
             {{ provider: a, weight: 5 }}, {{ provider: b, weight: 3 }}, {{ provider: c, weight: 0 }}] }}",
            (index + 1).min(count - 1),
        )
        .expect("a String takes everything");
    }
    text = text.replace(&format!("fallback: [model-{}], targets", count - 1), "targets");
    text.push_str("  - { match: { prefix: [\"gpt-\", \"o\"] }, targets: [{ provider: a }] }\n");
    text.push_str(
        "  - { match: { regex: \"^claude-.*-v[0-9]+$\" }, targets: [{ provider: b }] }\n",
    );
    let source = Source { text, ..Source::default() };
    let (config, _) = load(&source).unwrap_or_else(|problems| panic!("{problems:?}"));
    Models::new(&config).expect("every target names a provider")
}

fn plan(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan");
    let models = models(100);
    for name in ["model-98", "gpt-5-mini", "claude-opus-v4"] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let (model, asked) = models.find(black_box(name)).expect("known");
                black_box(models.plan(model, asked))
            });
        });
    }
    group.bench_function("unknown", |bencher| {
        bencher.iter(|| models.find(black_box("nothing")).is_none());
    });
}

criterion_group!(benches, plan);
criterion_main!(benches);
