//! How hard a model shall think: the words of some dialects, the token budgets of others.

/// What a request says about reasoning; nothing at all is the model's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reasoning {
    /// Off, or on whatever the effort.
    pub enabled: Option<bool>,
    pub effort: Option<Effort>,
    /// Tokens it may take.
    pub budget: Option<u64>,
    /// Whether the client wants to read it (a summary counts).
    pub shown: Option<bool>,
}

/// How hard, from not at all to all that is possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    None,
    Minimal,
    Low,
    Medium,
    High,
    Xhigh,
    Max,
}

impl Effort {
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "none" => Self::None,
            "minimal" => Self::Minimal,
            "low" => Self::Low,
            "medium" => Self::Medium,
            "high" => Self::High,
            "xhigh" => Self::Xhigh,
            "max" => Self::Max,
            _ => return None,
        })
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Xhigh => "xhigh",
            Self::Max => "max",
        }
    }

    /// The effort that a budget of Anthropic's or Gemini's stands for.
    pub fn of_budget(tokens: u64) -> Self {
        match tokens {
            0 => Self::None,
            1..1024 => Self::Minimal,
            1024..=2048 => Self::Low,
            2049..=8192 => Self::Medium,
            8193..=24_576 => Self::High,
            _ => Self::Xhigh,
        }
    }

    /// Tokens for models of Anthropic's that take a budget.
    pub fn anthropic_budget(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Minimal | Self::Low => 1024,
            Self::Medium => 4096,
            Self::High => 16_384,
            Self::Xhigh | Self::Max => 32_768,
        }
    }

    /// Tokens for models of Google's that take a budget.
    pub fn gemini_budget(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Minimal | Self::Low => 1024,
            Self::Medium => 8192,
            Self::High | Self::Xhigh | Self::Max => 24_576,
        }
    }

    /// The nearest effort that is not above this one and among `known`; their lowest else.
    pub fn at_most(self, known: &[Self]) -> Option<Self> {
        let below = known.iter().filter(|effort| **effort <= self).max();
        below.or_else(|| known.iter().min()).copied()
    }
}

impl Reasoning {
    /// What is asked for as an effort: said, or by its budget; `None` effort when it is off.
    pub fn as_effort(&self) -> Option<Effort> {
        if self.enabled == Some(false) {
            return Some(Effort::None);
        }
        self.effort.or_else(|| self.budget.map(Effort::of_budget))
    }

    /// Nothing is said at all.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effort_the_model_does_not_know_becomes_the_next_lower_one() {
        let known = [Effort::Low, Effort::Medium, Effort::High];
        assert_eq!(Effort::Max.at_most(&known), Some(Effort::High));
        assert_eq!(Effort::Minimal.at_most(&known), Some(Effort::Low));
        assert_eq!(Effort::Medium.at_most(&[]), None);
    }

    #[test]
    fn a_budget_stands_for_an_effort() {
        let reasoning = Reasoning { budget: Some(4096), ..Reasoning::default() };
        assert_eq!(reasoning.as_effort(), Some(Effort::Medium));
        let off = Reasoning { enabled: Some(false), budget: Some(9000), ..Reasoning::default() };
        assert_eq!(off.as_effort(), Some(Effort::None));
    }
}
