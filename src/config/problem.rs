//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::{Path, PathBuf};

/// A place in the file, counted from 1; line 0 is not in the file (a default, or the environment).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

/// Whether a configuration can be used in spite of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, but something is likely not as meant.
    Warning,
}

/// One thing that is wrong. No secret ever stands in its words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where.
    pub location: Location,
    /// How bad.
    pub severity: Severity,
    /// What.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Problems as they are shown: one per line, with the file's name, sorted by place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    file: PathBuf,
    problems: Vec<Problem>,
}

// === impl Location ===

impl Location {
    /// Whether it is a place in the file.
    pub fn is_known(self) -> bool {
        self.line > 0
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

// === impl Severity ===

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

// === impl Problem ===

impl Problem {
    /// A problem that forbids the configuration.
    pub fn error(location: Location, message: impl Into<String>) -> Self {
        Self { location, severity: Severity::Error, message: message.into(), hint: None }
    }

    /// A problem that does not.
    pub fn warning(location: Location, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(location, message) }
    }

    /// The same problem, with what to do about it.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Whether it forbids the configuration.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity, self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

// === impl Problems ===

impl Problems {
    /// The problems of one file.
    pub fn new(file: Option<&Path>, mut problems: Vec<Problem>) -> Self {
        problems.sort();
        Self { file: file.unwrap_or(Path::new("configuration")).to_owned(), problems }
    }

    /// The one problem of a file that cannot be read.
    pub fn unreadable(file: &Path, error: &std::io::Error) -> Self {
        let problem = Problem::error(Location::default(), format!("cannot read {error}"));
        Self::new(Some(file), vec![problem])
    }

    /// How many of them forbid the configuration.
    pub fn errors(&self) -> usize {
        self.problems.iter().filter(|problem| problem.is_error()).count()
    }

    /// Each problem as it is shown.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.problems.iter().map(|problem| self.line(problem))
    }

    /// … of those that forbid the configuration.
    pub fn mistakes(&self) -> impl Iterator<Item = String> {
        self.problems.iter().filter(|problem| problem.is_error()).map(|problem| self.line(problem))
    }

    fn line(&self, problem: &Problem) -> String {
        let file = self.file.display();
        if problem.location.is_known() {
            format!("{file}:{}: {problem}", problem.location)
        } else {
            format!("{file}: {problem}")
        }
    }

    /// The problems, sorted by place.
    pub fn as_slice(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, line) in self.lines().enumerate() {
            let break_before = if index > 0 { "\n" } else { "" };
            write!(f, "{break_before}{line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
