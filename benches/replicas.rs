//! What each policy of `load_balancing` makes of several vLLM servers: simulated servers, the policies'
//! own code. `cargo bench --bench replicas` (`-- 100` for as many simulated seconds), or a small run with
//! `cargo test --bench replicas`.
//!
//! A server works in steps, as vLLM's scheduler does: each running request gets one token, and what is
//! left of the step's budget goes to prompts, first come first served and in chunks. A request begins
//! when there is a place among the running and room in the KV cache for its prompt and its answer.
//! Prompts and answers stay in the cache in blocks of 16 tokens until the longest unused give way.
//! `benches/routers` has the same servers in real time, for other routers.
//! Preemption, CUDA graphs and speculative decoding are left out; a step's cost is linear in its tokens.
//!
//! Traffic is open loop: chats begin at random moments whatever the servers do, and each goes on a
//! while after it was answered.

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
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use forebay::balance::{Pick, Pool, Prompt, Replica, Report, Request};
use forebay::config::{Endpoint, HealthCheck, Kind, LoadBalancing, Provider, Url};

const SERVERS: usize = 4;
/// Bytes of a token, and of a block of 16.
const TOKEN: usize = 4;
const BLOCK: usize = 16 * TOKEN;

// A server like an 8B model on one large GPU, with a small cache.
/// `max_num_seqs`.
const PLACES: usize = 64;
/// `max_num_batched_tokens`.
const BUDGET: usize = 2048;
/// Blocks of its KV cache: 128k tokens.
const CACHE: usize = 8000;
/// Microseconds of a step, of each token decoded in it, and of each token of a prompt.
const STEP: u64 = 8000;
const DECODE: u64 = 80;
const PREFILL: u64 = 60;

/// What is asked of the servers.
#[derive(Clone, Copy)]
struct Traffic {
    name: &'static str,
    /// Chats begun in a second.
    rate: f64,
    /// System prompts there are, some of them far more common than others, and their tokens.
    systems: u64,
    system: usize,
    /// Mean number of turns of a chat, of tokens of a question and of an answer.
    turns: f64,
    question: f64,
    answer: f64,
}

const TRAFFIC: [Traffic; 3] = [
    Traffic { name: "chats, moderate load", rate: 4.0, ..CHATS },
    Traffic { name: "chats, near saturation", rate: 8.0, ..CHATS },
    Traffic {
        name: "one hot prefix",
        rate: 100.0,
        systems: 1,
        system: 3000,
        turns: 1.0,
        question: 100.0,
        answer: 100.0,
    },
];
const CHATS: Traffic = Traffic {
    name: "",
    rate: 0.0,
    systems: 40,
    system: 1500,
    turns: 6.0,
    question: 120.0,
    answer: 180.0,
};
/// Mean time between an answer and the next question.
const THINKING: f64 = 8e6;
const SECOND: u64 = 1_000_000;

fn main() {
    // Debug builds only see that it runs, unless they are told for how long.
    let told = std::env::args().find_map(|argument| argument.parse().ok());
    let seconds = told.unwrap_or(if cfg!(debug_assertions) { 20 } else { 400 });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    for traffic in TRAFFIC {
        println!("\n{}: {SERVERS} servers, {seconds} s", traffic.name);
        println!(
            "{:<18}{:>10}{:>10}{:>10}{:>10}{:>12}",
            "policy", "requests", "mean TTFT", "p99 TTFT", "hit share", "max / mean"
        );
        for policy in [
            LoadBalancing::RoundRobin,
            LoadBalancing::LeastRequests,
            LoadBalancing::ConsistentHash { header: None },
            LoadBalancing::PrefixAffinity,
        ] {
            let pool = runtime.block_on(pool(&policy));
            let found = Simulation::new(&pool, traffic).run(seconds * SECOND);
            println!("{:<18}{found}", policy.word());
        }
    }
}

