//! What one reading of a configuration gathers: problems, names, and what the environment overrides.

use std::cell::RefCell;

use super::names::Names;
use super::overrides::Overrides;
use super::{Location, Problem};

// A file with more mistakes has one cause, such as a wrong path, and nobody reads them all.
const MAX_PROBLEMS: usize = 200;

/// Gathers while sections are read. Readers share it, so that a mistake stops none of them.
pub(super) struct Findings {
    /// What the environment says over the file.
    pub overrides: Overrides,
    /// Names given and names used.
    pub names: RefCell<Names>,
    problems: RefCell<Vec<Problem>>,
}

// === impl Findings ===

impl Findings {
    /// Begins with what was found in the environment.
    pub fn new(overrides: Overrides, problems: Vec<Problem>) -> Self {
        Self { overrides, names: RefCell::default(), problems: RefCell::new(problems) }
    }

    /// Notes a problem.
    pub fn report(&self, problem: Problem) {
        if !self.is_full() {
            self.problems.borrow_mut().push(problem);
        }
    }

    /// Notes a mistake.
    pub fn error(&self, location: Location, message: impl Into<String>) {
        self.report(Problem::error(location, message));
    }

    /// Whether enough has been found.
    pub fn is_full(&self) -> bool {
        self.problems.borrow().len() >= MAX_PROBLEMS
    }

    /// Everything found, by place. What an alias repeated is said once.
    pub fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort();
        problems.dedup();
        problems
    }
}
