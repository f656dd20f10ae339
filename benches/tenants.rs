//! What `admission` makes of two callers who share a cluster, one of whom asks ten times as much as the
//! other: simulated vLLM servers, the gate's and the policies' own code. `cargo bench --bench tenants`
//! (`-- 100` for as many simulated seconds), or a small run with `cargo test --bench tenants`.
//!
//! A server works in steps: each running request gets one token, and what is left of the step's budget
//! goes to prompts, first come first served and in chunks. Prefix caches and the KV cache's size are
//! left out: `replicas` has them. Traffic is open loop.
//!
//! Two figures: Jain's index of what each got against what is its due (all it asks, up to an equal
//! share; what one leaves is the other's), in tokens of prompts and answers that were served; and how
//! much longer the small caller waits for its first token than it would alone.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a simulation prints what it finds, in rounded numbers"
)]

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use forebay::balance::{Ask, Entry, Pick, Place, Pool, Request, Ticket};
use forebay::config::{
    Admission, Endpoint, HealthCheck, Kind, LoadBalancing, Percent, Provider, Rank, Url,
};
use futures::FutureExt as _;

const SERVERS: usize = 4;
// A server like an 8B model on one large GPU.
/// `max_num_seqs`.
const PLACES: usize = 256;
/// `max_num_batched_tokens`.
const BUDGET: usize = 512;
/// Microseconds of a step, of each token decoded in it, and of each token of a prompt.
const STEP: u64 = 8000;
const DECODE: u64 = 80;
const PREFILL: u64 = 60;
/// `admission.max_concurrent`.
const BOUND: u32 = 24;
/// Mean tokens of a prompt and of an answer; none is longer than four times that.
const PROMPT: f64 = 600.0;
const ANSWER: f64 = 180.0;
const SECOND: u64 = 1_000_000;

/// Requests in a second of the small caller, and how many times that the large one's are.
struct Offer {
    name: &'static str,
    small: f64,
    times: f64,
}

const OFFERS: [Offer; 2] = [
    Offer { name: "the small one asks for a part of its share", small: 5.0, times: 10.0 },
    Offer { name: "both ask for more than their share", small: 40.0, times: 10.0 },
];

fn main() {
    let told = std::env::args().find_map(|argument| argument.parse().ok());
    let seconds: u64 = told.unwrap_or(if cfg!(debug_assertions) { 10 } else { 300 });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let _within = runtime.enter();
    for offer in OFFERS {
        println!(
            "\n{}: {} and {} requests a second, {SERVERS} servers, {seconds} s",
            offer.name,
            offer.small,
            offer.small * offer.times
        );
        println!(
            "{:<16}{:>9}{:>9}{:>12}{:>12}{:>14}{:>14}",
            "admission", "small", "large", "Jain index", "p50 TTFT", "p99 TTFT", "p99 to alone"
        );
        let alone = runtime.block_on(pool(Some(BOUND)));
        let alone = Simulation::new(&alone, [offer.small, 0.0]).run(seconds * SECOND);
        let alone_p99 = alone.first_token(99);
        println!("{}", alone.line("small alone", alone_p99));
        for (name, bound) in [("off", None), ("on", Some(BOUND))] {
            let pool = runtime.block_on(pool(bound));
            let rates = [offer.small, offer.small * offer.times];
            let found = Simulation::new(&pool, rates).run(seconds * SECOND);
            println!("{}", found.line(name, alone_p99));
        }
    }
}

async fn pool(bound: Option<u32>) -> Pool {
    let endpoint = |port| {
        let url = Url { https: false, host: "127.0.0.1".to_owned(), port, path: String::new() };
        Endpoint { url, weight: 1 }
    };
    let endpoints = (1..).take(SERVERS).map(endpoint).collect();
    let mut provider = Provider::new("p", Kind::Vllm, endpoints);
    provider.load_balancing = LoadBalancing::LeastRequests;
    provider.health_check = HealthCheck::None;
    provider.admission = bound.map(|max_concurrent| Admission {
        max_concurrent,
        queue: 1024,
        wait: Duration::from_hours(1),
        spill_after: None,
        kv_limit: Percent(100),
        priority: false,
    });
    let pool = Pool::new(&provider, None);
    pool.refresh().await;
    pool
}

