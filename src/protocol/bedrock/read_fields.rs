//! `additionalModelRequestFields`: a model's own parameters, beside those of Converse.

use super::read_content::{mistyped, name_rest};
use crate::protocol::canonical::{Effort, Format, Invalid, Losses, Request, Schema};
use crate::protocol::json::{Mistyped, Object};

const AT: &str = "additionalModelRequestFields";

/// Reads what Claude, Nova and gpt-oss take there; the rest is named.
pub fn read(mut fields: Object, request: &mut Request, losses: &mut Losses) -> Result<(), Invalid> {
    let wrong = |it| mistyped(AT, it);
    if let Some(thinking) = fields.object("thinking").map_err(wrong)? {
        self::thinking(thinking, request, losses)?;
    }
    if let Some(output) = fields.object("output_config").map_err(wrong)? {
        self::output(output, request, losses)?;
    }
    if let Some(choice) = fields.object("tool_choice").map_err(wrong)? {
        self::choice(choice, request, losses)?;
    }
    if let Some(mut reasoning) = fields.object("reasoningConfig").map_err(wrong)? {
        let at = format!("{AT}.reasoningConfig");
        let kind = reasoning.string("type").map_err(|it| mistyped(&at, it))?;
        request.reasoning.enabled = kind.map(|kind| kind == "enabled");
        request.reasoning.effort = effort(&mut reasoning, "maxReasoningEffort", &at)?;
        name_rest(&reasoning, &at, losses)?;
    }
    if let Some(effort) = effort(&mut fields, "reasoning_effort", AT)? {
        request.reasoning.effort = Some(effort);
    }
    if let Some(mut inference) = fields.object("inferenceConfig").map_err(wrong)? {
        let at = format!("{AT}.inferenceConfig");
        request.top_k = inference.unsigned("topK").map_err(|it| mistyped(&at, it))?;
        name_rest(&inference, &at, losses)?;
    }
    request.top_k = fields.unsigned("top_k").map_err(wrong)?.or(request.top_k);
    name_rest(&fields, AT, losses)
}

fn effort(object: &mut Object, name: &str, at: &str) -> Result<Option<Effort>, Invalid> {
    let Some(word) = object.string(name).map_err(|it| mistyped(at, it))? else { return Ok(None) };
    let unknown = || mistyped(at, Mistyped::new(name, "an effort, such as `low` or `high`"));
    Effort::parse(&word).map(Some).ok_or_else(unknown)
}

/// Claude's `thinking`.
fn thinking(
    mut thinking: Object,
    request: &mut Request,
    losses: &mut Losses,
) -> Result<(), Invalid> {
    let at = format!("{AT}.thinking");
    let wrong = |it| mistyped(&at, it);
    let reasoning = &mut request.reasoning;
    let kind = thinking.string("type").map_err(wrong)?;
    let by_budget = kind.as_deref() == Some("enabled");
    reasoning.enabled = kind.map(|kind| kind != "disabled");
    reasoning.budget = thinking.unsigned("budget_tokens").map_err(wrong)?;
    let display = thinking.string("display").map_err(wrong)?;
    let shown = display.map(|display| display != "omitted");
    // Who turns thinking on by a budget reads it, unless it says otherwise.
    reasoning.shown = shown.or(by_budget.then_some(true));
    name_rest(&thinking, &at, losses)
}

/// Claude's `output_config`.
fn output(mut output: Object, request: &mut Request, losses: &mut Losses) -> Result<(), Invalid> {
    let at = format!("{AT}.output_config");
    let wrong = |it| mistyped(&at, it);
    request.reasoning.effort = effort(&mut output, "effort", &at)?;
    if let Some(mut format) = output.object("format").map_err(wrong)? {
        // There is one type of it.
        format.take("type");
        if let Some(schema) = format.take("schema") {
            let (name, schema) = ("output".to_owned(), schema.to_owned());
            let schema = Schema { name, description: None, schema, strict: None };
            request.format = Format::JsonSchema(schema);
        }
        name_rest(&format, &format!("{at}.format"), losses)?;
    }
    name_rest(&output, &at, losses)
}

/// Claude's `tool_choice`, which says more than Converse's.
fn choice(mut choice: Object, request: &mut Request, losses: &mut Losses) -> Result<(), Invalid> {
    let at = format!("{AT}.tool_choice");
    let wrong = |it| mistyped(&at, it);
    let one = choice.boolean("disable_parallel_tool_use").map_err(wrong)?;
    request.parallel_tools = one.map(|one| !one);
    let kind = choice.string("type").map_err(wrong)?;
    if kind.is_some_and(|kind| kind != "auto") {
        losses.drop_member(&format!("{at}.type"))?;
    }
    name_rest(&choice, &at, losses)
}
