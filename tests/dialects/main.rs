//! What crosses from one dialect into another, held to files that can be read.
//!
//! Answers: every recorded one (`tests/fixtures/recorded`) and those written here (`written/`, what the
//! recordings lack) × the five dialects a client may speak. Requests: those in `asked/` × what the
//! five dialects of providers make of them. A cell is a file below `golden/`: `golden/<case>/<dialect>.txt`.
//! `UPDATE_GOLDEN=1` writes them anew, `UPDATE_DOCS=1` writes `docs/dialects.md`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is the finding"
)]

mod answers;
mod asking;
mod cases;
mod crossing;
mod documentation;
mod fields;
mod golden;
mod laws;
mod providers;
mod readable;
mod requests;
mod samples;
mod sizes;
mod validators;

use forebay::config::Dialect;

/// The dialects, and what their files are called.
const DIALECTS: [(Dialect, &str); 5] = [
    (Dialect::OpenaiChat, "openai_chat"),
    (Dialect::OpenaiResponses, "openai_responses"),
    (Dialect::Anthropic, "anthropic"),
    (Dialect::Gemini, "gemini"),
    (Dialect::Bedrock, "bedrock"),
];

fn root() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}
