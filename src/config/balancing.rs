//! `load_balancing`: how one of a provider's replicas is chosen.

use super::read::Value;
use super::tree::Content;

/// How a replica is chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LoadBalancing {
    /// In turn, by weight.
    #[default]
    RoundRobin,
    /// By lot, by weight.
    Random,
    /// The one with the fewest requests in flight.
    LeastRequests,
    /// One session stays where it is, as long as that is not overloaded.
    ConsistentHash {
        /// The header that names the session, in lower case; `None`: those that clients are known to send.
        header: Option<String>,
    },
    /// Where the prompt's beginning is likely to be cached, unless it would wait there.
    PrefixAffinity,
}

/// Each policy's word.
const WORDS: [(&str, Word); 5] = [
    ("round_robin", Word::RoundRobin),
    ("random", Word::Random),
    ("least_requests", Word::LeastRequests),
    ("consistent_hash", Word::ConsistentHash),
    ("prefix_affinity", Word::PrefixAffinity),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    RoundRobin,
    Random,
    LeastRequests,
    ConsistentHash,
    PrefixAffinity,
}

impl LoadBalancing {
    /// The word that stands for it in the file.
    pub fn word(&self) -> &'static str {
        let own = match self {
            Self::RoundRobin => Word::RoundRobin,
            Self::Random => Word::Random,
            Self::LeastRequests => Word::LeastRequests,
            Self::ConsistentHash { .. } => Word::ConsistentHash,
            Self::PrefixAffinity => Word::PrefixAffinity,
        };
        WORDS.iter().find(|(_, word)| *word == own).map_or("", |(text, _)| text)
    }

    /// Reads the policy's word, or a map of it and what belongs to it.
    pub(super) fn read(value: Value) -> Option<Self> {
        if !matches!(value.node.content, Content::Map(_)) {
            return value.one_of(&WORDS).map(Self::plain);
        }
        value.section(|s| {
            let word = s.require("policy", |v| v.one_of(&WORDS));
            let header = s.read("header", header);
            if s.has("header") && word.is_some_and(|word| word != Word::ConsistentHash) {
                s.error::<()>("`header` is only for `policy: consistent_hash`");
            }
            Some(match word? {
                Word::ConsistentHash => Self::ConsistentHash { header },
                other => Self::plain(other),
            })
        })?
    }

    fn plain(word: Word) -> Self {
        match word {
            Word::RoundRobin => Self::RoundRobin,
            Word::Random => Self::Random,
            Word::LeastRequests => Self::LeastRequests,
            Word::ConsistentHash => Self::ConsistentHash { header: None },
            Word::PrefixAffinity => Self::PrefixAffinity,
        }
    }
}

fn header(value: Value) -> Option<String> {
    let name = value.name()?;
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !name.bytes().all(token) {
        return value.error("not the name of a header");
    }
    Some(name.to_ascii_lowercase())
}
