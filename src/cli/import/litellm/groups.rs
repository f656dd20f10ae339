//! Deployments of one `model_name` as one model with several targets.

use super::super::draft::{Answers, Draft, Model, Target};
use super::super::settle::{may_be_name, weights};
use super::super::source::Item;
use super::super::words::Words;
use super::deployment::{Deployment, number};
use super::settings::Settings;

/// A model for each group; groups with a `*` behind the others.
pub fn add_models(
    draft: &mut Draft,
    deployments: &[Deployment],
    settings: &Settings,
    words: &Words,
) {
    let mut groups: Vec<(&str, Vec<&Deployment>)> = Vec::new();
    for deployment in deployments {
        match groups.iter_mut().find(|(name, _)| *name == deployment.group) {
            Some((_, members)) => members.push(deployment),
            None => groups.push((&deployment.group, vec![deployment])),
        }
    }
    for (name, members) in groups {
        if name.contains('*') {
            add_wildcard(draft, name, &members, words);
        } else {
            add_group(draft, name, members, settings, words);
        }
    }
    // The longest prefix first; a prefix that is taken off has made some shorter.
    draft.models.sort_by_key(|model| match &model.answers {
        Answers::Match("prefix", texts) => {
            (1, std::cmp::Reverse(texts.first().map_or(0, String::len)))
        }
        _ => (0, std::cmp::Reverse(0)),
    });
}

fn add_group(
    draft: &mut Draft,
    name: &str,
    members: Vec<&Deployment>,
    settings: &Settings,
    words: &Words,
) {
    let answers = if may_be_name(name) {
        Answers::Name(words.text(name))
    } else {
        Answers::Match("exact", vec![words.text(name)])
    };
    let mut model = Model::new(answers, Vec::new());
    limits(&mut model, &members, settings, words);
    edits(&mut model, &members, words);
    model.targets = targets(draft, members, words);
    draft.models.push(model);
}

/// The targets, in the order `LiteLLM` would come to them.
fn targets(draft: &Draft, mut members: Vec<&Deployment>, words: &Words) -> Vec<Target> {
    // Without an `order` a deployment stands behind those that have one.
    members.sort_by_key(|member| member.order.unwrap_or(i64::MAX));
    let first = members.first().and_then(|member| member.order);
    let shares: Vec<f64> = shares(&members, words)
        .into_iter()
        .zip(&members)
        .map(|(share, member)| if member.order == first { share } else { 0.0 })
        .collect();
    let target = |(member, weight): (&&Deployment, u32)| Target {
        provider: draft
            .providers
            .get(member.provider)
            .map(|provider| provider.name.clone())
            .unwrap_or_default(),
        model: Some(words.text(&member.upstream)),
        weight,
    };
    let mut targets: Vec<Target> = Vec::new();
    for target in members.iter().zip(weights(&shares)).map(target) {
        // Two deployments that are alike in all else are one with the weight of both.
        match targets
            .iter_mut()
            .find(|known| known.provider == target.provider && known.model == target.model)
        {
            Some(known) => known.weight = (known.weight + target.weight).min(1_000),
            None => targets.push(target),
        }
    }
    targets
}

/// Shares as `LiteLLM`'s shuffle takes them: `weight` if anyone has one, else `rpm`, else `tpm`.
fn shares(members: &[&Deployment], words: &Words) -> Vec<f64> {
    let of = |item: Option<&Item>| item.and_then(|item| number(item, words));
    let weight: Vec<Option<f64>> = members.iter().map(|member| member.weight).collect();
    let rpm: Vec<Option<f64>> = members.iter().map(|member| of(member.rpm)).collect();
    let tpm: Vec<Option<f64>> = members.iter().map(|member| of(member.tpm)).collect();
    let given = [weight, rpm, tpm].into_iter().find(|shares| shares.iter().any(Option::is_some));
    match given {
        Some(shares) => shares.into_iter().map(Option::unwrap_or_default).collect(),
        None => vec![1.0; members.len()],
    }
}

