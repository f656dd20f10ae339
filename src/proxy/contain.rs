//! A panic in a phase becomes a failure like any other: its request alone ends, and its caller is told.
//!
//! Elsewhere a panic ends the request's task. What is counted is counted by guards for that reason.

use std::panic::{AssertUnwindSafe, catch_unwind};

use futures::FutureExt;
use pingora::{Error, ErrorType, Result};

/// Pingora's name for the error that stands for a panic.
pub const PANICKED: ErrorType = ErrorType::Custom("Panicked");

/// What a phase comes to. No `async fn`: that would hold the phase twice, as what it was given and
/// as what it waits for.
pub fn contained<T>(phase: impl Future<Output = Result<T>>) -> impl Future<Output = Result<T>> {
    // What the panic left half-done is the request's own, and is only told about and dropped.
    AssertUnwindSafe(phase).catch_unwind().map(|done| done.unwrap_or_else(|_| panicked()))
}

/// What a phase that waits for nothing comes to.
pub fn contain<T>(phase: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(phase)).unwrap_or_else(|_| panicked())
}

fn panicked<T>() -> Result<T> {
    Error::e_explain(PANICKED, "a phase of the request panicked")
}
