//! The order in which a request may be tried: the model's targets, then those of its fallbacks.

use std::sync::Arc;

use super::models::{Model, Models};

/// Models a request may go through, the first included. `forebay check` refuses cycles; this bounds
/// what a long chain can cost.
const LONGEST_CHAIN: usize = 8;

/// One target a request may be sent to.
#[derive(Clone, Debug)]
pub struct Leg {
    pub model: Arc<Model>,
    /// Index into the model's targets.
    pub target: usize,
    /// The name this model was asked for by: the client's, or the fallback's.
    pub asked: Arc<str>,
}

impl Leg {
    /// Index into the configuration's providers.
    pub fn provider(&self) -> Option<usize> {
        self.model.targets.get(self.target).map(|target| target.provider)
    }

    /// The provider's name of the model.
    pub fn upstream_model(&self) -> &str {
        self.model.targets.get(self.target).map_or(&self.asked, |target| target.model(&self.asked))
    }
}

impl Models {
    /// Every target that may serve a request for `model`, in the order to try them.
    pub fn plan(&self, model: &Arc<Model>, asked: &str) -> Vec<Leg> {
        let asked = Arc::from(asked);
        if model.fallback.is_empty() {
            return in_order(model, &asked).collect();
        }
        let mut legs = Vec::with_capacity(model.targets.len());
        let mut chain: Vec<(Arc<Model>, Arc<str>)> = vec![(Arc::clone(model), asked)];
        let mut position = 0;
        while let Some((model, asked)) = chain.get(position).cloned() {
            legs.extend(in_order(&model, &asked));
            for name in &model.fallback {
                let Some((next, asked)) = self.find(name) else { continue };
                let known = chain.iter().any(|(seen, _)| Arc::ptr_eq(seen, next));
                if !known && chain.len() < LONGEST_CHAIN {
                    chain.push((Arc::clone(next), Arc::from(asked)));
                }
            }
            position += 1;
        }
        legs
    }
}

/// The target whose turn it is, the other weighted ones by weight, then the last resorts.
fn in_order(model: &Arc<Model>, asked: &Arc<str>) -> impl Iterator<Item = Leg> {
    let first = model.schedule.next();
    let mut rest: Vec<(u32, usize)> = model
        .targets
        .iter()
        .enumerate()
        .filter(|(index, _)| Some(*index) != first)
        .map(|(index, target)| (target.weight, index))
        .collect();
    // Stable: equals, and so all last resorts, keep the file's order.
    rest.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    let order = first.into_iter().chain(rest.into_iter().map(|(_, index)| index));
    let (model, asked) = (Arc::clone(model), Arc::clone(asked));
    order.map(move |target| Leg { model: Arc::clone(&model), target, asked: Arc::clone(&asked) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Source, load};

    const FILE: &str = r#"
anonymous: true
model_prefix: Proxy
providers:
  - { name: a, kind: vllm, base_url: "http://127.0.0.1:1" }
  - { name: b, kind: vllm, base_url: "http://127.0.0.1:2" }
models:
  - name: big
    aliases: [large]
    targets: [{ provider: b, model: spare, weight: 0 }, { provider: a, weight: 2 }, { provider: b, weight: 1 }]
    fallback: [small]
  - { name: small, targets: [{ provider: b, model: tiny }] }
  - { match: { prefix: "gpt-" }, targets: [{ provider: a }] }
  - { match: { exact: ["gpt-9"] }, targets: [{ provider: b }] }
"#;

    fn models() -> Models {
        let source = Source { text: FILE.to_owned(), ..Source::default() };
        Models::new(&load(&source).unwrap().0).unwrap()
    }

    fn plan(name: &str) -> Vec<(usize, String)> {
        let models = models();
        let (model, asked) = models.find(name).unwrap();
        let leg = |leg: &Leg| (leg.provider().unwrap(), leg.upstream_model().to_owned());
        models.plan(model, asked).iter().map(leg).collect()
    }

    #[test]
    fn targets_come_by_weight_then_last_resorts_then_fallbacks() {
        let expected = [(0, "large"), (1, "large"), (1, "spare"), (1, "tiny")];
        assert_eq!(plan("large"), expected.map(|(at, name)| (at, name.to_owned())));
    }

    #[test]
    fn exact_names_win_over_rules_wherever_they_stand() {
        assert_eq!(plan("gpt-9"), [(1, "gpt-9".to_owned())]);
        assert_eq!(plan("gpt-8"), [(0, "gpt-8".to_owned())]);
    }

    #[test]
    fn the_prefix_is_taken_off_once() {
        assert_eq!(plan("Proxy/small"), [(1, "tiny".to_owned())]);
        assert!(models().find("Proxy/Proxy/small").is_none());
        assert!(models().find("proxy/small").is_none());
        assert!(models().find("nothing").is_none());
    }
}