async fn pool(policy: &LoadBalancing) -> Pool {
    let endpoint = |port| {
        let url = Url { https: false, host: "127.0.0.1".to_owned(), port, path: String::new() };
        Endpoint { url, weight: 1 }
    };
    let endpoints = (1..).take(SERVERS).map(endpoint).collect();
    let mut provider = Provider::new("p", Kind::Vllm, endpoints);
    provider.load_balancing = policy.clone();
    provider.health_check = HealthCheck::None;
    let pool = Pool::new(&provider, None);
    pool.refresh().await;
    pool
}

// === the traffic ===

/// A chat under way; its text grows.
struct Chat {
    id: u64,
    text: Vec<u8>,
    /// Hashes of its whole blocks, as a server counts them.
    blocks: Vec<u64>,
    turns: usize,
    /// Its own, so that every policy has the same chats to serve.
    random: Random,
}

impl Chat {
    fn begin(id: u64, traffic: &Traffic) -> Self {
        let mut random = Random(id << 32);
        let share = random.share();
        let system = (share * share * share * traffic.systems as f64) as u64;
        let turns = random.some(traffic.turns);
        let (text, blocks) = (Vec::new(), Vec::new());
        let mut chat = Self { id, text, blocks, turns, random: Random(system) };
        chat.say(traffic.system);
        chat.random = random;
        chat
    }

    fn say(&mut self, tokens: usize) {
        for _ in 0..tokens {
            let word = self.random.next().to_le_bytes();
            self.text.extend(word.iter().take(TOKEN).map(|byte| b'a' + byte % 26));
        }
        while let Some(block) = self.text.chunks_exact(BLOCK).nth(self.blocks.len()) {
            let mut hasher = DefaultHasher::new();
            hasher.write_u64(self.blocks.last().copied().unwrap_or_default());
            hasher.write(block);
            self.blocks.push(hasher.finish());
        }
    }
}

impl Request for Chat {
    fn tokens(&self) -> u64 {
        (self.text.len() / TOKEN) as u64
    }

    fn session(&self) -> Option<u64> {
        // Numbers in a row would lie side by side on the ring.
        Some(Random(self.id).next())
    }

    fn prompt(&self) -> Option<Prompt<'_>> {
        Some(Prompt { parts: [b"", b"", &self.text], ..Prompt::default() })
    }
}

/// Numbers that look random and are the same in every run (`SplitMix64`).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Between 0 and 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Exponentially distributed.
    fn around(&mut self, mean: f64) -> f64 {
        -(1.0 - self.share()).ln() * mean
    }

    /// … and at least 1.
    fn some(&mut self, mean: f64) -> usize {
        (self.around(mean - 1.0).round() as usize).saturating_add(1)
    }
}

// === a server ===

#[derive(Default)]
struct Server {
    waiting: VecDeque<Job>,
    running: Vec<Job>,
    /// In the middle of a step.
    busy: bool,
    /// Blocks of the cache that may be shared, with their users and when they were used last.
    blocks: HashMap<u64, (u32, u64)>,
    /// Of these, the unused ones by their last use.
    unused: BTreeMap<u64, u64>,
    /// Blocks that belong to one request.
    private: usize,
    uses: u64,
    took: u64,
}

/// A request at a server.
struct Job {
    chat: Chat,
    pick: Pick,
    arrived: u64,
    answer: usize,
    answered: usize,
    /// Blocks of the prompt that were there, and tokens yet to be worked out.
    cached: usize,
    left: usize,
    private: usize,
    /// Tokens of this step.
    share: usize,
}

impl Server {
    /// Takes in whom it can, and gives the length of the step; `None` with nothing to do.
    fn begin_step(&mut self) -> Option<u64> {
        let mut budget = BUDGET;
        let (mut decoded, mut prefilled) = (0, 0);
        for job in &mut self.running {
            if job.left == 0 {
                budget = budget.saturating_sub(1);
                decoded += 1;
            }
        }
        for job in self.running.iter_mut().filter(|job| job.left > 0) {
            job.share = job.left.min(budget);
            budget -= job.share;
            prefilled += job.share;
        }
        while budget > 0 && self.running.len() < PLACES {
            let Some(job) = self.waiting.pop_front() else { break };
            match self.admit(job) {
                Ok(mut job) => {
                    job.share = job.left.min(budget);
                    budget -= job.share;
                    prefilled += job.share;
                    self.running.push(job);
                }
                Err(job) => {
                    self.waiting.push_front(job);
                    break;
                }
            }
        }
        let idle = decoded == 0 && prefilled == 0;
        (!idle).then(|| STEP + decoded * DECODE + prefilled as u64 * PREFILL)
    }