/// Numbers that look random and are the same in every run (`SplitMix64`).
struct Random(u64);

impl Random {
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Exponentially distributed.
    fn around(&mut self, mean: f64) -> f64 {
        -(1.0 - self.share()).ln() * mean
    }

    fn tokens(&mut self, mean: f64) -> usize {
        (self.around(mean).min(4.0 * mean) as usize).max(1)
    }
}

/// A request, at the gate or at a server.
struct Job {
    tenant: usize,
    arrived: u64,
    prompt: usize,
    answer: usize,
    answered: usize,
    /// Tokens of the prompt yet to be worked out, and those of this step.
    left: usize,
    share: usize,
    pick: Option<Pick>,
}

impl Request for Job {
    fn tokens(&self) -> u64 {
        self.prompt as u64
    }
}

#[derive(Default)]
struct Server {
    waiting: VecDeque<Job>,
    running: Vec<Job>,
    busy: bool,
}

impl Server {
    /// Takes in whom it can, and gives the length of the step; `None` with nothing to do.
    fn begin_step(&mut self) -> Option<u64> {
        while self.running.len() < PLACES
            && let Some(job) = self.waiting.pop_front()
        {
            self.running.push(job);
        }
        let decoded = self.running.iter().filter(|job| job.left == 0).count();
        let mut budget = BUDGET.saturating_sub(decoded);
        let mut prefilled = 0;
        for job in self.running.iter_mut().filter(|job| job.left > 0) {
            job.share = job.left.min(budget);
            budget -= job.share;
            prefilled += job.share as u64;
        }
        let idle = decoded == 0 && prefilled == 0;
        (!idle).then(|| STEP + decoded as u64 * DECODE + prefilled * PREFILL)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Ask(usize),
    StepEnd(usize),
}

struct Simulation<'p> {
    pool: &'p Pool,
    names: [Arc<str>; 2],
    rates: [f64; 2],
    servers: Vec<Server>,
    random: [Random; 2],
    agenda: BinaryHeap<Reverse<(u64, u64, Event)>>,
    numbers: u64,
    waiting: Vec<(Ticket, Job)>,
    found: Found,
}

/// What came of it, by caller: the small one first.
#[derive(Default)]
struct Found {
    asked: [u64; 2],
    served: [u64; 2],
    first_tokens: Vec<u64>,
}

impl<'p> Simulation<'p> {
    fn new(pool: &'p Pool, rates: [f64; 2]) -> Self {
        Self {
            pool,
            names: [Arc::from("small"), Arc::from("large")],
            rates,
            servers: (0..SERVERS).map(|_| Server::default()).collect(),
            random: [Random(1), Random(2)],
            agenda: BinaryHeap::new(),
            numbers: 0,
            waiting: Vec::new(),
            found: Found::default(),
        }
    }

    fn run(mut self, until: u64) -> Found {
        for tenant in 0..2 {
            self.plan_next(0, tenant);
        }
        while let Some(Reverse((now, _, event))) = self.agenda.pop() {
            if now > until {
                break;
            }
            // The first fifth fills the servers, and does not count.
            let counts = now > until / 5;
            match event {
                Event::Ask(tenant) => self.ask(now, tenant, counts),
                Event::StepEnd(server) => self.end_step(now, server, counts),
            }
        }
        self.found
    }

    fn plan(&mut self, at: u64, event: Event) {
        self.numbers += 1;
        self.agenda.push(Reverse((at, self.numbers, event)));
    }

    fn plan_next(&mut self, now: u64, tenant: usize) {
        if self.rates[tenant] > 0.0 {
            let pause = self.random[tenant].around(SECOND as f64 / self.rates[tenant]);
            self.plan(now + pause as u64, Event::Ask(tenant));
        }
    }