/// The limits of a group, where `LiteLLM` enforces those of its deployments.
fn limits(model: &mut Model, members: &[&Deployment], settings: &Settings, words: &Words) {
    let rpm: Vec<&Item> = members.iter().filter_map(|member| member.rpm).collect();
    let tpm: Vec<&Item> = members.iter().filter_map(|member| member.tpm).collect();
    for (name, given) in [("requests_per_minute", rpm), ("tokens_per_minute", tpm)] {
        let numbers: Vec<f64> = given.iter().filter_map(|item| number(item, words)).collect();
        if numbers.is_empty() {
            continue;
        }
        let whole = numbers.len() == members.len();
        if settings.enforces_limits() && whole {
            let sum: f64 = numbers.iter().sum();
            model.limits.word(name, format!("{:.0}", sum.round()));
            if members.len() > 1 {
                for item in given {
                    item.decide(words.listing, "what all deployments of the model may take together limits the model; none of them is limited alone");
                }
            }
        } else {
            for item in given {
                words.listing.add(item.location, &item.path, "taken as a weight among the deployments of the model; it limits nothing here, as it does not there without `enforce_model_rate_limits`".to_owned());
            }
        }
    }
}

fn edits(model: &mut Model, members: &[&Deployment], words: &Words) {
    let Some((first, others)) = members.split_first() else { return };
    model.edits = first.edits.clone();
    for other in others.iter().filter(|other| other.edits != first.edits) {
        let why = "its defaults for requests differ from those of the first deployment of this model, which hold for all here: models have `request`, and targets have not";
        words.listing.add(other.item.location, &other.item.path, why.to_owned());
        let params = other.item.get("litellm_params");
        let of = |name: &str| params?.get(name).or_else(|| params?.get("extra_body")?.get(name));
        for (name, value) in &other.edits.extra_body {
            if first.edits.extra_body.get(name) != Some(value)
                && let Some(item) = of(name)
            {
                item.list(words.listing, "that of the model's first deployment is sent instead");
            }
        }
        model
            .comments
            .push("decide: `request` is that of the first deployment; others differed".to_owned());
    }
}

/// `openai/*` and its like. A target hands a name on as it is, so both stars must stand for the same.
fn add_wildcard(draft: &mut Draft, name: &str, members: &[&Deployment], words: &Words) {
    let listing = words.listing;
    let Some(asked) = name.strip_suffix('*').filter(|asked| !asked.contains('*')) else {
        let why = "a star elsewhere than at the end: write a `match` with a `regex` by hand";
        for member in members {
            member.item.list(listing, why);
        }
        return;
    };
    let mut fitting: Vec<&Deployment> = Vec::new();
    let mut stripped: Option<String> = None;
    for member in members {
        let Some(upstream) = member.upstream.strip_suffix('*') else {
            member.item.list(
                listing,
                "one model for many names: write a `match` and a target with this `model` by hand",
            );
            continue;
        };
        if upstream == asked {
            fitting.push(member);
            continue;
        }
        // `openai/*` is what clients ask for, and `*` what goes on: a prefix is taken off.
        let prefix = asked.strip_suffix(upstream).and_then(|prefix| prefix.strip_suffix('/'));
        let free = |prefix: &str| draft.model_prefix.as_deref().is_none_or(|known| known == prefix);
        match prefix.filter(|prefix| free(prefix)) {
            Some(prefix) => {
                draft.model_prefix = Some(prefix.to_owned());
                stripped = Some(upstream.to_owned());
                member.item.decide(listing, format!("`{prefix}/` is taken off by `model_prefix`, and names without it are served as well"));
                fitting.push(member);
            }
            None => member.item.list(listing, "names go on as they are asked for, and one prefix at most is taken off: name the models one by one"),
        }
    }
    if fitting.is_empty() {
        return;
    }
    let begin = stripped.unwrap_or_else(|| asked.to_owned());
    let mut model = Model::new(Answers::Match("prefix", vec![words.text(&begin)]), Vec::new());
    edits(&mut model, &fitting, words);
    limits(&mut model, &fitting, &Settings::default(), words);
    model.targets = targets(draft, fitting, words);
    model.targets.iter_mut().for_each(|target| target.model = None);
    draft.models.push(model);
}
