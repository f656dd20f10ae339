//! `forebay import`: another gateway's configuration as a `forebay.yaml`.
//!
//! A file becomes a tree in which every leaf is accounted for (`source`); one reader per program
//! makes a [`draft`] of it; what has no equivalent is in the [`listing`], and what a reader did not
//! ask for is put there at the end. So nothing is dropped in silence, whatever a file holds.

mod draft;
mod gpt_api;
mod listing;
mod litellm;
mod llm_proxy;
mod settle;
mod source;
#[cfg(test)]
mod tests;
mod words;
mod yaml;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use self::listing::Listing;
use self::source::Item;
use self::words::Words;
use super::complain;
use crate::config::{Problems, outline, read_text};

#[derive(clap::Args)]
#[group(skip)]
pub struct Arguments {
    /// Whose file it is
    from: From,
    /// The file
    file: PathBuf,
    /// Where the result goes [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// End with exit code 1 when something has no equivalent
    #[arg(long)]
    strict: bool,
    /// Write secrets out that stand in the file, instead of variables for them
    #[arg(long)]
    with_secrets: bool,
}

/// A program whose configuration can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum From {
    GptApi,
    LlmProxy,
    Litellm,
}

/// What became of a file.
#[derive(Debug)]
struct Imported {
    yaml: String,
    listing: Listing,
}

/// Prints the result, then what it could not say. Exit codes: 0 when all of the file was translated
/// or listed, 1 with `--strict` when something was listed, 2 when it could not be read.
pub fn import(arguments: &Arguments) -> ExitCode {
    let file = &arguments.file;
    let text = match read_text(file) {
        Ok(text) => text,
        Err(error) => {
            complain(Problems::unreadable(file, &error));
            return ExitCode::from(2);
        }
    };
    let name = file.display().to_string();
    let imported = match translate(arguments.from, &text, &name, arguments.with_secrets) {
        Ok(imported) => imported,
        Err(why) => {
            complain(why);
            return ExitCode::from(2);
        }
    };
    if let Err(error) = write(arguments.output.as_deref(), &imported.yaml) {
        complain(error);
        return ExitCode::FAILURE;
    }
    let told = imported.listing.told(&name);
    if !told.is_empty() {
        complain(told.trim_end());
    }
    if arguments.strict && !imported.listing.is_empty() {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Translates a text; `name` is what the file is called in the result.
fn translate(from: From, text: &str, name: &str, with_secrets: bool) -> Result<Imported, String> {
    let tree = outline(text)
        .map_err(|mistakes| Problems::new(Some(Path::new(name)), mistakes).to_string())?;
    let root = Item::root(&tree);
    let listing = Listing::of(text);
    let os_environ = from == From::Litellm;
    let given = if os_environ && with_secrets { litellm::given(&root) } else { BTreeMap::new() };
    let words = Words { listing: &listing, with_secrets, os_environ, given };
    let draft = match from {
        From::GptApi => gpt_api::translate(&root, &words),
        From::LlmProxy => llm_proxy::translate(&root, &words),
        From::Litellm => litellm::translate(&root, &words),
    };
    let Some(draft) = draft else {
        return Err(format!(
            "{name}: no configuration of {}: `{}` is missing",
            from.name(),
            from.section()
        ));
    };
    root.list_rest(&listing, |path| from.unread(path));
    let yaml = draft.document(&head(from, name, &listing));
    Ok(Imported { yaml, listing })
}

/// What stands above the result.
fn head(from: From, name: &str, listing: &Listing) -> String {
    let base = Path::new(name).file_name().unwrap_or_default().to_string_lossy();
    let base: String = base.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    let mut head = format!("From {base}, a configuration of {}.\n", from.name());
    let variables = listing.variables();
    if !variables.is_empty() {
        head.push_str("What stood there, and is to be set in the environment or in a file `.env` beside this one:\n");
        for variable in variables {
            head.push_str("  ");
            head.push_str(&variable);
            head.push_str("=\n");
        }
    }
    head
}

/// Writes to a file that nobody else reads, or to standard output.
pub fn write(path: Option<&Path>, yaml: &str) -> Result<(), String> {
    let Some(path) = path else {
        let mut out = std::io::stdout().lock();
        return out.write_all(yaml.as_bytes()).map_err(|error| error.to_string());
    };
    private_file(path)
        .and_then(|mut file| file.write_all(yaml.as_bytes()))
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// It may hold secrets, so nobody else reads it.
fn private_file(path: &Path) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    // One that was there keeps its mode, and it may be a device.
    if file.metadata()?.is_file() {
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

// === impl From ===

impl From {
    fn name(self) -> &'static str {
        match self {
            Self::GptApi => "GPT_API",
            Self::LlmProxy => "LLM Proxy",
            Self::Litellm => "LiteLLM",
        }
    }

    /// The section without which there is nothing to translate.
    fn section(self) -> &'static str {
        match self {
            Self::GptApi => "openai_clients",
            Self::LlmProxy => "providers",
            Self::Litellm => "model_list",
        }
    }

    /// Why nobody asked for what stands at `path`.
    fn unread(self, path: &str) -> String {
        let why = match self {
            Self::GptApi => gpt_api::unread(path),
            Self::LlmProxy => None,
            Self::Litellm => litellm::unread(path),
        };
        match why {
            Some(why) => why.to_owned(),
            None => format!("not known as a setting of {}, so it was left out", self.name()),
        }
    }
}
