//! Requests, answers and streams of this dialect are read without a panic, and told to everybody.
#![no_main]

mod readers;

use forebay::config::Dialect;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| readers::read(Dialect::Anthropic, input));
