//! The figures of one test, and whether each is met.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::Duration;

/// Where the rows are gathered; `tools/reliability` makes a table of them.
const TABLE: &str = "FOREBAY_RELIABILITY_TABLE";

/// `report`: figures that depend on the machine are told, and fail nothing.
const MEASURED: &str = "FOREBAY_RELIABILITY_MEASURED";

/// Notes every figure, met or not, and fails the test at its end when one was missed.
pub struct Sheet {
    test: &'static str,
    missed: Vec<String>,
    held: bool,
}

impl Sheet {
    pub fn of(test: &'static str) -> Self {
        Self { test, missed: Vec::new(), held: false }
    }

    pub fn at_most(&mut self, figure: &str, bound: f64, measured: f64) {
        self.note(&format!("{figure}: at most {}", short(bound)), measured, measured <= bound);
    }

    /// A time or an amount of memory, which depends on the machine and on who else is at work there:
    /// where that is said, it is told and fails nothing.
    pub fn measured_at_most(&mut self, figure: &str, bound: f64, measured: f64) {
        let missed = self.missed.len();
        self.at_most(figure, bound, measured);
        if std::env::var(MEASURED).is_ok_and(|said| said == "report") {
            self.missed.truncate(missed);
        }
    }

    pub fn at_least(&mut self, figure: &str, bound: f64, measured: f64) {
        self.note(&format!("{figure}: at least {}", short(bound)), measured, measured >= bound);
    }

    pub fn none(&mut self, figure: &str, measured: u64) {
        self.note(&format!("{figure}: none"), count(measured), measured == 0);
    }

    fn note(&mut self, figure: &str, measured: f64, met: bool) {
        let verdict = if met { "yes" } else { "NO" };
        let row = format!("{} | {figure} | {} | {verdict}", self.test, short(measured));
        eprintln!("{row}");
        if let Ok(path) = std::env::var(TABLE) {
            let table = OpenOptions::new().create(true).append(true).open(path);
            writeln!(table.unwrap(), "{row}").unwrap();
        }
        if !met {
            self.missed.push(row);
        }
    }

    /// The test's last word.
    #[track_caller]
    pub fn hold(mut self) {
        self.held = true;
        assert!(self.missed.is_empty(), "missed:\n{}", self.missed.join("\n"));
    }
}

impl Drop for Sheet {
    fn drop(&mut self) {
        assert!(
            self.held || std::thread::panicking(),
            "{}: nobody asked for the verdict",
            self.test
        );
    }
}

/// Without digits that say nothing.
fn short(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A count as a figure.
pub fn count(number: impl TryInto<u32>) -> f64 {
    number.try_into().map_or(f64::MAX, f64::from)
}

pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
