//! What the gateway costs, beside a bare pingora proxy under the same load in the same run.
//!
//! Processor time per request and memory, as Markdown tables with what is to be reached. Only the
//! ratios mean anything on another machine. `cargo bench --bench end_to_end`, with `-- --help` for what can be said.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for engineers: it ends where it cannot go on, and talks to its terminal"
)]

mod answers;
mod bare;
mod callers;
mod load;
mod measure;
mod process;
mod upstream;
mod workload;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::runtime::{Builder, Runtime};

use self::measure::{Bench, Pair};
use self::process::Memory;
use self::workload::{Side, Workload};

/// The gateway's allocator, for the bare proxy too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the gateway costs, beside a bare pingora proxy
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
struct Arguments {
    /// Rounds of each workload, bare and gateway in turns
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Requests in a round [default: by workload]
    #[arg(long)]
    requests: Option<usize>,
    /// Measure this workload only; may be given more than once
    #[arg(long, value_name = "NAME")]
    only: Vec<Workload>,
    /// The gateway to measure
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_forebay"))]
    gateway: PathBuf,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What this program is, when it has started itself.
#[derive(Subcommand)]
enum Role {
    #[command(hide = true)]
    Upstream { listen: SocketAddr },
    #[command(hide = true)]
    Bare { listen: SocketAddr, upstream: SocketAddr, threads: usize },
}

/// Everything that is told at the end.
#[derive(Default)]
struct Report {
    times: Vec<(Workload, Vec<Pair<f64>>)>,
    /// After the start, and after all timed workloads.
    memory: Option<(Pair<Memory>, Pair<Memory>)>,
    growths: Vec<Pair<f64>>,
    /// Without and with limits.
    limited: Vec<Pair<f64>>,
    /// Without and with rows.
    audited: Vec<Pair<f64>>,
    /// Untranslated and translated.
    translated: Vec<(Workload, Vec<Pair<f64>>)>,
    /// In turn and by prefix.
    chosen: Vec<(Workload, Vec<Pair<f64>>)>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.role {
        Some(Role::Upstream { listen }) => {
            runtime().block_on(upstream::serve(listen));
            ExitCode::SUCCESS
        }
        Some(Role::Bare { listen, upstream, threads }) => bare::serve(listen, upstream, threads),
        None => runtime().block_on(run(&arguments)),
    }
}

fn runtime() -> Runtime {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime should start")
}

async fn run(arguments: &Arguments) -> ExitCode {
    if cfg!(debug_assertions) {
        eprintln!("this build is not optimised: its numbers mean nothing");
    }
    let wanted = |workload| arguments.only.is_empty() || arguments.only.contains(&workload);
    let mut bench = Bench::new(arguments.gateway.clone());
    let mut report = Report::default();
    let proxies = bench.start();
    eprintln!("bare: process {}, gateway: {}", proxies.bare.id(), proxies.gateway.id());
    let begun = proxies.memory();
    for workload in Workload::TIMED.into_iter().filter(|workload| wanted(*workload)) {
        let requests = arguments.requests.unwrap_or(workload.requests());
        let times = bench.time(proxies.each(), workload, arguments.rounds, requests).await;
        report.times.push((workload, times));
    }
    if !report.times.is_empty() {
        report.memory = Some((begun, proxies.memory()));
    }
    let of_gateway = Workload::TRANSLATED.into_iter().chain(Workload::CHOSEN);
    for workload in of_gateway.filter(|workload| wanted(*workload)) {
        let requests = arguments.requests.unwrap_or(workload.requests());
        let gateway = proxies.gateway_alone();
        let times = bench.time(gateway, workload, arguments.rounds, requests).await;
        let chosen = Workload::CHOSEN.contains(&workload);
        let table = if chosen { &mut report.chosen } else { &mut report.translated };
        table.push((workload, times));
    }
    if [&report.times, &report.translated, &report.chosen].iter().any(|table| !table.is_empty()) {
        bench.check_usage(&proxies).await;
    }
    drop(proxies);
    if wanted(Workload::Idle) {
        let streams = arguments.requests.unwrap_or(Workload::Idle.requests());
        report.growths = bench.idle(streams).await;
    }
    if wanted(Workload::Limited) {
        let proxies = bench.start_limited().await;
        let requests = arguments.requests.unwrap_or(Workload::Limited.requests());
        report.limited =
            bench.time(proxies.each(), Workload::Limited, arguments.rounds, requests).await;
    }
    if wanted(Workload::Audited) {
        let proxies = bench.start_audited();
        let requests = arguments.requests.unwrap_or(Workload::Audited.requests());
        report.audited =
            bench.time(proxies.each(), Workload::Audited, arguments.rounds, requests).await;
    }
    report.print();
    if bench.failures > 0 {
        eprintln!("{} requests failed", bench.failures);
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

impl Report {
    fn print(&self) {
        if !self.times.is_empty() {
            heads("CPU time per request", "bare pingora", "gateway");
        }
        for (workload, times) in &self.times {
            ratios(*workload, times);
        }
        if !self.translated.is_empty() {
            println!();
            heads("CPU time", "untranslated", "translated");
        }
        for (workload, times) in &self.translated {
            ratios(*workload, times);
        }
        if !self.chosen.is_empty() {
            println!();
            heads("CPU time per request", "`round_robin`", "`prefix_affinity`");
        }
        for (workload, times) in &self.chosen {
            ratios(*workload, times);
        }
        if !self.limited.is_empty() {
            println!();
            heads("CPU time per request", "`anonymous`", "limited");
            ratios(Workload::Limited, &self.limited);
        }
        if !self.audited.is_empty() {
            println!();
            heads("CPU time per request", "no audit", "audited");
            ratios(Workload::Audited, &self.audited);
        }
        if self.memory.is_some() || !self.growths.is_empty() {
            println!("\n| memory | bare pingora | gateway | difference | limit | |");
            println!("|---|--:|--:|--:|--:|---|");
        }
        if let Some((begun, ended)) = self.memory {
            let mebibytes = |kibibytes: u64| kibibytes as f64 / 1024.0;
            row("after the start", "MiB", begun.map(|memory| mebibytes(memory.now)), None);
            row("highest under the loads above", "MiB", ended.map(|m| mebibytes(m.peak)), None);
        }
        if !self.growths.is_empty() {
            let bare = median(self.growths.iter().map(|pair| pair.bare));
            let gateway = median(self.growths.iter().map(|pair| pair.gateway));
            let idle = Workload::Idle;
            row(idle.title(), "KiB", Pair { bare, gateway }, idle.limit());
        }
    }
}

impl<T> Pair<T> {
    fn map<U>(self, change: impl Fn(T) -> U) -> Pair<U> {
        Pair { bare: change(self.bare), gateway: change(self.gateway) }
    }
}

fn heads(what: &str, bare: &str, gateway: &str) {
    println!("| {what} | {bare} | {gateway} | ratio (min..max) | limit | |");
    println!("|---|--:|--:|--:|--:|---|");
}

fn ratios(workload: Workload, times: &[Pair<f64>]) {
    if times.is_empty() {
        return;
    }
    let parts = [Side::Bare, Side::Gateway].map(|side| workload.parts(side) as f64);
    let times = times.iter().map(|pair| (pair.bare / parts[0], pair.gateway / parts[1]));
    let bare = median(times.clone().map(|(bare, _)| bare));
    let gateway = median(times.clone().map(|(_, gateway)| gateway));
    let ratios = times.map(|(bare, gateway)| gateway / bare);
    let least = ratios.clone().fold(f64::INFINITY, f64::min);
    let most = ratios.clone().fold(0.0, f64::max);
    let ratio = median(ratios);
    let digits = usize::from(bare < 30.0);
    let (title, limit) = (workload.title(), judged(ratio, workload.limit(), ""));
    println!(
        "| {title} | {bare:.digits$} µs | {gateway:.digits$} µs \
         | {ratio:.2} ({least:.2}..{most:.2}) | {limit} |"
    );
}

fn row(title: &str, unit: &str, Pair { bare, gateway }: Pair<f64>, limit: Option<f64>) {
    let more = gateway - bare;
    let limit = judged(more, limit, unit);
    println!("| {title} | {bare:.1} {unit} | {gateway:.1} {unit} | {more:+.1} {unit} | {limit} |");
}

/// Two cells: what was to be reached, and whether it was.
fn judged(reached: f64, limit: Option<f64>, unit: &str) -> String {
    let Some(limit) = limit else { return "|".to_owned() };
    let verdict = if reached <= limit { "met" } else { "MISSED" };
    format!("{limit:.2} {unit} | {verdict}").replace("  ", " ")
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        _ if values.is_empty() => f64::NAN,
        0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}
