//! The `admission` of a provider: how much its replicas have under way at once, and who waits for them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::read::Value;
use super::{Kind, Percent};

/// How much a provider's replicas have under way at once, and who waits for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    /// Requests of this process under way at one replica.
    pub max_concurrent: u32,
    /// Requests that wait for a place at one of them.
    pub queue: u32,
    /// The longest that one waits.
    pub wait: Duration,
    /// From how long a wait on, expected or had, another target of the plan is taken that is free;
    /// `None`: only when there is no waiting here.
    pub spill_after: Option<Duration>,
    /// A replica whose server says that its KV cache is fuller gets nothing more.
    pub kv_limit: Percent,
    /// Whether requests carry their priority to the servers.
    pub priority: bool,
}

/// Who goes first: the higher, the earlier. 0 is everybody's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(i8);

/// How a caller stands among others that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rank {
    /// Classes are served one after the other.
    pub priority: Priority,
    /// Its part of what is served within its class, against others' weights.
    pub weight: u32,
}

/// What a record says of it; `None` is what others say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RankGiven {
    pub priority: Option<Priority>,
    pub weight: Option<u32>,
}

/// Why a text is no priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be low, normal, high or a whole number from -100 to 100")]
pub struct PriorityError;

// === impl Admission ===

impl Admission {
    /// Nobody needs more, and looking through those who wait must not take long.
    const LONGEST_QUEUE: u32 = 4096;

    pub(super) fn read(value: Value, kind: Kind) -> Option<Self> {
        value.section(|s| {
            let max_concurrent = s.require("max_concurrent", |v| v.number(1, 1_000_000));
            let queue = s.read("queue", |v| v.number(0, Self::LONGEST_QUEUE)).unwrap_or(256);
            let wait = s.read("wait", Value::timeout).unwrap_or(Duration::from_secs(30));
            let spill_after = s.switch("spill_after", None, Value::timeout);
            let kv_limit = s.read("kv_limit", Value::percent).unwrap_or(Percent(95));
            let priority = s.read("priority", Value::boolean).unwrap_or_default();
            if priority && !matches!(kind, Kind::Vllm | Kind::OpenaiCompatible) {
                s.error::<()>("`priority` is only for kinds `vllm` and `openai_compatible`");
            }
            let max_concurrent = max_concurrent?;
            Some(Self { max_concurrent, queue, wait, spill_after, kv_limit, priority })
        })?
    }
}

// === impl Priority ===

impl Priority {
    /// After everybody.
    pub const LOW: Self = Self(-10);
    /// Before everybody.
    pub const HIGH: Self = Self(10);
    const MOST: i8 = 100;

    /// `None`: out of bounds.
    pub fn new(level: i64) -> Option<Self> {
        let within = level.unsigned_abs() <= u64::from(Self::MOST.unsigned_abs());
        i8::try_from(level).ok().filter(|_| within).map(Self)
    }

    /// The nearest there is.
    pub fn nearest(level: i64) -> Self {
        let most = i64::from(Self::MOST);
        Self::new(level.clamp(-most, most)).unwrap_or_default()
    }

    /// As a number: the higher, the earlier.
    pub fn level(self) -> i8 {
        self.0
    }

    pub(super) fn read(value: Value) -> Option<Self> {
        let wanted = "low, normal, high or a whole number from -100 to 100";
        let text = &value.scalar(wanted)?.text;
        text.parse().ok().or_else(|| value.must_be(wanted))
    }
}

impl FromStr for Priority {
    type Err = PriorityError;

    fn from_str(text: &str) -> Result<Self, PriorityError> {
        match text {
            "low" => Ok(Self::LOW),
            "normal" => Ok(Self::default()),
            "high" => Ok(Self::HIGH),
            text => text.parse().ok().and_then(Self::new).ok_or(PriorityError),
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::LOW => f.write_str("low"),
            Self(0) => f.write_str("normal"),
            Self::HIGH => f.write_str("high"),
            Self(level) => level.fmt(f),
        }
    }
}

impl Serialize for Priority {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Priority {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Word(String),
            Level(i64),
        }
        let read = match Form::deserialize(deserializer)? {
            Form::Word(word) => word.parse(),
            Form::Level(level) => Self::new(level).ok_or(PriorityError),
        };
        read.map_err(serde::de::Error::custom)
    }
}

// === impl Rank ===

impl Rank {
    /// The largest weight.
    pub const MOST_WEIGHT: u32 = 1000;

    /// What a key has, given what its own record and its user's say: no higher a priority than its user,
    /// and its user's weight where it has none of its own. What neither says is as with everybody.
    pub fn of(own: RankGiven, user: RankGiven) -> Self {
        let priority = match (own.priority, user.priority) {
            (Some(own), Some(user)) => Some(own.min(user)),
            (own, user) => own.or(user),
        };
        let weight = own.weight.or(user.weight).unwrap_or(1).clamp(1, Self::MOST_WEIGHT);
        Self { priority: priority.unwrap_or_default(), weight }
    }
}

impl Default for Rank {
    fn default() -> Self {
        Self::of(RankGiven::default(), RankGiven::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_is_a_word_or_a_number_within_bounds() {
        for (text, level) in [("low", -10), ("normal", 0), ("high", 10), ("-100", -100), ("7", 7)] {
            assert_eq!(text.parse::<Priority>().unwrap().level(), level, "{text}");
        }
        for text in ["", "higher", "101", "-101", "1.5", "High"] {
            assert!(text.parse::<Priority>().is_err(), "{text}");
        }
        assert!(Priority::HIGH > Priority::default() && Priority::default() > Priority::LOW);
        assert_eq!(Priority::nearest(-1_000_000).level(), -100);
    }

    #[test]
    fn what_was_written_of_a_priority_is_read_again() {
        for level in [-100, -10, -1, 0, 1, 10, 100] {
            let priority = Priority::new(level).unwrap();
            let text = serde_json::to_string(&priority).unwrap();
            assert_eq!(serde_json::from_str::<Priority>(&text).unwrap(), priority);
            assert_eq!(serde_json::from_str::<Priority>(&level.to_string()).unwrap(), priority);
        }
        assert!(serde_json::from_str::<Priority>("101").is_err());
    }
}
