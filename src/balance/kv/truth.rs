//! What each server of a pool has in its KV cache, as it says itself.
//!
//! A server's blocks are of tokens, ours are of bytes. The two meet in what prompts come to in tokens,
//! which is asked for in the background: from it each of our blocks gets the *chain* of the server's block that
//! holds its last token. A chain stands for all tokens from the beginning on, and is the same at every server.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::blocks::{Blocks, Key, covered};
use super::super::replica::Replica;
use super::event::{Event, Stored};

/// Blocks of one server that are followed: 4 million tokens in blocks of 16, in at most 24 MiB.
const MOST_BLOCKS: usize = 1 << 18;
/// Blocks of ours whose chains are remembered, for all servers of a pool: at most 16 MiB.
const MOST_WORDS: usize = 1 << 16;

/// What the servers of one pool have cached. Nothing on a request's way locks it.
pub struct Caches {
    state: Mutex<State>,
    /// Tokens of a server's block; 0 before one was heard of.
    block: AtomicUsize,
}

struct State {
    key: Key,
    dictionary: Dictionary,
    servers: HashMap<SocketAddr, Server>,
}

/// Which blocks of ours end in which chain.
#[derive(Default)]
struct Dictionary {
    chains: HashMap<u64, Word>,
    /// Tokens up to the end of a block of ours, and when it was used last.
    places: HashMap<u64, (usize, u32)>,
    /// Words used in this age, and the age.
    uses: usize,
    age: u32,
}

struct Word {
    ours: Vec<u64>,
    used: u32,
}

/// One server's cache.
struct Server {
    replica: Arc<Replica>,
    /// The chain of each of its blocks, by its own name for it.
    blocks: HashMap<u64, u64>,
    /// How many of its blocks have a chain: more than one in rare cases.
    chains: HashMap<u64, u32>,
    /// How many of its chains hold a block of ours: prompts differ in what follows within a block.
    ours: HashMap<u64, u32>,
}

/// Why a server cannot be followed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unfollowable {
    #[error("its cache has more than {MOST_BLOCKS} blocks")]
    TooLarge,
}

impl Default for Caches {
    fn default() -> Self {
        let (dictionary, servers) = (Dictionary::default(), HashMap::new());
        let state = State { key: Key::random(), dictionary, servers };
        Self { state: Mutex::new(state), block: AtomicUsize::new(0) }
    }
}

impl Caches {
    /// Whether a server has told of its cache.
    pub fn are_told(&self) -> bool {
        self.block.load(Relaxed) > 0
    }

    /// Takes it that nothing is known of a server's cache.
    pub fn forget(&self, replica: &Arc<Replica>) {
        if let Some(server) = self.lock().servers.remove(&replica.address) {
            server.ours.keys().for_each(|ours| server.replica.doubts(*ours));
        }
    }

    /// Takes note of what a server says.
    pub fn hear(&self, replica: &Arc<Replica>, events: Vec<Event>) -> Result<(), Unfollowable> {
        let state = &mut *self.lock();
        let server = state.servers.entry(replica.address);
        let server = server.or_insert_with(|| Server::new(Arc::clone(replica)));
        for event in events {
            match event {
                Event::Stored(stored) => {
                    if self.takes(&stored) {
                        server.store(&stored, &state.dictionary, &state.key)?;
                    }
                }
                Event::Removed(hashes) => {
                    for hash in hashes {
                        server.remove(hash, &state.dictionary);
                    }
                }
                Event::Cleared => {
                    *server = Server::new(Arc::clone(replica));
                    replica.clear();
                }
                Event::Other => {}
            }
        }
        Ok(())
    }

    /// Blocks of ours whose chains are known.
    pub fn words(&self) -> usize {
        self.lock().dictionary.places.len()
    }

    /// Blocks of a server's cache that are followed.
    pub fn followed(&self, replica: &Replica) -> usize {
        self.lock().servers.get(&replica.address).map_or(0, |server| server.blocks.len())
    }

    /// Blocks of ours that a server says it has.
    pub fn matched(&self, replica: &Replica) -> usize {
        self.lock().servers.get(&replica.address).map_or(0, |server| server.ours.len())
    }

    /// Whether nothing new can be learned from a prompt.
    pub fn know(&self, blocks: &Blocks) -> bool {
        let state = self.lock();
        blocks.hashes().last().is_none_or(|last| state.dictionary.places.contains_key(last))
    }

