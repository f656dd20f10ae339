//! What a model costs: the configuration's own prices, then the table that is shipped.

use std::collections::HashMap;

use crate::config::{Config, PriceEntry, glob_matches};

/// The table that is shipped: `prices.yaml` at the repository's root.
const SHIPPED: &str = include_str!("../../prices.yaml");
/// What an answer can have where nobody knows.
const UNKNOWN_OUTPUT: u32 = 4_096;
const PICOS_PER_NANO: u128 = 1_000;

/// What each model costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prices {
    rows: Vec<(Box<str>, Price)>,
    /// For each first byte of a name, the rows that could match, in order; the last is for others.
    by_first: Vec<Vec<u16>>,
    unknown: Price,
    /// What the configuration's own targets cost: nearly all that is ever asked for.
    known: HashMap<Box<str>, Price>,
}

/// What a token costs, in picodollars: a dollar per million tokens is a million of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// Of the prompt.
    pub input: u64,
    /// Of the answer.
    pub output: u64,
    /// Of the prompt, where the provider had it in its cache.
    pub cached: u64,
    /// Of the answer, where it is thinking.
    pub reasoning: u64,
    /// Tokens that an answer has at most when the caller does not say.
    pub max_output: u32,
}

// === impl Prices ===

impl Prices {
    /// The prices of a configuration, before those that are shipped.
    pub fn compile(config: &Config) -> Self {
        let shipped = Self::shipped();
        let own = config.prices.iter().map(|entry| {
            // The glob itself is a name that the globs of its kind match.
            let like = shipped.find(&entry.model);
            (Box::from(entry.model.as_str()), Price::of(entry, like.max_output))
        });
        let mut prices = Self::new(own.chain(shipped.rows.iter().cloned()).collect());
        prices.known = names(config).map(|name| (Box::from(name), *prices.find(name))).collect();
        prices
    }

    /// The table that is shipped.
    pub fn shipped() -> Self {
        // A test holds that it can be read.
        let entries = PriceEntry::table(SHIPPED).unwrap_or_default();
        let row = |entry: &PriceEntry| {
            (Box::from(entry.model.as_str()), Price::of(entry, UNKNOWN_OUTPUT))
        };
        Self::new(entries.iter().map(row).collect())
    }

    /// What a model costs: by the first row that matches its name, or else the part of its name
    /// behind the last slash (`openai/gpt-5`); nothing when no row does.
    pub fn find(&self, model: &str) -> &Price {
        if let Some(price) = self.known.get(model) {
            return price;
        }
        let behind = || self.row(model.rsplit_once('/')?.1);
        self.row(model).or_else(behind).unwrap_or(&self.unknown)
    }

    fn row(&self, model: &str) -> Option<&Price> {
        let first = model.bytes().next().map_or(256, usize::from);
        let rows = self.by_first.get(first)?.iter();
        let mut rows = rows.filter_map(|&row| self.rows.get(usize::from(row)));
        rows.find(|(glob, _)| glob_matches(glob, model)).map(|(_, price)| price)
    }

    fn new(mut rows: Vec<(Box<str>, Price)>) -> Self {
        rows.truncate(usize::from(u16::MAX));
        let could_match = |glob: &str, first: usize| match glob.bytes().next() {
            Some(b'*') => true,
            glob => glob.map_or(256, usize::from) == first,
        };
        let rows_of = |first: usize| {
            let rows = (0_u16..).zip(&rows).filter(|(_, (glob, _))| could_match(glob, first));
            rows.map(|(row, _)| row).collect()
        };
        let by_first = (0..=256).map(rows_of).collect();
        Self { rows, by_first, unknown: Price::free(UNKNOWN_OUTPUT), known: HashMap::new() }
    }
}

/// What providers are asked for, as far as the configuration says it.
fn names(config: &Config) -> impl Iterator<Item = &str> {
    config.models.iter().flat_map(|model| {
        let own = model.name.iter().chain(&model.aliases);
        let theirs = model.targets.iter().filter_map(|target| target.model.as_ref());
        own.chain(theirs).map(String::as_str)
    })
}

// === impl Price ===

impl Price {
    /// A price of nothing.
    pub fn free(max_output: u32) -> Self {
        Self { input: 0, output: 0, cached: 0, reasoning: 0, max_output }
    }

    fn of(entry: &PriceEntry, max_output: u32) -> Self {
        Self {
            input: entry.input,
            output: entry.output,
            cached: entry.cached_input.unwrap_or(entry.input),
            reasoning: entry.reasoning.unwrap_or(entry.output),
            max_output: entry.max_output.unwrap_or(max_output),
        }
    }

    /// What these tokens cost, in nanodollars, rounded up once. Cached tokens are a part of the
    /// prompt and reasoning ones a part of the completion; more of them than there are count as all.
    pub fn cost_nanos(&self, prompt: u64, completion: u64, cached: u64, reasoning: u64) -> u64 {
        let (cached, reasoning) = (cached.min(prompt), reasoning.min(completion));
        let parts = [
            (prompt - cached, self.input),
            (cached, self.cached),
            (completion - reasoning, self.output),
            (reasoning, self.reasoning),
        ];
        let cost = |(tokens, price): (u64, u64)| u128::from(tokens) * u128::from(price);
        let picos = parts.into_iter().map(cost).fold(0, u128::saturating_add);
        u64::try_from(picos.div_ceil(PICOS_PER_NANO)).unwrap_or(u64::MAX)
    }
}
