//! Fallback between models: names made direct, and circles found.

use std::collections::HashMap;

use super::Model;

/// Makes fallback that names an alias name the model itself.
pub(super) fn resolve_aliases(models: &mut [Model]) {
    let mut own = HashMap::new();
    for Model { name, aliases, .. } in &*models {
        let Some(name) = name else { continue };
        own.extend(aliases.iter().map(|alias| (alias.clone(), name.clone())));
    }
    for fallback in models.iter_mut().flat_map(|model| &mut model.fallback) {
        if let Some(name) = own.get(fallback) {
            fallback.clone_from(name);
        }
    }
}

/// The circles in which models fall back on each other, each once, from its first model on.
pub(super) fn circles(models: &[Model]) -> Vec<Vec<&Model>> {
    let named = models.iter().filter_map(|model| Some((model.name.as_deref()?, model)));
    let mut walk = Walk { by_name: named.collect(), ..Walk::default() };
    for model in models {
        walk.from(model);
    }
    walk.circles
}

/// A walk along all fallback, depth first. It keeps its own way instead of being recursive: a file
/// can name more models than the stack has room for.
#[derive(Default)]
struct Walk<'a> {
    by_name: HashMap<&'a str, &'a Model>,
    seen: HashMap<&'a str, Seen>,
    way: Vec<Step<'a>>,
    circles: Vec<Vec<&'a Model>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Seen {
    OnWay,
    Done,
}

struct Step<'a> {
    model: &'a Model,
    name: &'a str,
    untried: std::slice::Iter<'a, String>,
}

// === impl Walk ===

impl<'a> Walk<'a> {
    fn from(&mut self, model: &'a Model) {
        self.enter(model);
        while let Some(step) = self.way.last_mut() {
            let Some(next) = step.untried.next() else {
                self.seen.insert(step.name, Seen::Done);
                self.way.pop();
                continue;
            };
            if let Some(model) = self.by_name.get(next.as_str()) {
                self.enter(model);
            }
        }
    }

    fn enter(&mut self, model: &'a Model) {
        let Some(name) = model.name.as_deref() else { return };
        match self.seen.get(name) {
            Some(Seen::Done) => {}
            Some(Seen::OnWay) => {
                let circle = self.way.iter().skip_while(|step| step.name != name);
                self.circles.push(circle.map(|step| step.model).collect());
            }
            None => {
                self.seen.insert(name, Seen::OnWay);
                self.way.push(Step { model, name, untried: model.fallback.iter() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Model {
        Model { name: Some(name.to_owned()), ..Model::default() }
    }

    fn found(models: &[(&str, &[&str])]) -> Vec<String> {
        let model = |(name, fallback): &(&str, &[&str])| Model {
            fallback: fallback.iter().map(ToString::to_string).collect(),
            ..named(name)
        };
        let models: Vec<Model> = models.iter().map(model).collect();
        let names = |circle: Vec<&Model>| -> Vec<String> {
            circle.into_iter().filter_map(|model| model.name.clone()).collect()
        };
        circles(&models).into_iter().map(|circle| names(circle).join(" ")).collect()
    }

    #[test]
    fn a_way_that_ends_is_no_circle() {
        assert!(
            found(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[]), ("d", &["gone"])]).is_empty()
        );
    }

    #[test]
    fn each_circle_is_found_once() {
        assert_eq!(found(&[("a", &["a"])]), ["a"]);
        assert_eq!(found(&[("x", &["a"]), ("a", &["b"]), ("b", &["a"])]), ["a b"]);
        assert_eq!(
            found(&[("a", &["b"]), ("b", &["a"]), ("c", &["d", "a"]), ("d", &["c"])]),
            ["a b", "c d"]
        );
    }

    #[test]
    fn a_long_way_needs_no_stack() {
        let names: Vec<String> = (0..100_000).map(|n| n.to_string()).collect();
        let next = |n: usize| names.get(n + 1).map_or("0", String::as_str);
        let model =
            |n: usize| Model { fallback: vec![next(n).to_owned()], ..named(&n.to_string()) };
        let models: Vec<Model> = (0..names.len()).map(model).collect();
        let lengths: Vec<usize> = circles(&models).iter().map(Vec::len).collect();
        assert_eq!(lengths, [100_000]);
    }
}