    /// Takes note of what a prompt of so many bytes comes to in tokens.
    pub fn learn(&self, blocks: &Blocks, bytes: usize, adapter: Option<&str>, tokens: &[u32]) {
        let block = self.block.load(Relaxed);
        if block == 0 {
            return;
        }
        let State { key, dictionary, servers } = &mut *self.lock();
        let mut chain = key.begin(adapter);
        let chains: Vec<u64> = tokens
            .chunks_exact(block)
            .map(|tokens| {
                chain = key.chain(chain, tokens);
                chain
            })
            .collect();
        // Where a block ends in tokens is known from an earlier prompt, or lies in between in proportion.
        let (mut bytes_before, mut tokens_before) = (0, 0);
        for (index, ours) in blocks.hashes().iter().enumerate() {
            let end = covered(index + 1);
            let known = dictionary.places.get(ours).map(|(place, _)| *place);
            let place = if let Some(place) = known {
                (bytes_before, tokens_before) = (end, place);
                place
            } else {
                let (bytes, tokens) =
                    (bytes - bytes_before, tokens.len() - tokens_before.min(tokens.len()));
                tokens_before + (end - bytes_before) * tokens / bytes.max(1)
            };
            let Some(chain) = chains.get(place.saturating_sub(1) / block) else { break };
            if dictionary.add(*chain, *ours, place) {
                for server in servers.values_mut().filter(|it| it.chains.contains_key(chain)) {
                    server.hold(*ours);
                }
            }
        }
        for (chain, word) in dictionary.sweep() {
            for server in servers.values_mut().filter(|it| it.chains.contains_key(&chain)) {
                word.ours.iter().for_each(|ours| server.doubt(*ours));
            }
        }
    }

