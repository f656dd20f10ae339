//! What Forebay's models need and other programs' do not: weights up to 1,000, plain names, and
//! fallback without circles.

use super::draft::{Draft, Model, Target};

/// The largest weight of a target.
const HEAVIEST: f64 = 1_000.0;

/// Shares as weights of targets: whole numbers that are small enough stay as they are.
pub fn weights(shares: &[f64]) -> Vec<u32> {
    let shares: Vec<f64> =
        shares.iter().map(|share| if share.is_finite() { share.max(0.0) } else { 0.0 }).collect();
    if shares.iter().all(|share| *share == 0.0) {
        // Nobody goes before the others.
        return vec![1; shares.len()];
    }
    let heaviest = shares.iter().copied().fold(0.0, f64::max);
    let fits = heaviest <= HEAVIEST && shares.iter().all(|share| share.fract() == 0.0);
    let lightest = shares.iter().copied().filter(|share| *share > 0.0).fold(heaviest, f64::min);
    // Fractions become whole with a factor of ten; what that makes too heavy is scaled down.
    let factor = match () {
        () if fits => 1.0,
        () if lightest < 1.0 && heaviest < 10.0 => 100.0,
        () if heaviest <= 100.0 => 10.0,
        () => HEAVIEST / heaviest,
    };
    let weight =
        |share: f64| if share > 0.0 { (share * factor).round().clamp(1.0, HEAVIEST) } else { 0.0 };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and 1,000"
    )]
    shares.into_iter().map(|share| weight(share) as u32).collect()
}

/// Names as Forebay takes them, each given once.
#[derive(Debug, Default)]
pub struct Names {
    given: Vec<String>,
}

impl Names {
    /// The name itself, or the nearest that may be given.
    pub fn give(&mut self, wanted: &str, otherwise: &str) -> String {
        let plain: String = wanted
            .chars()
            .map(|letter| if letter == ' ' || letter.is_ascii_graphic() { letter } else { '-' })
            .take(200)
            .collect();
        let plain = plain.trim_matches([' ', '-']);
        let letters = plain.chars().any(|letter| letter.is_ascii_alphanumeric());
        let plain = if letters { plain } else { otherwise };
        let mut name = plain.to_owned();
        let mut number = 2;
        while self.given.contains(&name) {
            name = format!("{plain}-{number}");
            number += 1;
        }
        self.given.push(name.clone());
        name
    }
}

/// Whether a text may be a model's name.
pub fn may_be_name(text: &str) -> bool {
    let plain = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    plain && !text.is_empty() && text.trim() == text && text.len() <= 256
}

/// What became of a wish for fallback.
#[derive(Debug, PartialEq, Eq)]
pub enum Settled {
    Added,
    /// It would have run in a circle: the other's targets are last resorts of this one now.
    Inlined,
    /// It is the model itself.
    Itself,
    Unknown,
}

/// Lets `model` fall back on the model called `name`.
pub fn fall_back(draft: &mut Draft, model: usize, name: &str) -> Settled {
    let Some(other) = draft.named(name) else { return Settled::Unknown };
    if other == model {
        return Settled::Itself;
    }
    let reaches_back = reaches(draft, other, model);
    let Some(asked) = draft.models.get(other).and_then(Model::name).map(str::to_owned) else {
        return Settled::Unknown;
    };
    let targets = draft.models.get(other).map(|other| other.targets.clone()).unwrap_or_default();
    let Some(model) = draft.models.get_mut(model) else { return Settled::Unknown };
    if !reaches_back {
        if !model.fallback.contains(&asked) {
            model.fallback.push(asked);
        }
        return Settled::Added;
    }
    model.comments.push(format!(
        "`{asked}` falls back on this one, so its targets stand here as a last resort instead of it"
    ));
    for target in targets {
        let upstream = target.model.clone().unwrap_or_else(|| asked.clone());
        let same = |known: &Target| {
            known.provider == target.provider && known.model.as_deref() == Some(&upstream)
        };
        if !model.targets.iter().any(same) {
            model.targets.push(Target { model: Some(upstream), weight: 0, ..target });
        }
    }
    Settled::Inlined
}

/// Whether fallback leads from one model to another.
fn reaches(draft: &Draft, from: usize, to: usize) -> bool {
    let mut seen = vec![from];
    let mut next = 0;
    while let Some(&at) = seen.get(next) {
        if at == to {
            return true;
        }
        let fallback =
            draft.models.get(at).map(|model| model.fallback.as_slice()).unwrap_or_default();
        for found in fallback.iter().filter_map(|name| draft.named(name)) {
            if !seen.contains(&found) {
                seen.push(found);
            }
        }
        next += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::draft::Answers;
    use super::*;

    #[test]
    fn weights_keep_their_proportions() {
        assert_eq!(weights(&[10.0, 1.0, 0.0]), [10, 1, 0]);
        assert_eq!(weights(&[0.9, 0.1]), [90, 10]);
        assert_eq!(weights(&[2.5, 20.0]), [25, 200]);
        assert_eq!(weights(&[60.0, 600.0, 60_000.0]), [1, 10, 1000]);
        assert_eq!(weights(&[1.0, 1e9]), [1, 1000]);
        assert_eq!(weights(&[f64::NAN, -1.0, 1.0]), [0, 0, 1]);
        assert_eq!(weights(&[0.0, 0.0]), [1, 1]);
        assert_eq!(weights(&[]), [0_u32; 0]);
    }

    #[test]
    fn names_are_plain_and_given_once() {
        let mut names = Names::default();
        let given =
            ["a", "a", " b\n", "主渠道", "备用", "x\u{e9}y"].map(|name| names.give(name, "client"));
        assert_eq!(given, ["a", "a-2", "b", "client", "client-2", "x-y"]);
    }

    #[test]
    fn a_circle_becomes_a_last_resort() {
        let model = |name: &str| {
            let target = Target { provider: name.to_uppercase(), model: None, weight: 3 };
            Model::new(Answers::Name(name.to_owned()), vec![target])
        };
        let mut draft = Draft { models: ["a", "b", "c"].map(model).into(), ..Draft::default() };
        assert_eq!(fall_back(&mut draft, 0, "b"), Settled::Added);
        assert_eq!(fall_back(&mut draft, 1, "c"), Settled::Added);
        assert_eq!(fall_back(&mut draft, 2, "a"), Settled::Inlined);
        assert_eq!(fall_back(&mut draft, 2, "c"), Settled::Itself);
        assert_eq!(fall_back(&mut draft, 2, "d"), Settled::Unknown);
        let targets: Vec<_> = draft.models[2]
            .targets
            .iter()
            .map(|t| (t.provider.as_str(), t.model.as_deref(), t.weight))
            .collect();
        assert_eq!(targets, [("C", None, 3), ("A", Some("a"), 0)]);
        assert!(draft.models[2].fallback.is_empty());
    }
}
