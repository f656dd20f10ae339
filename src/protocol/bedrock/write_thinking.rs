//! How hard the model shall think, in the words its family has for it. They stand among
//! `additionalModelRequestFields`, because Converse has none of its own.

use serde_json::{Value, json};

use crate::protocol::canonical::{
    Block, Effort, Fate, Field, Invalid, Losses, Reasoning, Request, Rules, ThinkingRule, Turn,
};

/// What Claude thinks at least, in tokens, if it thinks.
const LEAST_BUDGET: u64 = 1024;

/// What is said of thinking.
#[derive(Debug, Default)]
pub struct Thinking {
    /// Members of `additionalModelRequestFields`.
    pub fields: Vec<(&'static str, Value)>,
    /// It thinks, and `temperature`, `top_p` and `top_k` must be left alone.
    pub binds_sampling: bool,
}

/// What is asked, and what bears on it.
struct Asked<'a> {
    reasoning: &'a Reasoning,
    rules: &'a Rules,
    /// Not to think at all.
    off: bool,
    effort: Option<Effort>,
    /// The effort as far as the model knows it.
    known: Option<Effort>,
    /// The most tokens of the answer.
    most: Option<u64>,
    /// A call of a tool is demanded.
    forced: bool,
}

/// Says what is asked of reasoning. `forced`: a call of a tool is demanded, which Claude does not make
/// while it thinks.
pub fn write(
    request: &Request,
    turns: &[Turn],
    rules: &Rules,
    forced: bool,
    losses: &mut Losses,
) -> Result<Thinking, Invalid> {
    let reasoning = &request.reasoning;
    let effort = reasoning.as_effort();
    if effort.is_none() && reasoning.enabled.is_none() {
        return Ok(Thinking::default());
    }
    let off = effort == Some(Effort::None);
    let known = effort.filter(|_| !off).and_then(|effort| effort.at_most(rules.efforts));
    let asked = Asked { reasoning, rules, off, effort, known, most: request.max_output, forced };
    let said = match rules.thinking {
        ThinkingRule::Budget => by_budget(&asked, turns),
        ThinkingRule::Adaptive | ThinkingRule::Always => by_effort(&asked),
        ThinkingRule::Nova => Some(of_nova(&asked)),
        ThinkingRule::Effort => of_gpt(&asked),
        // It does not think anyway.
        ThinkingRule::Never | ThinkingRule::Level => off.then(Thinking::default),
    };
    if said.is_none() {
        let by_effort = reasoning.effort.is_some() || reasoning.budget.is_none();
        let field = if by_effort { Field::Effort } else { Field::ThinkingBudget };
        losses.lose(field, Fate::Dropped)?;
    }
    Ok(said.unwrap_or_default())
}

/// Claude until 4.5: a number of tokens, for which the answer must have room.
fn by_budget(asked: &Asked, turns: &[Turn]) -> Option<Thinking> {
    if asked.off {
        let fields = vec![("thinking", json!({ "type": "disabled" }))];
        return Some(Thinking { fields, binds_sampling: false });
    }
    let room = asked.most.map_or(u64::MAX, |most| most.saturating_sub(1));
    if room < LEAST_BUDGET || asked.forced || !may_think(turns) {
        return None;
    }
    let effort = asked.effort.unwrap_or(Effort::High).anthropic_budget();
    let budget = match (asked.reasoning.budget, asked.most) {
        (Some(budget), _) => budget.min(room),
        // Of what the client bounded without a thought of budgets, half is for the answer.
        (None, Some(most)) => effort.min(most / 2),
        (None, None) => effort,
    };
    let budget = budget.max(LEAST_BUDGET);
    let fields = vec![("thinking", json!({ "type": "enabled", "budget_tokens": budget }))];
    Some(Thinking { fields, binds_sampling: true })
}

/// Between a call and its answer Claude goes on thinking only from the reasoning it began with.
fn may_think(turns: &[Turn]) -> bool {
    let [.., asked, answered] = turns else { return true };
    let results = answered.blocks.iter().any(|block| matches!(block, Block::ToolResult(_)));
    let began = asked.blocks.first();
    !results || matches!(began, Some(Block::Thinking { .. } | Block::RedactedThinking(_)))
}

/// Claude from 4.6 on: an effort. Without thinking it bears on the answer's length all the same.
fn by_effort(asked: &Asked) -> Option<Thinking> {
    let Asked { reasoning, rules, off, forced, .. } = *asked;
    let always = rules.thinking == ThinkingRule::Always;
    if off {
        let fields = vec![("thinking", json!({ "type": "disabled" }))];
        return (!always).then_some(Thinking { fields, binds_sampling: false });
    }
    let mut fields = Vec::new();
    let binds_sampling = always || !forced;
    if binds_sampling {
        // From 4.7 on it keeps what it thinks to itself unless it is asked to show it.
        let shows = !rules.sampling && reasoning.shown != Some(false);
        fields.push(if shows {
            ("thinking", json!({ "type": "adaptive", "display": "summarized" }))
        } else {
            ("thinking", json!({ "type": "adaptive" }))
        });
    }
    if let Some(effort) = asked.known {
        fields.push(("output_config", json!({ "effort": effort.as_str() })));
    }
    (!fields.is_empty()).then_some(Thinking { fields, binds_sampling })
}

/// Nova 2 thinks its hardest only where no bound is set on its answer; the bound is what counts more.
/// <https://docs.aws.amazon.com/nova/latest/nova2-userguide/extended-thinking.html>
fn of_nova(asked: &Asked) -> Thinking {
    if asked.off {
        let fields = vec![("reasoningConfig", json!({ "type": "disabled" }))];
        return Thinking { fields, binds_sampling: false };
    }
    let most = if asked.most.is_some() { Effort::Medium } else { Effort::High };
    let effort = asked.known.unwrap_or(Effort::Medium).min(most);
    let config = json!({ "type": "enabled", "maxReasoningEffort": effort.as_str() });
    Thinking { fields: vec![("reasoningConfig", config)], binds_sampling: effort == Effort::High }
}

/// gpt-oss cannot but think; its lowest effort is the nearest to none.
fn of_gpt(asked: &Asked) -> Option<Thinking> {
    let lowest = asked.rules.efforts.iter().min().copied().filter(|_| asked.off);
    let effort = asked.known.or(lowest)?;
    let fields = vec![("reasoning_effort", json!(effort.as_str()))];
    Some(Thinking { fields, binds_sampling: false })
}