    /// Whether these are whole blocks of the size that was heard of first. Others (partial ones, those of a window)
    /// are parts of no chain.
    fn takes(&self, stored: &Stored) -> bool {
        let whole = stored.block > 0
            && stored.hashes.len().checked_mul(stored.block) == Some(stored.tokens.len());
        let first = || self.block.compare_exchange(0, stored.block, Relaxed, Relaxed);
        whole && first().map_or_else(|known| known == stored.block, |_| true)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dictionary {
    /// Whether that is new.
    fn add(&mut self, chain: u64, ours: u64, place: usize) -> bool {
        self.uses += 1;
        self.places.insert(ours, (place, self.age));
        let word = self.chains.entry(chain).or_insert(Word { ours: Vec::new(), used: 0 });
        word.used = self.age;
        let new = !word.ours.contains(&ours);
        if new {
            word.ours.push(ours);
        }
        new
    }

    /// What was used neither in this age nor in the one before, once this one is old enough.
    fn sweep(&mut self) -> Vec<(u64, Word)> {
        if self.uses < MOST_WORDS / 2 {
            return Vec::new();
        }
        let age = self.age;
        (self.uses, self.age) = (0, age.wrapping_add(1));
        self.places.retain(|_, (_, used)| *used == age);
        self.chains.extract_if(|_, word| word.used != age).collect()
    }

    fn ours(&self, chain: u64) -> &[u64] {
        self.chains.get(&chain).map_or(&[], |word| &word.ours)
    }
}

impl Server {
    fn new(replica: Arc<Replica>) -> Self {
        let (blocks, chains, ours) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { replica, blocks, chains, ours }
    }

    fn store(
        &mut self,
        stored: &Stored,
        words: &Dictionary,
        key: &Key,
    ) -> Result<(), Unfollowable> {
        let chain = match stored.parent {
            None => Some(key.begin(stored.adapter.as_deref())),
            Some(parent) => self.blocks.get(&parent).copied(),
        };
        // What goes on from a block that was not heard of cannot be placed.
        let Some(mut chain) = chain else { return Ok(()) };
        for (hash, tokens) in stored.hashes.iter().zip(stored.tokens.chunks_exact(stored.block)) {
            chain = key.chain(chain, tokens);
            if self.blocks.len() >= MOST_BLOCKS {
                return Err(Unfollowable::TooLarge);
            }
            // What is used again is told again.
            if self.blocks.insert(*hash, chain).is_some() {
                words.ours(chain).iter().for_each(|ours| self.replica.holds(*ours));
                continue;
            }
            let times = self.chains.entry(chain).or_default();
            *times += 1;
            if *times == 1 {
                words.ours(chain).iter().for_each(|ours| self.hold(*ours));
            }
        }
        Ok(())
    }

    fn remove(&mut self, hash: u64, words: &Dictionary) {
        let Some(chain) = self.blocks.remove(&hash) else { return };
        if less(&mut self.chains, chain) {
            for ours in words.ours(chain) {
                if less(&mut self.ours, *ours) {
                    self.replica.loses(*ours);
                }
            }
        }
    }

    fn hold(&mut self, ours: u64) {
        let times = self.ours.entry(ours).or_default();
        *times += 1;
        if *times == 1 {
            self.replica.holds(ours);
        }
    }

    /// What of this block is cached will not be heard any more.
    fn doubt(&mut self, ours: u64) {
        if less(&mut self.ours, ours) {
            self.replica.doubts(ours);
        }
    }
}

/// Counts one less; whether it was the last.
fn less(counts: &mut HashMap<u64, u32>, of: u64) -> bool {
    let Some(count) = counts.get_mut(&of) else { return false };
    *count -= 1;
    if *count > 0 {
        return false;
    }
    counts.remove(&of);
    true
}

#[cfg(test)]
mod tests {
    use super::super::super::request::Prompt;
    use super::*;
    use crate::config::Url;

    const BLOCK: usize = 16;

    /// A server, and the tokens of a text: a token for four bytes, which it is made of.
    struct World {
        caches: Caches,
        key: Key,
        a: Arc<Replica>,
        b: Arc<Replica>,
    }

    impl World {
        fn new() -> Self {
            let replica = |port| {
                let url =
                    Url { https: false, host: "127.0.0.1".to_owned(), port, path: String::new() };
                let replica = Arc::new(Replica::new(([127, 0, 0, 1], port).into(), url));
                replica.hear(true);
                replica
            };
            Self { caches: Caches::default(), key: Key::random(), a: replica(1), b: replica(2) }
        }

        fn blocks(&self, text: &[u8]) -> Blocks {
            Blocks::of(&Prompt { parts: [b"", b"", text], ..Prompt::default() }, &self.key)
        }

        fn learn(&self, text: &[u8]) {
            self.caches.learn(&self.blocks(text), text.len(), None, &tokens(text));
        }

        /// How many bytes of a text a server has.
        fn known(&self, replica: &Replica, text: &[u8]) -> usize {
            covered(replica.knows(&self.blocks(text)))
        }

        fn hear(&self, replica: &Arc<Replica>, event: Event) {
            self.caches.hear(replica, vec![event]).unwrap();
        }
    }

    fn text(seed: usize, length: usize) -> Vec<u8> {
        format!("{seed:08}").into_bytes().into_iter().cycle().take(length).collect()
    }

    fn tokens(text: &[u8]) -> Vec<u32> {
        text.chunks(4)
            .map(|word| word.iter().fold(0, |all, byte| all << 8 | u32::from(*byte)))
            .collect()
    }

    /// All blocks of a text, named by a server of that seed.
    fn stored(seed: u64, text: &[u8]) -> Stored {
        let tokens = tokens(text);
        let blocks = tokens.len() / BLOCK;
        let name = |index: usize| seed << 32 | u64::try_from(index).unwrap();
        let hashes = (0..blocks).map(name).collect();
        let tokens = tokens[..blocks * BLOCK].to_vec();
        Stored { hashes, tokens, block: BLOCK, ..Stored::default() }
    }

    #[test]
    fn what_a_server_says_is_known_of_a_prompt_that_was_sent_to_another() {
        let world = World::new();
        let chat = text(1, 4096);
        world.a.learns(&world.blocks(&chat));
        world.hear(&world.b, Event::Stored(stored(7, &chat)));
        assert_eq!((world.known(&world.a, &chat), world.known(&world.b, &chat)), (4096, 0));
        // What was heard before the prompt was learned counts as well.
        world.learn(&chat);
        assert_eq!((world.known(&world.a, &chat), world.known(&world.b, &chat)), (4096, 4096));
        // What goes on from it is heard as it comes.
        let longer = [chat.clone(), text(2, 4096)].concat();
        world.learn(&longer);
        let all = stored(7, &longer);
        let (hashes, tokens) = (all.hashes[64..].to_vec(), all.tokens[64 * BLOCK..].to_vec());
        let parent = all.hashes.get(63).copied();
        world.hear(&world.b, Event::Stored(Stored { hashes, parent, tokens, ..all }));
        assert_eq!((world.known(&world.a, &longer), world.known(&world.b, &longer)), (4096, 8192));
    }

    #[test]
    fn what_a_server_evicts_is_forgotten_and_the_rest_is_not() {
        let world = World::new();
        let (first, second) =
            ([text(1, 2048), text(2, 2048)].concat(), [text(1, 2048), text(3, 2048)].concat());
        for (seed, chat) in [(1, &first), (2, &second)] {
            world.a.learns(&world.blocks(chat));
            let mut stored = stored(seed, chat);
            // What the two share has one name.
            for (index, hash) in stored.hashes.iter_mut().enumerate().take(32) {
                *hash = u64::try_from(index).unwrap();
            }
            world.hear(&world.a, Event::Stored(stored));
            world.learn(chat);
        }
        world.hear(&world.a, Event::Removed((48..64).map(|index| 1 << 32 | index).collect()));
        assert_eq!((world.known(&world.a, &first), world.known(&world.a, &second)), (3072, 4096));
        world.hear(&world.a, Event::Removed((32..48).map(|index| 1 << 32 | index).collect()));
        assert_eq!((world.known(&world.a, &first), world.known(&world.a, &second)), (2048, 4096));
        world.hear(&world.a, Event::Cleared);
        assert_eq!((world.known(&world.a, &first), world.known(&world.a, &second)), (0, 0));
        assert_eq!(world.caches.followed(&world.a), 0);
    }

    #[test]
    fn after_a_gap_what_was_sent_is_what_counts() {
        let world = World::new();
        let chat = text(1, 4096);
        world.learn(&chat);
        world.hear(&world.a, Event::Stored(stored(1, &chat)));
        world.learn(&chat);
        assert_eq!(world.known(&world.a, &chat), 4096);
        world.a.note_report(crate::balance::Report { capacity: 64, ..Default::default() });
        world.a.generated(6400);
        assert_eq!(world.known(&world.a, &chat), 4096, "it is told, and has no age");
        world.caches.forget(&world.a);
        assert_eq!(world.known(&world.a, &chat), 0);
        // What goes on from a block that was missed has no place.
        let next = Stored { parent: Some(3), ..stored(9, &chat) };
        world.hear(&world.a, Event::Stored(next));
        assert_eq!((world.known(&world.a, &chat), world.caches.followed(&world.a)), (0, 0));
    }

    #[test]
    fn an_adapters_blocks_are_not_the_models() {
        let world = World::new();
        let chat = text(1, 4096);
        let adapter = Some("lora".to_owned());
        world.hear(&world.a, Event::Stored(Stored { adapter, ..stored(1, &chat) }));
        world.learn(&chat);
        assert_eq!(world.known(&world.a, &chat), 0);
        world.caches.learn(&world.blocks(&chat), chat.len(), Some("lora"), &tokens(&chat));
        assert_eq!(world.known(&world.a, &chat), 4096);
    }

    #[test]
    fn blocks_of_another_size_and_parts_of_blocks_are_passed_over() {
        let world = World::new();
        let chat = text(1, 4096);
        world.hear(&world.a, Event::Stored(stored(1, &chat)));
        for block in [0, BLOCK / 2, 2 * BLOCK, usize::MAX] {
            world.hear(&world.b, Event::Stored(Stored { block, ..stored(2, &chat) }));
        }
        world.learn(&chat);
        assert_eq!((world.known(&world.a, &chat), world.known(&world.b, &chat)), (4096, 0));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let world = World::new();
        world.hear(&world.a, Event::Stored(stored(1, &text(0, 4096))));
        for seed in 0..1500 {
            world.learn(&text(seed, 16 << 10));
        }
        {
            let state = world.caches.lock();
            let words: usize = state.dictionary.chains.values().map(|word| word.ours.len()).sum();
            assert!(words <= MOST_WORDS && state.dictionary.places.len() <= MOST_WORDS, "{words}");
        }
        // The newest is known, and the oldest would be learned anew.
        assert!(world.caches.know(&world.blocks(&text(1499, 16 << 10))));
        assert!(!world.caches.know(&world.blocks(&text(0, 16 << 10))));
        let many = text(1, 64 * (MOST_BLOCKS + 1));
        let error = world.caches.hear(&world.b, vec![Event::Stored(stored(1, &many))]);
        assert_eq!(error, Err(Unfollowable::TooLarge));
    }
}
