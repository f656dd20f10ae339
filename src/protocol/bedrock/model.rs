//! What of Converse differs by the model's family.

use crate::protocol::canonical::{Target, ThinkingRule};

/// Whose model it is, as far as that changes what is sent beside Converse's own members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Claude,
    Nova,
    Other,
}

impl Family {
    pub fn of(to: &Target) -> Self {
        let model = to.model.to_ascii_lowercase();
        let thinks = to.rules.thinking;
        let claude = [ThinkingRule::Budget, ThinkingRule::Adaptive, ThinkingRule::Always];
        if model.contains("claude") || claude.contains(&thinks) {
            Self::Claude
        } else if model.contains("nova") || thinks == ThinkingRule::Nova {
            Self::Nova
        } else {
            Self::Other
        }
    }

    /// Whether it takes `cachePoint`; others refuse the request for it.
    pub fn caches(self) -> bool {
        self != Self::Other
    }

    /// Whether it takes `cachePoint` among its tools.
    pub fn caches_tools(self) -> bool {
        self == Self::Claude
    }
}

/// Whether what it caches may stay an hour: Claude from 4.5 on.
pub fn caches_for_an_hour(to: &Target) -> bool {
    let model = to.model.to_ascii_lowercase();
    let old = ["claude-v", "claude-instant", "claude-3", "-4-20", "-4-1-"];
    model.contains("claude") && !old.iter().any(|part| model.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Dialect, Kind};
    use crate::protocol::canonical::Rules;

    #[test]
    fn families_are_known_by_name_or_by_what_they_take() {
        for (model, family, an_hour) in [
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", Family::Claude, true),
            ("anthropic.claude-sonnet-4-20250514-v1:0", Family::Claude, false),
            ("anthropic.claude-3-7-sonnet-20250219-v1:0", Family::Claude, false),
            ("us.amazon.nova-2-lite-v1:0", Family::Nova, false),
            ("amazon.nova-micro-v1:0", Family::Nova, false),
            ("openai.gpt-oss-120b-1:0", Family::Other, false),
            ("arn:aws:bedrock:us-east-1:1:application-inference-profile/x", Family::Other, false),
        ] {
            let rules = Rules::of(Dialect::Bedrock, Kind::Bedrock, model);
            let to = Target { model, rules: &rules };
            assert_eq!(Family::of(&to), family, "{model}");
            assert_eq!(caches_for_an_hour(&to), an_hour, "{model}");
        }
        let rules = Rules::of(Dialect::Bedrock, Kind::Bedrock, "claude-sonnet-4-5");
        let to = Target { model: "arn:aws:bedrock:x", rules: &rules };
        assert_eq!(Family::of(&to), Family::Claude);
    }
}
