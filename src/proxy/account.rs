//! What a request may cost, reserved before anything of it reaches an upstream; and what it did cost,
//! settled once, whatever has become of it.

use std::sync::Arc;

use super::Gateway;
use super::context::{Body, Context};
use super::refusal::Refusal;
use super::stream::Stage;
use crate::access::limits::{Claim, Now, Reservation, Standing, Subject, Used};
use crate::ledger::{self, UsageBook, UsedBy, estimate_prompt};
use crate::protocol::edit::{Bounds, Usage};
use crate::protocol::json::{Members, scan};
use crate::protocol::{Operation, Task};
use crate::routing::Leg;

const HOUR: i64 = 3_600_000;
/// Calls of which only the prompt is counted: how much their answers cost is not told in tokens.
const PROMPT_ONLY: [&str; 7] = [
    "/v1/responses/compact",
    "/v1/rerank",
    "/rerank",
    "/v1/score",
    "/score",
    "/classify",
    "/v1/moderations",
];

/// A request's account.
#[derive(Default)]
pub struct Account {
    reservation: Option<Reservation>,
    /// Where what is used is written down; absent until the request is let in.
    book: Option<Arc<UsageBook>>,
    /// Tokens of the prompt, as far as can be told without a tokenizer.
    prompt: u64,
    /// The longest an answer can be that is made later, in the background: its usage is never seen.
    unseen: u64,
    /// How the caller stands, for headers.
    pub standing: Option<Standing>,
}

/// What an answer took.
#[derive(Clone, Copy, Debug)]
pub struct Bill {
    pub usage: Usage,
    pub cost_nanos: u64,
    /// The upstream has not told all of it.
    pub estimated: bool,
}

/// Reserves the worst a request may come to, with the key, its user and the model; or refuses it.
pub fn open(ctx: &mut Context, gateway: &Gateway) -> Result<(), Refusal> {
    let subjects = subjects(ctx);
    if subjects.is_empty() {
        if let (Body::Json { bytes, .. }, true) = (&ctx.body, counts_tokens(ctx)) {
            // Nothing is refused by it, so a guess will do.
            ctx.account.prompt = bytes.len() as u64 / 4;
        }
        ctx.account.book = Some(Arc::clone(&gateway.usage));
        return Ok(());
    }
    let claim = claim(ctx)?;
    match gateway.registry.limits.reserve(&subjects, claim, Now::by_clock()) {
        Ok(reservation) => {
            ctx.account.standing = told(*reservation.standing());
            ctx.account.reservation = Some(reservation);
            ctx.account.book = Some(Arc::clone(&gateway.usage));
            Ok(())
        }
        Err(exceeded) => {
            ctx.account.standing = told(exceeded.standing);
            Err(Refusal::exceeded(&exceeded, &claim))
        }
    }
}

/// Settles the account with what was used, and writes that down. The second time there is nothing left
/// to settle.
///
/// `told`: what the upstream said of it.
pub fn settle(ctx: &mut Context, told: Option<Usage>) -> Option<Bill> {
    let account = &mut ctx.account;
    let (reservation, book) = (account.reservation.take(), account.book.take());
    let Some(usage) = book.as_ref().and_then(|_| used(ctx, told)) else {
        // No upstream has answered: what was reserved is given back.
        drop(reservation);
        return None;
    };
    if let Some(attempt) = &ctx.course.current {
        attempt.pick.in_flight.settle(usage.prompt.saturating_add(usage.completion));
    }
    let leg = ctx.course.current.as_ref().and_then(|attempt| attempt.leg.as_ref());
    let cost_nanos = leg.map_or(0, |leg| {
        let price = ctx.snapshot.prices.find(leg.upstream_model());
        price.cost_nanos(usage.prompt, usage.completion, usage.cached, usage.reasoning)
    });
    if let Some(reservation) = reservation {
        let tokens = usage.prompt.saturating_add(usage.completion);
        reservation.settle(Used { tokens, cost_nanos });
    }
    let estimated = told.unwrap_or_default() != usage;
    let bill = Some(Bill { usage, cost_nanos, estimated });
    let (Some(book), Some(principal)) = (book, &ctx.principal) else { return bill };
    let by = UsedBy {
        hour: Now::by_clock().0.div_euclid(HOUR),
        key: &principal.id,
        user: principal.owner(),
        model: ctx.model_label(),
        provider: ctx.provider_label(),
    };
    let Usage { prompt, completion, cached, reasoning } = usage;
    let used = ledger::Used { requests: 1, prompt, completion, cached, reasoning, cost_nanos };
    book.add(by, used);
    bill
}

fn subjects(ctx: &Context) -> Vec<Arc<Subject>> {
    let Some(principal) = &ctx.principal else { return Vec::new() };
    let user = principal.user().map(|user| user.subject());
    // Of the model that was asked for: one that stands in for it serves on its own terms.
    let leg = ctx.course.hops.first().and_then(|hop| hop.leg.as_ref());
    let model = leg.and_then(|leg| ctx.snapshot.subject(&leg.model.label));
    let all = [principal.subject(), user, model].into_iter().flatten();
    all.filter(|subject| !subject.is_unlimited()).cloned().collect()
}

/// Nothing limits anything: nothing to tell.
fn told(standing: Standing) -> Option<Standing> {
    (standing.requests.is_some() || standing.tokens.is_some()).then_some(standing)
}

