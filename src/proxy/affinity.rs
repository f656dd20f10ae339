//! What a pool may choose a replica by, as it stands in a request.

use http::HeaderMap;

use super::context::{Body, Context, Hop};
use crate::balance::{Prompt, Request, session_of};
use crate::protocol::{Operation, Task};
use crate::routing::Leg;

/// Headers in which clients are known to name the session a request belongs to.
const SESSION_HEADERS: [&str; 3] = ["x-session-id", "x-claude-code-session-id", "session_id"];
/// … and members of a body.
const SESSION_MEMBERS: [&str; 2] = ["prompt_cache_key", "user"];
/// Where the dialects have what a chat template lays out first, second and last.
const TOOLS: [&str; 3] = ["tools", "functions", "toolConfig"];
const SYSTEM: [&str; 4] = ["system", "instructions", "systemInstruction", "system_instruction"];
const TURNS: [&str; 4] = ["messages", "input", "contents", "prompt"];
/// Members of a chat, and of a completion, that make its prompt what it is for vLLM's `/tokenize`.
const CHAT_TOKENS: [&str; 9] = [
    "messages",
    "tools",
    "add_generation_prompt",
    "continue_final_message",
    "add_special_tokens",
    "chat_template",
    "chat_template_kwargs",
    "mm_processor_kwargs",
    "documents",
];
const TEXT_TOKENS: [&str; 2] = ["prompt", "add_special_tokens"];
/// Bytes that a token is taken for.
const TOKEN: usize = 4;

/// A request, at one of its targets.
pub struct Asking<'c> {
    ctx: &'c Context,
    hop: &'c Hop,
}

/// Notes the session a request belongs to, for those of its targets that choose by it: later the
/// request's head is out of reach.
pub fn note_sessions(ctx: &mut Context, headers: &HeaderMap) {
    if !ctx.course.hops.iter().any(|hop| hop.upstream.pool.wants_sessions()) {
        return;
    }
    let of = |hop: &Hop| session(ctx, headers, hop.upstream.pool.session_header());
    ctx.course.sessions = ctx.course.hops.iter().map(of).collect();
}

fn session(ctx: &Context, headers: &HeaderMap, configured: Option<&str>) -> Option<u64> {
    let named = configured.into_iter().chain(SESSION_HEADERS);
    let header = named.filter_map(|name| headers.get(name)).find(|value| !value.is_empty());
    if let Some(value) = header {
        return Some(session_of(value.as_bytes()));
    }
    let Body::Json { bytes, members } = &ctx.body else { return None };
    let member = |name: &&str| members.string(bytes, name).ok().flatten();
    let mut named = SESSION_MEMBERS.iter().filter_map(member).filter(|name| !name.is_empty());
    named.next().map(|name| session_of(name.as_bytes()))
}

impl<'c> Asking<'c> {
    pub fn new(ctx: &'c Context, hop: &'c Hop) -> Self {
        Self { ctx, hop }
    }
}

impl Request for Asking<'_> {
    fn tokens(&self) -> u64 {
        let Body::Json { bytes, .. } = &self.ctx.body else { return 0 };
        u64::try_from(bytes.len() / TOKEN).unwrap_or(u64::MAX)
    }

    fn model(&self) -> Option<&str> {
        self.hop.leg.as_ref().map(Leg::upstream_model)
    }

    fn session(&self) -> Option<u64> {
        self.ctx.course.sessions.get(self.ctx.course.position).copied().flatten()
    }

    fn prompt(&self) -> Option<Prompt<'_>> {
        let Body::Json { bytes, members } = &self.ctx.body else { return None };
        if self.ctx.asked.operation.task() != Some(Task::Generate) {
            return None;
        }
        let raw = |names: &[&str]| names.iter().find_map(|name| members.raw(bytes, name));
        let turns = raw(&TURNS)?;
        // The next turn goes on where the list or the text ends.
        let turns = turns.split_last().map_or(turns, |(_, open)| open);
        Some(Prompt {
            model: self.hop.leg.as_ref().map_or("", Leg::upstream_model),
            salt: members.raw(bytes, "cache_salt").unwrap_or_default(),
            parts: [raw(&TOOLS).unwrap_or_default(), raw(&SYSTEM).unwrap_or_default(), turns],
        })
    }

    fn tokens_question(&self, most: usize) -> Option<Vec<u8>> {
        let Body::Json { bytes, members } = &self.ctx.body else { return None };
        let names: &[&str] = match self.ctx.asked.operation {
            Operation::ChatCompletions => &CHAT_TOKENS,
            Operation::Completions => &TEXT_TOKENS,
            _ => return None,
        };
        let read = members.raw(bytes, names.first()?)?;
        // Lists of prompts are none, and what a server would have to fetch or to hear is left alone.
        let foreign = |mark: &[u8]| memchr::memmem::find(read, mark).is_some();
        let list = self.ctx.asked.operation == Operation::Completions && !read.starts_with(b"\"");
        if bytes.len() > most || list || foreign(b"_url\"") || foreign(b"\"input_audio\"") {
            return None;
        }
        let model = self.hop.leg.as_ref().map_or("", Leg::upstream_model);
        let mut question = Vec::with_capacity(bytes.len());
        question.extend_from_slice(b"{\"model\":");
        serde_json::to_writer(&mut question, model).ok()?;
        for name in names {
            if let Some(value) = members.raw(bytes, name) {
                question.extend_from_slice(b",\"");
                question.extend_from_slice(name.as_bytes());
                question.extend_from_slice(b"\":");
                question.extend_from_slice(value);
            }
        }
        question.push(b'}');
        Some(question)
    }
}
