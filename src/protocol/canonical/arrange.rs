//! A conversation in the order a provider accepts: roles that alternate, calls with their results.

use std::collections::{HashMap, HashSet, VecDeque};

use sha2::{Digest, Sha256};

use super::{Block, Invalid, Role, ToolResult, Turn};

/// What a provider demands of a conversation's form. The default demands nothing but that calls and
/// results belong together.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each says one thing, and all combine")]
pub struct Arrange {
    pub merge: Merge,
    pub system: SystemInside,
    /// The first turn must be the user's: one of `.` is put before an assistant's, and a
    /// conversation without any turn is refused.
    pub user_first: bool,
    /// The last turn must not be the assistant's: such a conversation is refused.
    pub no_prefill: bool,
    /// Text of nothing but white space is refused there, and left out.
    pub no_blank_text: bool,
    /// Within a turn, calls stand behind everything else.
    pub calls_last: bool,
    pub ids: IdLimits,
}

/// Which neighbouring turns of one role become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Merge {
    #[default]
    Nothing,
    /// The assistant's: text and calls that came as turns of their own are one answer.
    Assistant,
    /// All, where roles must alternate. Results and the user's words behind them are one turn then.
    Everything,
}

/// What becomes of instructions in the middle of a conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SystemInside {
    #[default]
    Kept,
    /// Kept where a turn of the user's comes right before; else marked.
    KeptAfterUser,
    /// They become text of the user's between `<system>` and `</system>`.
    Marked,
}

/// What ids of calls may look like.
#[derive(Clone, Copy, Debug)]
pub struct IdLimits {
    /// What may stand beside ASCII letters and digits; `None`: anything.
    pub punctuation: Option<&'static str>,
    /// In characters; at least 9.
    pub longest: usize,
}

impl Default for IdLimits {
    fn default() -> Self {
        Self { punctuation: None, longest: usize::MAX }
    }
}

impl IdLimits {
    /// `id` if it is within the limits, else what stands for it: the same for the same id.
    pub fn fit(&self, id: &str) -> String {
        let allowed = |c: char| {
            c.is_ascii_alphanumeric() || self.punctuation.is_none_or(|marks| marks.contains(c))
        };
        if !id.is_empty() && id.chars().count() <= self.longest && id.chars().all(allowed) {
            return id.to_owned();
        }
        let kept = id.chars().take(self.longest.saturating_sub(SUFFIX));
        let fit: String = kept.map(|c| if allowed(c) { c } else { '_' }).collect();
        format!("{fit}_{}", digest(id))
    }
}

/// `_` and eight hexadecimal digits.
const SUFFIX: usize = 9;

fn digest(text: &str) -> String {
    let mut digits = hex::encode(Sha256::digest(text));
    digits.truncate(SUFFIX - 1);
    digits
}

/// Puts a conversation into the order that `rules` ask for.
///
/// The results of a turn's calls stand in the user's turn right after it, before everything else and in
/// the order of the calls; each has the call's name. A call without a result, and a result without a
/// call, are refused. An id that an earlier call has already is changed, in the call and its result.
pub fn arrange(turns: &[Turn], rules: Arrange) -> Result<Vec<Turn>, Invalid> {
    let mut results = Results::default();
    let mut line = Line { turns: Vec::with_capacity(turns.len() + 1), merge: rules.merge };
    for (place, turn) in turns.iter().enumerate() {
        let blocks = without_results(place, turn, rules.no_blank_text, &mut results);
        let last = line.turns.last().map(|turn| turn.turn.role);
        let (role, blocks) = placed(turn.role, blocks, last, rules.system);
        // A turn of nothing but results still stands between its neighbours.
        if !blocks.is_empty() || turn.role == Role::User {
            line.push(place, role, blocks);
        }
    }
    let mut ids = Ids { limits: rules.ids, seen: HashSet::new(), repeats: HashMap::new() };
    let mut arranged = Line { turns: Vec::with_capacity(turns.len() + 1), merge: rules.merge };
    for Placed { place, mut turn } in line.turns {
        let answers = answer(&mut turn, place, &mut results, &mut ids)?;
        if rules.calls_last {
            turn.blocks.sort_by_key(|block| matches!(block, Block::ToolUse(_)));
        }
        if !turn.blocks.is_empty() {
            arranged.push(place, turn.role, turn.blocks);
        }
        if !answers.is_empty() {
            arranged.push(place, Role::User, answers);
        }
    }
    if let Some(orphan) = results.first() {
        let id = &orphan.id;
        return Err(refused(format!("the result of call {id:?} belongs to no call before it")));
    }
    finish(arranged.turns.into_iter().map(|placed| placed.turn).collect(), rules)
}

/// What an assistant's last turn is refused with, and a conversation without turns.
fn finish(mut turns: Vec<Turn>, rules: Arrange) -> Result<Vec<Turn>, Invalid> {
    let spoken = |turn: &&Turn| turn.role != Role::System;
    if rules.no_prefill && turns.iter().rfind(spoken).is_some_and(|it| it.role == Role::Assistant) {
        return Err(Invalid::Unsupported {
            param: "messages".to_owned(),
            why: "the model does not continue an assistant's turn; the last must be the user's"
                .to_owned(),
        });
    }
    if rules.user_first {
        match turns.iter().find(spoken).map(|turn| turn.role) {
            None => return Err(refused("there must be at least one message of the user's")),
            Some(Role::Assistant) => {
                turns.insert(0, Turn { role: Role::User, blocks: vec![Block::text(".")] });
            }
            Some(_) => {}
        }
    }
    Ok(turns)
}

