//! Claims about the arithmetic, the shipped table, the estimate and the book.

use proptest::prelude::*;

use super::*;
use crate::config::{Config, PriceEntry, Source, load};
use crate::store::UsageDelta;

const SHIPPED: &str = include_str!("../../prices.yaml");

fn entries() -> Vec<PriceEntry> {
    PriceEntry::table(SHIPPED).expect("the shipped table can be read")
}

fn with(yaml: &str) -> Config {
    load(&Source { text: yaml.to_owned(), ..Source::default() }).expect("a good file").0
}

#[test]
fn every_row_of_the_shipped_table_can_be_reached() {
    let (entries, prices) = (entries(), Prices::shipped());
    assert!(entries.len() > 100);
    for entry in &entries {
        // A glob matches itself; a row before it that matches as well hides it for good.
        let found = prices.find(&entry.model);
        let own = Price {
            input: entry.input,
            output: entry.output,
            cached: entry.cached_input.unwrap_or(entry.input),
            reasoning: entry.reasoning.unwrap_or(entry.output),
            max_output: entry.max_output.expect("each row says it"),
        };
        assert_eq!(*found, own, "{}", entry.model);
    }
}

#[test]
fn models_have_the_price_of_their_provider() {
    let prices = Prices::shipped();
    let cases = [
        ("gpt-4o", 2_500_000, 10_000_000),
        ("gpt-4o-2024-08-06", 2_500_000, 10_000_000),
        ("gpt-4o-mini", 150_000, 600_000),
        ("gpt-4", 30_000_000, 60_000_000),
        ("o3", 2_000_000, 8_000_000),
        ("openai/gpt-5-mini", 250_000, 2_000_000),
        ("claude-sonnet-4-5-20250929", 3_000_000, 15_000_000),
        ("eu.anthropic.claude-haiku-4-5-20251001-v1:0", 1_000_000, 5_000_000),
        ("models/gemini-2.5-flash-lite", 100_000, 400_000),
        ("deepseek-chat", 280_000, 420_000),
        ("meta-llama/Llama-3.1-70B-Instruct", 0, 0),
        ("openai/gpt-oss-120b", 0, 0),
        ("", 0, 0),
    ];
    for (model, input, output) in cases {
        let price = prices.find(model);
        assert_eq!((price.input, price.output), (input, output), "{model}");
    }
    assert_eq!(prices.find("gpt-4o").cached, 1_250_000);
    assert_eq!(prices.find("gpt-4o").reasoning, 10_000_000);
}

