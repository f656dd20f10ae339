//! Panics: each is counted, and told without what it says when that may be a caller's.

use std::panic::PanicHookInfo;

use prometheus::IntCounter;

/// Counts panics from here on, in every thread, and logs where they happen.
pub fn watch(counter: IntCounter) {
    std::panic::set_hook(Box::new(move |panic| {
        counter.inc();
        log::error!("{}", describe(panic));
    }));
}

/// A message that stands in the source is told. One that was put together may hold what a caller
/// or a provider sent.
fn describe(panic: &PanicHookInfo) -> String {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let said = panic.payload().downcast_ref::<&'static str>();
    let said = said.map(|said| format!(": {said}")).unwrap_or_default();
    format!("thread {thread} panicked at {place}{said}")
}
