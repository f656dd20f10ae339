//! What one reading of a configuration gathers: problems, names, and what the environment overrides.

use std::cell::{Cell, RefCell};

use super::names::Names;
use super::overrides::Overrides;
use super::{Location, Problem, Severity};

// A file with more mistakes has one cause, such as a wrong path, and nobody reads them all. Errors
// and warnings are counted apart: no number of warnings may hide that there was an error.
const MAX_ERRORS: usize = 200;
const MAX_WARNINGS: usize = 200;

/// Gathers while sections are read. Readers share it, so that a mistake stops none of them.
pub(super) struct Findings {
    /// What the environment says over the file.
    pub overrides: Overrides,
    /// Names given and names used.
    pub names: RefCell<Names>,
    problems: RefCell<Vec<Problem>>,
    errors: Cell<usize>,
    warnings: Cell<usize>,
}

// === impl Findings ===

impl Findings {
    /// Begins with what was found in the environment.
    pub fn new(overrides: Overrides, problems: Vec<Problem>) -> Self {
        let findings = Self {
            overrides,
            names: RefCell::default(),
            problems: RefCell::default(),
            errors: Cell::default(),
            warnings: Cell::default(),
        };
        for problem in problems {
            findings.report(problem);
        }
        findings
    }

    /// Notes a problem.
    pub fn report(&self, problem: Problem) {
        let (count, most) = match problem.severity {
            Severity::Error => (&self.errors, MAX_ERRORS),
            Severity::Warning => (&self.warnings, MAX_WARNINGS),
        };
        if count.get() < most {
            count.set(count.get() + 1);
            self.problems.borrow_mut().push(problem);
        }
    }

    /// Notes a mistake.
    pub fn error(&self, location: Location, message: impl Into<String>) {
        self.report(Problem::error(location, message));
    }

    /// Whether enough mistakes have been found.
    pub fn is_full(&self) -> bool {
        self.errors.get() >= MAX_ERRORS
    }

    /// Everything found, by place. What an alias repeated is said once.
    pub fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort();
        problems.dedup();
        problems
    }
}
