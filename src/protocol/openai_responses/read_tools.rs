//! Tools, and which of them may or must be called.

use std::collections::{HashMap, HashSet};

use serde_json::value::RawValue;

use super::mistyped;
use crate::protocol::canonical::{Invalid, Losses, Tool, ToolChoice, ToolKind};
use crate::protocol::json::{Mistyped, Object};

/// The tools of a request.
#[derive(Debug, Default)]
pub struct Tools {
    pub offered: Vec<Tool>,
    /// By namespace, the names of those that have one, and of those that have none.
    names: HashMap<Option<String>, HashSet<String>>,
    /// Types of those that run at their provider, and cannot be offered anywhere else.
    hosted: Vec<String>,
}

impl Tools {
    /// Reads a list of tools; those that are known already are passed over.
    pub fn read(&mut self, list: &[&RawValue], losses: &mut Losses) -> Result<(), Invalid> {
        list.iter().try_for_each(|tool| self.read_tool(tool, None, losses))
    }

    fn read_tool(
        &mut self,
        json: &RawValue,
        namespace: Option<&str>,
        losses: &mut Losses,
    ) -> Result<(), Invalid> {
        let mut object = Object::parse(json.get(), "tools").map_err(mistyped(""))?;
        let kind = required(&mut object, "type")?;
        match kind.as_str() {
            "function" | "custom" => self.read_called(&kind, &mut object, namespace)?,
            "namespace" => return self.read_namespace(&mut object, losses),
            _ => {
                losses.drop_member(&format!("tools.{kind}"))?;
                self.hosted.push(kind);
                return Ok(());
            }
        }
        object.rest().try_for_each(|name| losses.drop_member(&format!("tools.{name}")))
    }

    /// A tool whose calls the client answers.
    fn read_called(
        &mut self,
        kind: &str,
        object: &mut Object,
        namespace: Option<&str>,
    ) -> Result<(), Invalid> {
        let at = mistyped("tools");
        let name = required(object, "name")?;
        let mut tool = Tool {
            name,
            namespace: namespace.map(str::to_owned),
            description: object.string("description").map_err(&at)?,
            kind: ToolKind::Function,
            schema: None,
            strict: None,
            grammar: None,
            cache: None,
        };
        if kind == "custom" {
            tool.kind = ToolKind::Custom;
            tool.grammar = object.take("format").filter(|it| !is_text(it)).map(RawValue::to_owned);
        } else {
            let schema = object.take("parameters");
            if schema.is_some_and(|schema| !schema.get().starts_with('{')) {
                return Err(at(Mistyped::new("parameters", "an object")));
            }
            tool.schema = schema.map(RawValue::to_owned);
            tool.strict = object.boolean("strict").map_err(&at)?;
        }
        if self.names.entry(tool.namespace.clone()).or_default().insert(tool.name.clone()) {
            self.offered.push(tool);
        }
        Ok(())
    }

    /// A group of tools. What it says of all of them is told with its first.
    fn read_namespace(&mut self, object: &mut Object, losses: &mut Losses) -> Result<(), Invalid> {
        let at = mistyped("tools");
        let name = required(object, "name")?;
        let about = object.string("description").map_err(&at)?;
        let tools = object.array("tools").map_err(&at)?.unwrap_or_default();
        let first = self.offered.len();
        for tool in tools {
            self.read_tool(tool, Some(&name), losses)?;
        }
        if let (Some(about), Some(tool)) = (about, self.offered.get_mut(first))
            && !about.is_empty()
            && about != name
        {
            let own = tool.description.take().unwrap_or_default();
            let both = format!("{own}\n\n{name}: {about}");
            tool.description = Some(both.trim_start().to_owned());
        }
        object.rest().try_for_each(|name| losses.drop_member(&format!("tools.{name}")))
    }

