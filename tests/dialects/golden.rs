//! Compares what came out with what was read over and kept.

use std::path::PathBuf;

use crate::root;

/// Differences found so far, so that a test names all of them at once.
#[derive(Default)]
pub struct Golden {
    differences: Vec<String>,
    known: Vec<PathBuf>,
}

impl Golden {
    /// Holds a cell to its file, or writes that.
    pub fn hold(&mut self, case: &str, dialect: &str, found: &str) {
        let path = root().join("tests/dialects/golden").join(case).join(format!("{dialect}.txt"));
        self.known.push(path.clone());
        if hold(&path, found, "UPDATE_GOLDEN").is_err() {
            self.differences.push(format!("{case}/{dialect}: {}", first_difference(&path, found)));
        }
    }

    /// Panics if there was any difference, or a file of a case that no longer is. `ours` tells the
    /// folders of this matrix.
    pub fn done(self, ours: impl Fn(&str) -> bool) {
        let folders = crate::cases::paths(&root().join("tests/dialects/golden"));
        let ours = |path: &PathBuf| ours(path.file_name().unwrap().to_str().unwrap());
        let files =
            folders.iter().filter(|path| ours(path)).flat_map(|path| crate::cases::paths(path));
        let orphans: Vec<_> = files.filter(|file| !self.known.contains(file)).collect();
        assert_eq!(orphans, Vec::<PathBuf>::new(), "files of no case");
        let (count, told) = (self.differences.len(), self.differences.join("\n"));
        assert!(self.differences.is_empty(), "{count} cells differ:\n{told}");
    }
}

/// Holds a text to its file; with the variable set, writes the file.
pub fn hold(path: &PathBuf, found: &str, variable: &str) -> Result<(), String> {
    #[expect(clippy::disallowed_methods, reason = "a switch of the test's own")]
    let update = std::env::var(variable).is_ok();
    if std::fs::read_to_string(path).is_ok_and(|known| known == found) {
        return Ok(());
    }
    if !update {
        return Err(first_difference(path, found));
    }
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, found).unwrap();
    Ok(())
}

fn first_difference(path: &PathBuf, found: &str) -> String {
    let known = std::fs::read_to_string(path).unwrap_or_default();
    let differing = known.lines().zip(found.lines()).position(|(known, found)| known != found);
    let at = differing.unwrap_or_else(|| known.lines().count().min(found.lines().count()));
    let line = |text: &str| text.lines().nth(at).unwrap_or("(nothing)").to_owned();
    format!("line {}\n  file:  {}\n  found: {}", at + 1, line(&known), line(found))
}
