//! How files look from outside, so that a change shows without reading them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How some files looked at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamp(Vec<(PathBuf, Option<Mark>)>);

/// One file. The target changes when a symlink on the way is switched, the inode when an editor
/// puts a new file in place, the rest when it is written to or its permissions change.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    target: PathBuf,
    inode: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Looks at these files. One that is not there, or cannot be looked at, has no mark.
    pub fn of(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut marks: Vec<(PathBuf, Option<Mark>)> = Vec::new();
        for path in paths {
            if !marks.iter().any(|(known, _)| *known == path) {
                let mark = Mark::of(&path);
                marks.push((path, mark));
            }
        }
        Self(marks)
    }

    /// Looks at the same files again.
    #[must_use]
    pub fn again(&self) -> Self {
        Self::of(self.0.iter().map(|(path, _)| path.clone()))
    }

    /// This, and what it does not know yet from `other`.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        for (path, mark) in other.0 {
            if !self.0.iter().any(|(known, _)| *known == path) {
                self.0.push((path, mark));
            }
        }
        self
    }
}

impl Mark {
    fn of(path: &Path) -> Option<Self> {
        let target = path.canonicalize().ok()?;
        let found = target.metadata().ok()?;
        Some(Self {
            target,
            inode: (found.dev(), found.ino()),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder with a file in it, and whether the file looks changed after `change`.
    fn shows(change: impl FnOnce(&Path, &Path)) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "one").unwrap();
        let before = Stamp::of([file.clone()]);
        assert_eq!(before, before.again());
        change(folder.path(), &file);
        before != before.again()
    }

    #[test]
    fn every_way_to_change_a_file_shows() {
        assert!(shows(|_, file| fs::write(file, "other").unwrap()), "written");
        assert!(shows(|_, file| fs::remove_file(file).unwrap()), "removed");
        assert!(
            shows(|folder, file| {
                fs::write(folder.join("new"), "two").unwrap();
                fs::rename(folder.join("new"), file).unwrap();
            }),
            "replaced by another"
        );
        assert!(
            shows(|_, file| {
                // The same size, and the time of the one before.
                let time = fs::metadata(file).unwrap().modified().unwrap();
                fs::remove_file(file).unwrap();
                fs::write(file, "two").unwrap();
                fs::File::options().write(true).open(file).unwrap().set_modified(time).unwrap();
            }),
            "replaced, with the old time"
        );
        assert!(!shows(|_, file| drop(fs::read(file).unwrap())), "read");
        assert!(!shows(|folder, _| fs::write(folder.join("other"), "x").unwrap()), "a neighbour");
    }

    #[test]
    fn a_switched_symlink_on_the_way_shows() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for version in ["one", "two"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("file"), "same").unwrap();
        }
        symlink("one", at("..data")).unwrap();
        symlink("..data/file", at("file")).unwrap();
        let before = Stamp::of([at("file")]);
        symlink("two", at("..new")).unwrap();
        fs::rename(at("..new"), at("..data")).unwrap();
        assert_ne!(before, before.again());
    }

    #[test]
    fn a_file_counts_once_and_as_it_was_seen_first() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        let before = Stamp::of([file.clone()]);
        fs::write(&file, "one").unwrap();
        let both = before.clone().with(Stamp::of([file.clone(), file]));
        assert_eq!(both, before);
    }
}