#[test]
fn prices_of_the_configuration_go_first_and_the_first_match_wins() {
    let config = with(
        "\
prices:
  - { model: \"gpt-4o-mini*\", input: 0.000001, output: 1 }
  - { model: \"gpt-4o*\", input: 9, cached_input: 1, output: 9, reasoning: 3, max_output: 7 }
  - { model: \"gpt-4o-mini-x\", input: 5, output: 5 }
  - { model: \"house/*\", input: 2, output: 4 }
providers: [{ name: p, kind: mock }]
models:
  - { name: gpt-4o-mini, targets: [{ provider: p, model: house/one }, { provider: p }] }
",
    );
    let prices = Prices::compile(&config);
    let price = prices.find("gpt-4o-mini-x");
    // What the file leaves open comes from the shipped row.
    assert_eq!((price.input, price.output, price.max_output), (1, 1_000_000, 16_384));
    let own = Price {
        input: 9_000_000,
        cached: 1_000_000,
        output: 9_000_000,
        reasoning: 3_000_000,
        max_output: 7,
    };
    assert_eq!(*prices.find("gpt-4o"), own);
    assert_eq!(prices.find("house/gpt-4o").input, 2_000_000);
    assert_eq!(prices.find("house/one").output, 4_000_000);
    assert_eq!(prices.find("gpt-4o-mini").input, 1);
    assert_eq!(prices.find("gpt-5").input, 1_250_000);
}

#[test]
fn a_cost_is_rounded_up_once() {
    let price = Price { input: 1, output: 1, cached: 1, reasoning: 1, max_output: 1 };
    assert_eq!(price.cost_nanos(0, 0, 0, 0), 0);
    assert_eq!(price.cost_nanos(1, 0, 0, 0), 1);
    assert_eq!(price.cost_nanos(500, 500, 0, 0), 1);
    assert_eq!(price.cost_nanos(500, 501, 0, 0), 2);
    let gpt = *Prices::shipped().find("gpt-4o");
    // 1,000 tokens at 2.50 and 200 at 10 a million: 0.0045 dollars.
    assert_eq!(gpt.cost_nanos(1_000, 200, 0, 0), 4_500_000);
    assert_eq!(gpt.cost_nanos(1_000, 200, 1_000, 0), 3_250_000);
}

#[test]
fn what_cannot_be_counted_is_the_most_there_is() {
    let price = Price { input: u64::MAX, output: 1, cached: 0, reasoning: 0, max_output: 1 };
    assert_eq!(price.cost_nanos(u64::MAX, u64::MAX, 0, 0), u64::MAX);
}

prop_compose! {
    fn any_price()(
        input in 0..100_000_000_u64, output in 0..100_000_000_u64,
        cached in 0..100_000_000_u64, reasoning in 0..100_000_000_u64,
    ) -> Price {
        let (cached, reasoning) = (cached.min(input), reasoning.min(output));
        Price { input, output, cached, reasoning, max_output: 1 }
    }
}

proptest! {
    #[test]
    fn a_cost_is_exact_to_a_nanodollar(
        price in any_price(), prompt in 0..1_000_000_u64, completion in 0..1_000_000_u64,
        cached in 0..2_000_000_u64, reasoning in 0..2_000_000_u64,
    ) {
        let (c, r) = (u128::from(cached.min(prompt)), u128::from(reasoning.min(completion)));
        let exact = (u128::from(prompt) - c) * u128::from(price.input)
            + c * u128::from(price.cached)
            + (u128::from(completion) - r) * u128::from(price.output)
            + r * u128::from(price.reasoning);
        let cost = u128::from(price.cost_nanos(prompt, completion, cached, reasoning));
        prop_assert!(cost * 1_000 >= exact && cost * 1_000 < exact + 1_000);
    }

    #[test]
    fn more_tokens_never_cost_less(
        price in any_price(), prompt in 0..1_000_000_u64, completion in 0..1_000_000_u64,
        more in 0..1_000_u64,
    ) {
        let cost = price.cost_nanos(prompt, completion, 0, 0);
        prop_assert!(price.cost_nanos(prompt + more, completion, 0, 0) >= cost);
        prop_assert!(price.cost_nanos(prompt, completion + more, 0, 0) >= cost);
        prop_assert!(price.cost_nanos(prompt, completion, prompt, completion) <= cost);
    }

    #[test]
    fn a_sum_of_parts_is_the_whole_but_for_rounding(
        price in any_price(), parts in prop::collection::vec((0..10_000_u64, 0..10_000_u64), 1..20),
    ) {
        let cost = |(prompt, completion): (u64, u64)| price.cost_nanos(prompt, completion, 0, 0);
        let whole = parts.iter().fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
        let sum: u64 = parts.iter().copied().map(cost).sum();
        prop_assert!(sum >= cost(whole) && sum < cost(whole) + parts.len() as u64);
    }

    #[test]
    fn an_estimate_reads_any_bytes(body in prop::collection::vec(any::<u8>(), 0..20_000)) {
        let tokens = estimate_prompt(&body);
        prop_assert!(tokens >= 1 && tokens <= body.len() as u64 + 1 + 1_500 * (body.len() as u64 / 6));
    }

    #[test]
    fn letters_outside_ascii_are_a_token_each(text in "[a-z一-龥é😀]{0,9000}") {
        let ascii = text.bytes().filter(u8::is_ascii).count() as u64;
        let others = text.chars().filter(|letter| !letter.is_ascii()).count() as u64;
        prop_assert_eq!(estimate_prompt(text.as_bytes()), (ascii.div_ceil(4) + others).max(1));
    }
}

#[test]
fn an_attachment_counts_the_same_however_long() {
    let base64 = |length| "iVBORw0KGgo+/".repeat(length);
    let count = |body: String| estimate_prompt(body.as_bytes());
    for (before, after) in [
        (r#"{"image_url":{"url":"data:image/png;base64,"#, r#""}}"#),
        (r#"{"image_url":{"url":"data:image\/png;base64,"#, r#""}}"#),
        (r#"{"source":{"type":"base64","data":""#, r#""}}"#),
        (r#"{"input_audio":{"data" : ""#, r#"","format":"wav"}}"#),
    ] {
        let long = |length| count(format!("{before}{}{after}", base64(length)));
        assert_eq!(long(1_000), long(100_000), "{before}");
        assert!((1_500..1_550).contains(&long(1_000)), "{before}");
        let two = format!("[{before}{0}{after},{before}{0}{after}]", base64(1_000));
        assert!((3_000..3_100).contains(&count(two)), "{before}");
    }
}

#[test]
fn prose_behind_the_head_of_an_attachment_is_text() {
    let prose = "a word ".repeat(10_000);
    let body = format!(r#"{{"content":"data:x;base64,{prose}"}}"#);
    assert!(estimate_prompt(body.as_bytes()) > 15_000);
    let body = format!(r#"{{"content":"data:x;base64,{}"}}"#, "水".repeat(10_000));
    assert!(estimate_prompt(body.as_bytes()) > 9_000);
}

#[test]
fn what_only_looks_like_an_attachment_is_text() {
    let words = "some words of a long prompt ".repeat(200);
    for before in
        [r#"{"data":""#, r#"{"content":"data: "#, r#"{"content":"data:"#, r#"{"data":{"a":""#]
    {
        let body = format!("{before}{words}\"}}");
        let tokens = estimate_prompt(body.as_bytes());
        assert_eq!(tokens, (body.len() as u64).div_ceil(4), "{before}");
    }
    for odd in ["\"data", "\"data\"", "\"data\":", "\"data:", "\"data:a;base64,", "\"data\":\""] {
        assert!(estimate_prompt(odd.as_bytes()) < 10, "{odd}");
    }
    assert_eq!(estimate_prompt(b""), 1);
}

fn by(key: &'static str, model: &'static str) -> UsedBy<'static> {
    UsedBy { hour: 7, key, user: "u", model, provider: "p" }
}

fn one() -> Used {
    Used { requests: 1, prompt: 10, completion: 5, cached: 2, reasoning: 1, cost_nanos: 100 }
}

#[test]
fn what_was_used_is_summed_and_taken_once() {
    let book = UsageBook::new();
    assert!(book.is_empty());
    book.add(by("a", "m"), one());
    book.add(by("a", "m"), one());
    book.add(by("b", "m"), one());
    let mut taken = book.take();
    assert!(book.is_empty() && book.take().is_empty());
    taken.sort_by(|a, b| a.key.cmp(&b.key));
    let sums: Vec<_> = taken.iter().map(|sum| (&*sum.key, sum.requests, sum.cost_nanos)).collect();
    assert_eq!(sums, [("a", 2, 200), ("b", 1, 100)]);

    book.add(by("a", "m"), one());
    book.give_back(taken);
    let total: u64 = book.take().iter().map(|sum| sum.prompt).sum();
    assert_eq!(total, 40);
}

#[test]
fn the_book_is_bounded_and_loses_nothing() {
    let book = UsageBook::new();
    let keys: Vec<String> = (0..50_000).map(|n| format!("k{n}")).collect();
    for key in &keys {
        book.add(UsedBy { hour: 1, key, user: "", model: "m", provider: "p" }, one());
    }
    let taken: Vec<UsageDelta> = book.take();
    assert!(taken.len() <= 20_001, "{}", taken.len());
    assert_eq!(taken.iter().map(|sum| sum.requests).sum::<u64>(), 50_000);
    assert_eq!(taken.iter().filter(|sum| sum.model == "m").count(), 10_000);
    assert!(taken.iter().any(|sum| sum.key == "other" && sum.requests == 30_000));
}

#[test]
fn many_may_write_at_once() {
    let book = UsageBook::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1_000).for_each(|_| book.add(by("a", "m"), one())));
        }
    });
    assert_eq!(book.take().iter().map(|sum| sum.requests).collect::<Vec<_>>(), [4_000]);
}