    /// Reads `tool_choice`, once all tools are known.
    pub fn read_choice(
        &self,
        json: &RawValue,
        losses: &mut Losses,
    ) -> Result<Option<ToolChoice>, Invalid> {
        if json.get().starts_with('"') {
            let mode: String = serde_json::from_str(json.get()).unwrap_or_default();
            return self.read_mode(&mode);
        }
        let mut object = Object::parse(json.get(), "tool_choice").map_err(mistyped(""))?;
        let at = mistyped("tool_choice");
        let kind = object.string("type").map_err(&at)?.unwrap_or_default();
        let choice = match kind.as_str() {
            "function" | "custom" => {
                let name = object.string("name").map_err(&at)?.unwrap_or_default();
                if !self.offered.iter().any(|tool| tool.name == name) {
                    let message = format!("`tool_choice` names `{name}`, which is not in `tools`");
                    return Err(Invalid::request("tool_choice", message));
                }
                Some(ToolChoice::Named(name))
            }
            "allowed_tools" => {
                let mode = object.string("mode").map_err(&at)?;
                let list = object.array("tools").map_err(&at)?.unwrap_or_default();
                Some(self.read_allowed(&list, mode.as_deref() == Some("required"), losses)?)
            }
            _ => return Err(runs_elsewhere(&kind)),
        };
        for name in object.rest() {
            losses.drop_member(&format!("tool_choice.{name}"))?;
        }
        Ok(choice)
    }

    fn read_mode(&self, mode: &str) -> Result<Option<ToolChoice>, Invalid> {
        match mode {
            "auto" => Ok((!self.offered.is_empty()).then_some(ToolChoice::Auto)),
            "none" => Ok((!self.offered.is_empty()).then_some(ToolChoice::None)),
            "required" if !self.offered.is_empty() => Ok(Some(ToolChoice::Required)),
            "required" => match self.hosted.first() {
                Some(hosted) => Err(runs_elsewhere(hosted)),
                None => Err(Invalid::request("tool_choice", "`tool_choice` requires `tools`")),
            },
            _ => {
                let message = "`tool_choice` must be auto, none, required, or an object";
                Err(Invalid::request("tool_choice", message))
            }
        }
    }

    fn read_allowed(
        &self,
        list: &[&RawValue],
        required_call: bool,
        losses: &mut Losses,
    ) -> Result<ToolChoice, Invalid> {
        let mut names = Vec::with_capacity(list.len());
        let mut groups: HashMap<String, Vec<&str>> = HashMap::new();
        for tool in &self.offered {
            if let Some(group) = &tool.namespace {
                groups.entry(group.clone()).or_default().push(&tool.name);
            }
        }
        for tool in list {
            let mut object =
                Object::parse(tool.get(), "tool_choice.tools").map_err(mistyped(""))?;
            let at = mistyped("tool_choice.tools");
            let kind = object.string("type").map_err(&at)?.unwrap_or_default();
            let name = object.string("name").map_err(&at)?.unwrap_or_default();
            match kind.as_str() {
                "function" | "custom" => names.push(name),
                // One that is named again allows nothing more.
                "namespace" => {
                    let in_it = groups.remove(&name).unwrap_or_default();
                    names.extend(in_it.into_iter().map(str::to_owned));
                }
                _ => losses.drop_member(&format!("tool_choice.tools.{kind}"))?,
            }
        }
        match names.is_empty() {
            false => Ok(ToolChoice::Among { names, required: required_call }),
            true if required_call => Err(runs_elsewhere("allowed_tools")),
            true => Ok(ToolChoice::None),
        }
    }
}

fn runs_elsewhere(kind: &str) -> Invalid {
    let why = format!("`{kind}` demands a tool that runs at its own provider");
    Invalid::Unsupported { param: "tool_choice".to_owned(), why }
}

fn required(object: &mut Object, name: &str) -> Result<String, Invalid> {
    let at = mistyped("tools");
    let text = object.string(name).map_err(&at)?.filter(|text| !text.is_empty());
    text.ok_or_else(|| {
        Invalid::request(format!("tools.{name}"), format!("`tools.{name}` is missing"))
    })
}

/// `{"type":"text"}`: any text.
fn is_text(format: &RawValue) -> bool {
    let kind = Object::parse(format.get(), "format").and_then(|mut it| it.string("type"));
    kind.is_ok_and(|kind| kind.as_deref() == Some("text"))
}
