//! `prices`: what models cost, where the shipped table is not to be used.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::findings::Findings;
use super::names::Noun;
use super::overrides::Overrides;
use super::read::Value;
use super::{Problem, Problems, allowance, tree};

// A thousand dollars for a thousand tokens: more is a slip of the hand.
const MOST_EXPENSIVE: u64 = 1_000_000 * 1_000_000;

/// What one model costs. Prices are picodollars per token: a millionth of what a million cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceEntry {
    /// A name or glob of models.
    pub model: String,
    /// A token of the prompt.
    pub input: u64,
    /// A token of the answer.
    pub output: u64,
    /// A token of the prompt that the provider had in its cache; `None` is as `input`.
    pub cached_input: Option<u64>,
    /// A token of thinking; `None` is as `output`.
    pub reasoning: Option<u64>,
    /// Tokens that an answer can have at most; `None` is not known.
    pub max_output: Option<u32>,
}

/// `prices` as they stand in the file.
#[derive(Default)]
pub(super) struct PriceList {
    pub entries: Vec<PriceEntry>,
    /// Where they came from, when they stand in a file of their own.
    pub file: Option<PathBuf>,
}

// === impl PriceEntry ===

impl PriceEntry {
    fn read(value: Value) -> Option<Self> {
        value.section(|s| {
            let model = s.require("model", |v| v.glob().and_then(|_| v.gives(Noun::Price)));
            let input = s.require("input", price);
            let output = s.require("output", price);
            Some(Self {
                cached_input: s.read("cached_input", price),
                reasoning: s.read("reasoning", price),
                max_output: s.read("max_output", |v| v.number(1, 100_000_000)),
                model: model?,
                input: input?,
                output: output?,
            })
        })?
    }

    /// Reads a table of its own: a list, as it stands under `prices`.
    ///
    /// # Errors
    ///
    /// Every mistake in it, by place.
    pub fn table(text: &str) -> Result<Vec<Self>, Vec<Problem>> {
        let findings = Findings::new(Overrides::default(), Vec::new());
        let tree = tree::parse(text, &findings);
        let entries = tree.and_then(|tree| {
            tree.report_duplicates(&findings);
            Value { name: "prices", node: &tree, findings: &findings }.list(Self::read)
        });
        findings.names.borrow().check(&findings);
        let problems = findings.into_problems();
        match entries {
            Some(entries) if problems.is_empty() => Ok(entries),
            _ => Err(problems),
        }
    }
}

// === impl PriceList ===

impl PriceList {
    /// Reads `prices`: a list, or the name of a file that holds one.
    pub fn read(value: Value, folder: &Path) -> Option<Self> {
        if value.node.as_text().is_none() {
            return Some(Self { entries: value.list(PriceEntry::read)?, file: None });
        }
        let file = value.path()?;
        let text = match read_text(&folder.join(&file)) {
            Ok(text) => text,
            Err(error) => return value.error(format!("`prices` cannot be read: {error}")),
        };
        match PriceEntry::table(&text) {
            Ok(entries) => Some(Self { entries, file: Some(file) }),
            Err(problems) => {
                for line in Problems::new(Some(&file), problems).lines() {
                    value.error::<()>(line);
                }
                None
            }
        }
    }
}

/// Reads US dollars per million tokens.
fn price(value: Value) -> Option<u64> {
    let wanted = "US dollars per million tokens, such as 2.50";
    // A dollar per million tokens is a million picodollars per token.
    let price = allowance::parse_decimal(&value.scalar(wanted)?.text, 6);
    price.filter(|&price| price <= MOST_EXPENSIVE).or_else(|| value.must_be(wanted))
}

fn read_text(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(tree::MAX_BYTES as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}