fn claim(ctx: &mut Context) -> Result<Claim, Refusal> {
    let Body::Json { bytes, members } = &ctx.body else { return Ok(Claim::default()) };
    if !counts_tokens(ctx) {
        return Ok(Claim::default());
    }
    let prompt = estimate_prompt(bytes);
    let (asked, answers) = answers(ctx, bytes, members)?;
    let behind = members.boolean(bytes, "background")?.unwrap_or(false);
    let (mut tokens, mut cost_nanos, mut unseen) = (prompt, 0, 0);
    for leg in ctx.course.hops.iter().filter_map(|hop| hop.leg.as_ref()) {
        let price = ctx.snapshot.prices.find(leg.upstream_model());
        let extra = added(leg)?;
        let longest = longest(leg, asked.or(extra.longest), price.max_output);
        let completion = longest.saturating_mul(answers.max(extra.answers.unwrap_or(0)));
        tokens = tokens.max(prompt.saturating_add(completion));
        unseen = unseen.max(if behind { completion } else { 0 });
        cost_nanos = cost_nanos.max(price.cost_nanos(prompt, completion, 0, 0));
    }
    let asked = ctx.course.hops.first().and_then(|hop| hop.leg.as_ref());
    let quota_group = asked.and_then(|leg| ctx.snapshot.rules.group_of(&leg.asked));
    (ctx.account.prompt, ctx.account.unseen) = (prompt, unseen);
    Ok(Claim { tokens, cost_nanos, quota_group })
}

/// The longest that each answer may be as the request asks, and how many there are.
fn answers(ctx: &Context, bytes: &[u8], members: &Members) -> Result<(Option<u64>, u64), Refusal> {
    if !has_answer(ctx.asked.operation) {
        return Ok((Some(0), 1));
    }
    let bounds = Bounds::read(bytes, members)?;
    let each = bounds.answers.unwrap_or(1).max(1);
    Ok((bounds.longest, each.saturating_mul(prompts(members.raw(bytes, "prompt")))))
}

/// The tokens of all answers together that the request asks for; `None` when it leaves that open.
pub fn output_asked(ctx: &Context) -> Result<Option<u64>, Refusal> {
    let Body::Json { bytes, members } = &ctx.body else { return Ok(None) };
    let (longest, answers) = answers(ctx, bytes, members)?;
    Ok(longest.map(|longest| longest.saturating_mul(answers)))
}

/// What the configuration says where the caller leaves it open.
fn added(leg: &Leg) -> Result<Bounds, Refusal> {
    let extra = &leg.model.request.extra_body;
    if extra.is_empty() {
        return Ok(Bounds::default());
    }
    let Ok(extra) = serde_json::to_vec(extra) else { return Ok(Bounds::default()) };
    Ok(Bounds::read(&extra, &scan(&extra)?)?)
}

/// How many prompts a completion has: each is answered. A list of numbers is one.
fn prompts(prompt: Option<&[u8]>) -> u64 {
    let Some(list) = prompt.filter(|prompt| prompt.starts_with(b"[")) else { return 1 };
    let Ok(list) = serde_json::from_slice::<Vec<&serde_json::value::RawValue>>(list) else {
        return 1;
    };
    match list.first().map(|first| first.get().as_bytes().first()) {
        Some(Some(b'"' | b'[')) => list.len() as u64,
        _ => 1,
    }
}

/// The longest answer of a target: what was asked for, within what the configuration allows, which also
/// says it when nobody else has.
fn longest(leg: &Leg, asked: Option<u64>, most: u32) -> u64 {
    let cap = leg.model.request.max_tokens;
    match (asked, cap) {
        (Some(asked), Some(cap)) => asked.min(cap),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => u64::from(most),
    }
}

/// Whether what it asks for is counted in tokens.
pub fn counts_tokens(ctx: &Context) -> bool {
    let Some(call) = ctx.endpoint.and_then(|endpoint| endpoint.routed()) else { return false };
    match call.operation {
        Operation::Other => PROMPT_ONLY.contains(&call.label),
        operation => operation.task() != Some(Task::Count),
    }
}

fn has_answer(operation: Operation) -> bool {
    operation.task() == Some(Task::Generate)
}

/// What was used, when an upstream has answered: what it told, else what has been delivered.
fn used(ctx: &Context, told: Option<Usage>) -> Option<Usage> {
    let attempt = ctx.course.current.as_ref()?;
    if !attempt.answered {
        // Who leaves before the answer has had its prompt read.
        let read = ctx.outcome.client_gone && attempt.leg.is_some();
        return read.then(|| Usage { prompt: ctx.account.prompt, ..Usage::default() });
    }
    // A caller that left has had its part; a failure costs nothing.
    let status = ctx.outcome.status;
    let failed = (status >= 400 && status != super::finish::CLIENT_GONE)
        || matches!(ctx.stage, Stage::Failure { .. } | Stage::Unjudged { .. });
    if failed || attempt.leg.is_none() {
        return Some(Usage::default());
    }
    let told = told.unwrap_or_default();
    // Of a stream that is not over, only its beginning has been told.
    let partial = has_answer(ctx.asked.operation) && !ctx.stage.is_done();
    if told.prompt > 0 && (told.completion > 0 || !has_answer(ctx.asked.operation)) && !partial {
        return Some(told);
    }
    let spoken = has_answer(ctx.asked.operation) && (told.completion == 0 || partial);
    let delivered = ctx.stage.delivered().max(ctx.account.unseen);
    let completion = if spoken { delivered } else { 0 };
    Some(Usage {
        prompt: if told.prompt > 0 { told.prompt } else { ctx.account.prompt },
        completion: completion.max(told.completion),
        ..told
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_prompt_of_a_completion_is_answered() {
        for (prompt, count) in [
            (None, 1),
            (Some(r#""one""#), 1),
            (Some(r#"["one", "two", "three"]"#), 3),
            (Some("[1, 2, 3]"), 1),
            (Some("[[1, 2], [3]]"), 2),
            (Some("[]"), 1),
        ] {
            assert_eq!(prompts(prompt.map(str::as_bytes)), count, "{prompt:?}");
        }
    }
}
