//! How a model is told to think: by a budget, by an effort, or not at all.

use serde::Serialize;

use crate::protocol::canonical::{
    Effort, Fate, Field, Invalid, Losses, Request, Rules, ThinkingRule,
};

/// The least budget that Anthropic takes.
const LEAST_BUDGET: u64 = 1024;

/// What is left for the answer where the client set no bound, beside the budget.
const LEFT_FOR_ANSWER: u64 = 4096;

/// `thinking` in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Thinking {
    Adaptive { display: &'static str },
    Enabled { budget_tokens: u64 },
    Disabled,
}

/// What a request says about thinking, in the words its model takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decided {
    pub thinking: Option<Thinking>,
    pub effort: Option<&'static str>,
}

impl Decided {
    /// The model is told to think.
    pub fn is_on(&self) -> bool {
        matches!(self.thinking, Some(Thinking::Adaptive { .. } | Thinking::Enabled { .. }))
    }
}

/// Decides what to send.
///
/// `max_tokens` is what the request will say. `forbids_budget`: something else of the request that
/// Anthropic refuses together with a budget, such as a tool that must be called; the budget gives way.
pub fn decide(
    request: &Request,
    rules: &Rules,
    max_tokens: u64,
    forbids_budget: bool,
    losses: &mut Losses,
) -> Result<Decided, Invalid> {
    let asked = request.reasoning;
    let wanted = asked.as_effort();
    let off = wanted == Some(Effort::None);
    let on = !off && (asked.enabled == Some(true) || wanted.is_some());
    if !on && !off {
        return Ok(Decided::default());
    }
    let said = if asked.budget.is_some() { Field::ThinkingBudget } else { Field::Effort };
    match (rules.thinking, on) {
        (ThinkingRule::Never, true) | (ThinkingRule::Always, false) => {
            losses.lose(said, Fate::Dropped)?;
            Ok(Decided::default())
        }
        (ThinkingRule::Never, false) => Ok(Decided::default()),
        (_, false) => Ok(Decided { thinking: Some(Thinking::Disabled), effort: None }),
        (ThinkingRule::Adaptive | ThinkingRule::Always, true) => {
            let display = if asked.shown == Some(false) { "omitted" } else { "summarized" };
            let thinking = Some(Thinking::Adaptive { display });
            Ok(Decided { thinking, effort: known(wanted, rules) })
        }
        (_, true) => {
            let budget = if forbids_budget { None } else { budget(request, max_tokens) };
            let effort = known(asked.effort, rules);
            if budget.is_none() && effort.is_none() {
                losses.lose(said, Fate::Dropped)?;
            }
            let thinking = budget.map(|budget_tokens| Thinking::Enabled { budget_tokens });
            Ok(Decided { thinking, effort })
        }
    }
}

/// The nearest effort that the model knows.
fn known(effort: Option<Effort>, rules: &Rules) -> Option<&'static str> {
    effort.and_then(|effort| effort.at_most(rules.efforts)).map(Effort::as_str)
}

/// A budget that leaves something of `max_tokens`; `None` where that cannot be.
fn budget(request: &Request, max_tokens: u64) -> Option<u64> {
    let asked = request.reasoning;
    let effort = asked.effort.unwrap_or(Effort::High).anthropic_budget();
    let (wanted, most) = match (asked.budget, request.max_output) {
        (Some(budget), Some(_)) => (budget, max_tokens.saturating_sub(1)),
        // Of what the client bounded without a thought of budgets, half is for the answer.
        (None, Some(_)) => (effort, (max_tokens / 2).max(LEAST_BUDGET)),
        (budget, None) => (budget.unwrap_or(effort), max_tokens.saturating_sub(LEFT_FOR_ANSWER)),
    };
    (max_tokens > LEAST_BUDGET).then(|| wanted.min(most).max(LEAST_BUDGET))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Dialect, Kind, Translation};
    use crate::protocol::canonical::Reasoning;

    fn decided(model: &str, reasoning: Reasoning, max_output: Option<u64>) -> (Decided, usize) {
        let rules = Rules::of(Dialect::Anthropic, Kind::Anthropic, model);
        let request = Request { max_output, reasoning, ..Request::default() };
        let mut losses = Losses::new(Dialect::OpenaiChat, Translation::Lenient);
        let max_tokens = max_output.unwrap_or(rules.max_output);
        let decided = decide(&request, &rules, max_tokens, false, &mut losses).unwrap();
        (decided, losses.dropped().len())
    }

    fn effort(effort: Effort) -> Reasoning {
        Reasoning { effort: Some(effort), ..Reasoning::default() }
    }

    #[test]
    fn nothing_said_is_nothing_sent() {
        for model in ["claude-opus-4-5", "claude-opus-4-6", "claude-fable-5", "claude-3-5-haiku"] {
            assert_eq!(decided(model, Reasoning::default(), None), (Decided::default(), 0));
        }
    }

    #[test]
    fn an_effort_becomes_a_budget_that_leaves_room_for_the_answer() {
        let enabled = |budget_tokens| Some(Thinking::Enabled { budget_tokens });
        for (max_output, wanted) in [
            (None, enabled(16_384)),
            (Some(20_000), enabled(10_000)),
            (Some(1500), enabled(1024)),
            (Some(1024), None),
        ] {
            let (decided, lost) = decided("claude-sonnet-4-5", effort(Effort::High), max_output);
            assert_eq!(decided, Decided { thinking: wanted, effort: None });
            assert_eq!(lost, usize::from(wanted.is_none()));
        }
    }

    #[test]
    fn a_budget_stays_as_it_is_as_far_as_it_is_below_the_bound() {
        let budget = |tokens| Reasoning { budget: Some(tokens), ..Reasoning::default() };
        let (sent, _) = decided("claude-sonnet-4-5", budget(5000), Some(6000));
        assert_eq!(sent.thinking, Some(Thinking::Enabled { budget_tokens: 5000 }));
        let (sent, _) = decided("claude-sonnet-4-5", budget(9000), Some(6000));
        assert_eq!(sent.thinking, Some(Thinking::Enabled { budget_tokens: 5999 }));
    }

    #[test]
    fn newer_models_are_told_an_effort_they_know() {
        let summarized = Some(Thinking::Adaptive { display: "summarized" });
        for (model, asked, sent) in [
            ("claude-sonnet-4-6", Effort::Max, "high"),
            ("claude-opus-4-6", Effort::Max, "max"),
            ("claude-opus-4-7", Effort::Minimal, "low"),
            ("claude-fable-5", Effort::Medium, "medium"),
        ] {
            let wanted = Decided { thinking: summarized, effort: Some(sent) };
            assert_eq!(decided(model, effort(asked), None), (wanted, 0), "{model}");
        }
        let budget = Reasoning { budget: Some(2000), shown: Some(false), ..Reasoning::default() };
        let thinking = Some(Thinking::Adaptive { display: "omitted" });
        let wanted = Decided { thinking, effort: Some("low") };
        assert_eq!(decided("claude-opus-4-7", budget, None), (wanted, 0));
    }

    #[test]
    fn off_is_said_where_it_can_be() {
        let off = Decided { thinking: Some(Thinking::Disabled), effort: None };
        assert_eq!(decided("claude-opus-4-6", effort(Effort::None), None), (off, 0));
        assert_eq!(decided("claude-opus-4-5", effort(Effort::None), None), (off, 0));
        assert_eq!(decided("claude-fable-5", effort(Effort::None), None), (Decided::default(), 1));
        assert_eq!(
            decided("claude-3-5-haiku", effort(Effort::None), None),
            (Decided::default(), 0)
        );
    }
}
