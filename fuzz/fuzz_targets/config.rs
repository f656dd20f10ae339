//! Any text is a configuration or has mistakes; none makes the loader panic.
#![no_main]

use forebay::config::{Source, load};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;

fuzz_target!(|text: &str| {
    let source = Source { path: None, text: text.to_owned(), environment: BTreeMap::new() };
    if let Err(problems) = load(&source) {
        assert!(!problems.is_empty(), "refused without saying why");
    }
});
