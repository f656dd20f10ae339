//! A failure is understood whatever its body, and told to everybody.
#![no_main]

#[expect(dead_code, reason = "the other targets' part")]
mod readers;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| readers::failure(input));
