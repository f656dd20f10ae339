//! Claims about whole configurations.

mod abuse;
mod accepted;
mod clouds;
mod dynamic;
mod environment;
mod grants;
mod refused;

use std::path::Path;

use super::*;

const ENVIRONMENT: [(&str, &str); 5] = [
    ("KEY", "sk-forebay-4f9a8c77b2e1"),
    ("SHORT_KEY", "sk-hushhush"),
    ("NO_KEY", ""),
    ("TWO", "2"),
    ("BROKEN", "no such thing"),
];

fn source(text: &str, environment: &[(&str, &str)]) -> Source {
    let pairs = ENVIRONMENT.iter().chain(environment);
    let environment = pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Source { text: text.to_owned(), environment: environment.collect(), ..Source::default() }
}

/// Reads a configuration that is right.
fn good(text: &str) -> Config {
    good_in(text, &[])
}

fn good_in(text: &str, environment: &[(&str, &str)]) -> Config {
    match load(&source(text, environment)) {
        Ok((config, _)) => config,
        Err(problems) => panic!("{}", Problems::new(None, problems)),
    }
}

/// Everything said about a configuration, right or wrong.
fn said(text: &str, environment: &[(&str, &str)]) -> String {
    let problems = match load(&source(text, environment)) {
        Ok((_, warnings)) => warnings,
        Err(problems) => problems,
    };
    Problems::new(Some(Path::new("f")), problems).to_string()
}

/// The lines of one severity.
fn lines(said: &str, severity: &str) -> Vec<String> {
    let marked = format!(": {severity}: ");
    said.lines().filter(|line| line.contains(&marked)).map(str::to_owned).collect()
}