    #[expect(clippy::result_large_err, reason = "a job that cannot begin is given back")]
    fn admit(&mut self, mut job: Job) -> Result<Job, Job> {
        let known = job.chat.blocks.iter().take_while(|block| self.blocks.contains_key(block));
        // The last token is always worked out.
        let cached = known.count().min((job.chat.text.len() - 1) / BLOCK);
        let need = (job.chat.text.len() / TOKEN + job.answer).div_ceil(16) - cached;
        let unused = |block: &&u64| self.blocks.get(*block).is_some_and(|(users, _)| *users == 0);
        let lost = job.chat.blocks.iter().take(cached).filter(unused).count();
        let taken = self.blocks.len() - self.unused.len() + self.private;
        if taken + lost + need > CACHE && !self.running.is_empty() {
            return Err(job);
        }
        for block in job.chat.blocks.iter().take(cached) {
            self.hold(*block);
        }
        while self.blocks.len() + self.private + need > CACHE {
            let Some((_, block)) = self.unused.pop_first() else { break };
            self.blocks.remove(&block);
        }
        self.private += need;
        (job.private, job.cached) = (need, cached);
        job.left = job.chat.text.len() / TOKEN - cached * 16;
        Ok(job)
    }

    fn hold(&mut self, block: u64) {
        let (users, used) = self.blocks.entry(block).or_default();
        if *users == 0 {
            self.unused.remove(used);
        }
        *users += 1;
    }

    fn release(&mut self, block: u64) {
        self.uses += 1;
        let Some((users, used)) = self.blocks.get_mut(&block) else { return };
        *users -= 1;
        if *users == 0 {
            *used = self.uses;
            self.unused.insert(self.uses, block);
        }
    }

    /// What a prompt came to may be shared from now on.
    fn share(&mut self, job: &mut Job) {
        let own = job.chat.blocks.split_off(job.cached);
        self.private -= own.len().min(job.private);
        job.private -= own.len().min(job.private);
        for block in &own {
            self.hold(*block);
        }
        job.chat.blocks.extend(own);
    }

    fn report(&self) -> Report {
        let used = self.blocks.len() - self.unused.len() + self.private;
        Report {
            running: Some(self.running.len() as f64),
            waiting: self.waiting.len() as f64,
            kv_use: used as f64 / CACHE as f64,
            capacity: (CACHE * 16) as u64,
            ..Report::default()
        }
    }
}

// === the simulation ===

enum Event {
    Begin,
    Ask(Box<Chat>),
    StepEnd(usize),
    Tell,
}

struct Simulation<'p> {
    pool: &'p Pool,
    replicas: Vec<Arc<Replica>>,
    traffic: Traffic,
    servers: Vec<Server>,
    random: Random,
    /// What happens when, in the order it was said.
    agenda: BinaryHeap<Reverse<(u64, u64)>>,
    events: HashMap<u64, Event>,
    numbers: u64,
    chats: u64,
    found: Found,
}

/// What came of it.
#[derive(Default)]
struct Found {
    first_tokens: Vec<u64>,
    prompt: usize,
    cached: usize,
    load: [u64; SERVERS],
}

impl<'p> Simulation<'p> {
    fn new(pool: &'p Pool, traffic: Traffic) -> Self {
        let mut replicas: Vec<_> = pool.status().into_iter().map(|status| status.replica).collect();
        replicas.sort_by_key(|replica| replica.address);
        Self {
            pool,
            replicas,
            traffic,
            servers: (0..SERVERS).map(|_| Server::default()).collect(),
            random: Random(1),
            agenda: BinaryHeap::new(),
            events: HashMap::new(),
            numbers: 0,
            chats: 0,
            found: Found::default(),
        }
    }

