//! What the gateway costs, beside a bare pingora proxy under the same load in the same run.
//!
//! Processor time per request and memory, as a Markdown table. Only the ratios mean anything on
//! another machine. `cargo bench --bench end_to_end`, with `-- --help` for what can be said.
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
use self::workload::Workload;

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
        let times = bench.time(&proxies, workload, arguments.rounds, requests).await;
        report.times.push((workload, times));
    }
    if !report.times.is_empty() {
        report.memory = Some((begun, proxies.memory()));
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
        report.limited = bench.time(&proxies, Workload::Limited, arguments.rounds, requests).await;
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
            println!("| CPU time per request | bare pingora | gateway | ratio (min..max) |");
            println!("|---|--:|--:|--:|");
        }
        for (workload, times) in self.times.iter().filter(|(_, times)| !times.is_empty()) {
            ratios(workload.title(), times);
        }
        if !self.limited.is_empty() {
            println!("\n| CPU time per request | `anonymous` | limited | ratio (min..max) |");
            println!("|---|--:|--:|--:|");
            ratios(Workload::Limited.title(), &self.limited);
        }
        if self.memory.is_some() || !self.growths.is_empty() {
            println!("\n| memory | bare pingora | gateway | difference |\n|---|--:|--:|--:|");
        }
        if let Some((begun, ended)) = self.memory {
            let mebibytes = |kibibytes: u64| kibibytes as f64 / 1024.0;
            row("after the start", "MiB", begun.map(|memory| mebibytes(memory.now)));
            row("highest under the loads above", "MiB", ended.map(|m| mebibytes(m.peak)));
        }
        if !self.growths.is_empty() {
            let bare = median(self.growths.iter().map(|pair| pair.bare));
            let gateway = median(self.growths.iter().map(|pair| pair.gateway));
            row(Workload::Idle.title(), "KiB", Pair { bare, gateway });
        }
    }
}

impl<T> Pair<T> {
    fn map<U>(self, change: impl Fn(T) -> U) -> Pair<U> {
        Pair { bare: change(self.bare), gateway: change(self.gateway) }
    }
}

fn ratios(title: &str, times: &[Pair<f64>]) {
    let bare = median(times.iter().map(|pair| pair.bare));
    let gateway = median(times.iter().map(|pair| pair.gateway));
    let ratios = times.iter().map(|pair| pair.gateway / pair.bare);
    let least = ratios.clone().fold(f64::INFINITY, f64::min);
    let most = ratios.clone().fold(0.0, f64::max);
    let ratio = median(ratios);
    println!("| {title} | {bare:.0} µs | {gateway:.0} µs | {ratio:.2} ({least:.2}..{most:.2}) |");
}

fn row(title: &str, unit: &str, Pair { bare, gateway }: Pair<f64>) {
    let more = gateway - bare;
    println!("| {title} | {bare:.1} {unit} | {gateway:.1} {unit} | {more:+.1} {unit} |");
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