fn refused(message: impl Into<String>) -> Invalid {
    Invalid::request("messages", message)
}

/// A turn, and where it (or the first of what it was merged of) stood.
struct Placed {
    place: usize,
    turn: Turn,
}

/// A result that waits for its call, with the cache mark behind it.
struct Waiting<'t> {
    place: usize,
    result: &'t ToolResult,
    mark: Option<Block>,
}

/// The results that wait for their calls.
#[derive(Default)]
struct Results<'t> {
    /// In their order; `None` where one was taken.
    all: Vec<Option<Waiting<'t>>>,
    /// Where those of an id stand, in their order.
    by_id: HashMap<&'t str, VecDeque<usize>>,
}

impl<'t> Results<'t> {
    fn push(&mut self, place: usize, result: &'t ToolResult) {
        self.by_id.entry(&result.id).or_default().push_back(self.all.len());
        self.all.push(Some(Waiting { place, result, mark: None }));
    }

    /// The mark behind the result that was pushed last.
    fn mark(&mut self, mark: &Block) {
        if let Some(Some(last)) = self.all.last_mut() {
            last.mark = Some(mark.clone());
        }
    }

    /// The first of this id that came behind `place`. Places are asked for in their order, so that one
    /// before it has no call any more.
    fn take(&mut self, id: &str, place: usize) -> Option<Waiting<'t>> {
        let of_id = self.by_id.get_mut(id)?;
        while let Some(at) = of_id.pop_front() {
            let found = self.all.get_mut(at)?.take_if(|it| it.place > place);
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// The first that nobody took.
    fn first(&self) -> Option<&'t ToolResult> {
        self.all.iter().flatten().next().map(|waiting| waiting.result)
    }
}

/// Turns one after the other, merged as asked.
struct Line {
    turns: Vec<Placed>,
    merge: Merge,
}

impl Line {
    fn push(&mut self, place: usize, role: Role, blocks: Vec<Block>) {
        let merges = match self.merge {
            Merge::Nothing => false,
            Merge::Assistant => role == Role::Assistant,
            Merge::Everything => true,
        };
        match self.turns.last_mut() {
            Some(last) if merges && last.turn.role == role => last.turn.blocks.extend(blocks),
            _ => self.turns.push(Placed { place, turn: Turn { role, blocks } }),
        }
    }
}

/// A turn's blocks but its results, which go to `results`.
fn without_results<'t>(
    place: usize,
    turn: &'t Turn,
    no_blank: bool,
    results: &mut Results<'t>,
) -> Vec<Block> {
    let mut blocks = Vec::with_capacity(turn.blocks.len());
    let mut behind_result = false;
    for block in &turn.blocks {
        let mut is_result = false;
        match block {
            Block::ToolResult(result) => {
                is_result = true;
                results.push(place, result);
            }
            Block::Cache(_) if behind_result => results.mark(block),
            Block::Text { text, .. } if no_blank && text.trim().is_empty() => {}
            _ => blocks.push(block.clone()),
        }
        behind_result = is_result;
    }
    // A mark with nothing left before it marks nothing.
    let first = blocks.iter().take_while(|block| matches!(block, Block::Cache(_))).count();
    blocks.drain(..first);
    blocks
}

/// Whose turn it becomes, and how it reads then.
fn placed(
    role: Role,
    blocks: Vec<Block>,
    last: Option<Role>,
    system: SystemInside,
) -> (Role, Vec<Block>) {
    let keeps = match system {
        SystemInside::Kept => true,
        SystemInside::KeptAfterUser => matches!(last, Some(Role::User | Role::System)),
        SystemInside::Marked => false,
    };
    if role != Role::System || keeps {
        return (role, blocks);
    }
    let mark = |block| match block {
        Block::Text { text, .. } => Block::text(format!("<system>\n{text}\n</system>")),
        other => other,
    };
    (Role::User, blocks.into_iter().map(mark).collect())
}

/// Takes the results of a turn's calls, which must have come behind it, and gives both their ids.
fn answer(
    turn: &mut Turn,
    place: usize,
    results: &mut Results,
    ids: &mut Ids,
) -> Result<Vec<Block>, Invalid> {
    let mut answers = Vec::new();
    for block in &mut turn.blocks {
        let Block::ToolUse(call) = block else { continue };
        let Some(Waiting { result, mark, .. }) = results.take(&call.id, place) else {
            return Err(refused(format!("call {:?} has no result behind it", call.id)));
        };
        let mut result = result.clone();
        call.id = ids.assign(&call.id);
        result.id.clone_from(&call.id);
        result.name.get_or_insert_with(|| call.name.clone());
        answers.push(Block::ToolResult(result));
        answers.extend(mark);
    }
    Ok(answers)
}

/// The ids of calls that have been met.
struct Ids {
    limits: IdLimits,
    seen: HashSet<String>,
    /// How often an id has come that was taken: where to go on with it.
    repeats: HashMap<String, usize>,
}

impl Ids {
    fn assign(&mut self, id: &str) -> String {
        let fit = self.limits.fit(id);
        if self.seen.insert(fit.clone()) {
            return fit;
        }
        let room = self.limits.longest.saturating_sub(SUFFIX);
        let kept: String = fit.chars().take(room).collect();
        let count = self.repeats.entry(id.to_owned()).or_insert(1);
        loop {
            *count += 1;
            let other = format!("{kept}_{}", digest(&format!("{id} {count}")));
            if self.seen.insert(other.clone()) {
                return other;
            }
        }
    }
}

#[cfg(test)]
#[path = "arrange_tests.rs"]
mod tests;