    fn run(mut self, until: u64) -> Found {
        self.plan(0, Event::Begin);
        self.plan(0, Event::Tell);
        while let Some(Reverse((now, number))) = self.agenda.pop() {
            if now > until {
                break;
            }
            // The first fifth fills the caches, and does not count.
            let counts = now > until / 5;
            match self.events.remove(&number).expect("planned once") {
                Event::Begin => self.begin(now),
                Event::Ask(chat) => self.ask(now, *chat),
                Event::StepEnd(server) => self.end_step(now, server, counts),
                Event::Tell => self.tell(now),
            }
        }
        self.found
    }

    fn plan(&mut self, at: u64, event: Event) {
        self.numbers += 1;
        self.agenda.push(Reverse((at, self.numbers)));
        self.events.insert(self.numbers, event);
    }

    fn begin(&mut self, now: u64) {
        self.chats += 1;
        let chat = Chat::begin(self.chats, &self.traffic);
        self.plan(now, Event::Ask(Box::new(chat)));
        let pause = self.random.around(SECOND as f64 / self.traffic.rate) as u64;
        self.plan(now + pause, Event::Begin);
    }

    fn ask(&mut self, now: u64, mut chat: Chat) {
        let (question, answer) = (self.traffic.question, self.traffic.answer);
        let (question, answer) = (chat.random.some(question), chat.random.some(answer));
        chat.say(question);
        let pick = self.pool.pick(&chat).expect("all are healthy");
        let index = usize::from(pick.replica().address.port()) - 1;
        let job = Job {
            chat,
            pick,
            arrived: now,
            answer,
            answered: 0,
            cached: 0,
            left: 0,
            private: 0,
            share: 0,
        };
        self.servers[index].took += 1;
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
        let mut running = std::mem::take(&mut server.running);
        let mut done = Vec::new();
        for job in &mut running {
            if job.left > 0 {
                job.left -= std::mem::take(&mut job.share);
                if job.left > 0 {
                    continue;
                }
                server.share(job);
                self.pool.answered(&job.pick);
                if counts {
                    self.found.first_tokens.push(now - job.arrived);
                    self.found.prompt += job.chat.text.len() / TOKEN;
                    self.found.cached += job.cached * 16;
                    self.found.load[index] += 1;
                }
            }
            job.answered += 1;
        }
        let (ended, running) = running.into_iter().partition(|job| job.answered >= job.answer);
        server.running = running;
        for job in ended {
            server.private -= job.private;
            let prompt = job.chat.blocks.len();
            let mut chat = job.chat;
            chat.say(job.answer);
            for block in chat.blocks.iter().skip(prompt) {
                server.hold(*block);
            }
            // The end of a text is released first, and evicted first.
            chat.blocks.iter().rev().for_each(|block| server.release(*block));
            self.pool.succeeded(&job.pick);
            self.pool.used(&job.pick, job.answer as u64, (job.cached * 16) as u64);
            chat.turns -= 1;
            if chat.turns > 0 {
                done.push(chat);
            }
        }
        for mut chat in done {
            let pause = chat.random.around(THINKING) as u64;
            self.plan(now + pause, Event::Ask(Box::new(chat)));
        }
        self.begin_step(now, index);
    }

    /// Servers tell their load once a second, as they are asked for it.
    fn tell(&mut self, now: u64) {
        for (replica, server) in self.replicas.iter().zip(&self.servers) {
            replica.note_report(server.report());
        }
        self.plan(now + SECOND, Event::Tell);
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut sorted = self.first_tokens.clone();
        sorted.sort_unstable();
        let requests = sorted.len().max(1);
        let mean = sorted.iter().sum::<u64>() as f64 / requests as f64 / 1e3;
        let p99 = sorted.get(requests * 99 / 100).copied().unwrap_or_default() as f64 / 1e3;
        let hits = self.cached as f64 / self.prompt.max(1) as f64;
        let most = self.load.iter().max().copied().unwrap_or_default() as f64;
        let all = self.load.iter().sum::<u64>().max(1) as f64 / SERVERS as f64;
        let requests = self.first_tokens.len();
        write!(f, "{requests:>10}{mean:>7.0} ms{p99:>7.0} ms{hits:>10.2}{:>12.2}", most / all)
    }
}
