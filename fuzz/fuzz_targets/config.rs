//! Any text is a configuration or has mistakes; none makes the loader panic.
#![no_main]

use forebay::config::{Source, load};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let source = Source { text: text.to_owned(), ..Source::default() };
    if let Err(problems) = load(&source) {
        assert!(!problems.is_empty(), "refused without saying why");
    }
});