    fn ask(&mut self, now: u64, tenant: usize, counts: bool) {
        let (prompt, answer) =
            (self.random[tenant].tokens(PROMPT), self.random[tenant].tokens(ANSWER));
        self.plan_next(now, tenant);
        if counts {
            self.found.asked[tenant] += (prompt + answer) as u64;
        }
        let job = Job {
            tenant,
            arrived: now,
            prompt,
            answer,
            answered: 0,
            left: prompt,
            share: 0,
            pick: None,
        };
        let caller = Arc::clone(&self.names[tenant]);
        let ask = Ask { caller, rank: Rank::default(), tokens: prompt as u64 };
        match self.pool.gate().enter(&ask) {
            Entry::Free(place) => self.begin(now, job, place),
            Entry::Full(_) => {
                if let Ok(ticket) = self.pool.gate().join(&ask, false) {
                    self.waiting.push((ticket, job));
                    // Somebody may have had to go for it.
                    self.call(now);
                }
            }
        }
    }

    /// Lets those go on that were given a place.
    fn call(&mut self, now: u64) {
        let mut index = 0;
        while index < self.waiting.len() {
            match self.waiting[index].0.called().now_or_never() {
                None => index += 1,
                Some(told) => {
                    let (_, job) = self.waiting.remove(index);
                    if let Ok(place) = told {
                        self.begin(now, job, Some(place));
                    }
                }
            }
        }
    }

    fn begin(&mut self, now: u64, mut job: Job, place: Option<Place>) {
        let mut pick = self.pool.pick(&job).expect("all are healthy");
        pick.in_flight.take(place);
        let index = usize::from(pick.replica().address.port()) - 1;
        job.pick = Some(pick);
        self.servers[index].waiting.push_back(job);
        self.begin_step(now, index);
    }

    fn begin_step(&mut self, now: u64, index: usize) {
        let server = &mut self.servers[index];
        if server.busy {
            return;
        }
        if let Some(length) = server.begin_step() {
            server.busy = true;
            self.plan(now + length, Event::StepEnd(index));
        }
    }

    fn end_step(&mut self, now: u64, index: usize, counts: bool) {
        let server = &mut self.servers[index];
        server.busy = false;
        let mut ended = Vec::new();
        for mut job in std::mem::take(&mut server.running) {
            let decoding = job.left == 0;
            job.left -= std::mem::take(&mut job.share);
            if !decoding && job.left == 0 {
                if let Some(pick) = &job.pick {
                    self.pool.answered(pick);
                }
                if counts {
                    self.found.served[job.tenant] += job.prompt as u64;
                    if job.tenant == 0 {
                        self.found.first_tokens.push(now - job.arrived);
                    }
                }
            }
            if job.left == 0 {
                job.answered += 1;
                self.found.served[job.tenant] += u64::from(counts);
            }
            if job.answered >= job.answer {
                ended.push(job);
            } else {
                server.running.push(job);
            }
        }
        let some_ended = !ended.is_empty();
        for job in ended {
            if let Some(pick) = &job.pick {
                pick.in_flight.settle((job.prompt + job.answer) as u64);
                self.pool.succeeded(pick);
            }
        }
        if some_ended {
            self.call(now);
        }
        self.begin_step(now, index);
    }
}

impl Found {
    fn first_token(&self, percent: usize) -> f64 {
        let mut sorted = self.first_tokens.clone();
        sorted.sort_unstable();
        let at = sorted.len() * percent / 100;
        sorted.get(at).copied().unwrap_or_default() as f64 / 1e3
    }

    /// Jain's index of what each got of its due.
    fn jain(&self) -> f64 {
        let all = self.served.iter().sum::<u64>();
        let small = self.asked[0].min(all / 2);
        let large = self.asked[1].min(all - small);
        let shares: Vec<f64> = [small, large]
            .iter()
            .zip(self.served)
            .filter(|(due, _)| **due > 0)
            .map(|(due, served)| served as f64 / *due as f64)
            .collect();
        let sum = shares.iter().sum::<f64>();
        let squares = shares.iter().map(|share| share * share).sum::<f64>();
        sum * sum / (shares.len() as f64 * squares)
    }

    fn line(&self, name: &str, alone: f64) -> String {
        let [small, large] = self.served.map(|tokens| tokens as f64 / 1e6);
        let (p50, p99) = (self.first_token(50), self.first_token(99));
        let (jain, ratio) = (self.jain(), p99 / alone);
        format!(
            "{name:<16}{small:>7.2} M{large:>7.2} M{jain:>12.3}{p50:>9.0} ms{p99:>11.0} ms{ratio:>14.2}"
        )
    }
}
