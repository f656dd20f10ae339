//! Who is next among those who wait: by class, within it by tokens had, and of one caller the first come.
//!
//! Within a class callers are served by a *virtual token counter* (Sheng et al., "Fairness in Serving
//! Large Language Models", OSDI 2024): each has a counter of the tokens it was served, divided by its
//! weight, and the smallest counter is next. Who comes back after a while begins where the others are
//! by then: nobody saves up for later, and nobody who asks for little waits behind one who asks for much.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::config::Rank;

/// Callers that are remembered, those who wait or are being served apart.
const MOST_CALLERS: usize = 4096;
/// An answer's tokens before anything is known of a caller's.
const ANSWER: f64 = 256.0;

/// Those who wait, and what everybody was served.
#[derive(Debug)]
pub struct Line<T> {
    /// None is empty.
    queues: BTreeMap<Place, VecDeque<Waiting<T>>>,
    callers: HashMap<Arc<str>, Caller>,
    waiting: usize,
    /// The counter of who was served last, before that: who comes back begins here.
    now: f64,
    numbers: u64,
}

/// A class, the highest first, and a caller in it.
type Place = (Reverse<i8>, Arc<str>);

/// Who asks for a place, and for how much.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Whom it is counted for.
    pub caller: Arc<str>,
    pub rank: Rank,
    /// Estimated tokens of its prompt.
    pub tokens: u64,
}

/// Where one stands in the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    class: i8,
    caller: Arc<str>,
    number: u64,
}

/// What was charged for one that is served, until it is known what it took.
#[derive(Clone, Debug, PartialEq)]
pub struct Charge {
    pub caller: Arc<str>,
    tokens: f64,
    prompt: u64,
    weight: f64,
}

#[derive(Debug)]
struct Waiting<T> {
    number: u64,
    ask: Ask,
    of: T,
}

#[derive(Debug)]
struct Caller {
    /// Tokens served, divided by its weight.
    counter: f64,
    /// Requests that wait.
    waiting: usize,
    /// Requests that are served.
    served: usize,
    /// Smoothed tokens of its answers.
    answer: f64,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        let (queues, callers) = (BTreeMap::new(), HashMap::new());
        Self { queues, callers, waiting: 0, now: 0.0, numbers: 0 }
    }
}

impl<T> Line<T> {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting
    }

    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Takes one in that is served at once.
    pub fn serve(&mut self, ask: &Ask) -> Charge {
        self.arrive(&ask.caller);
        self.charge(ask)
    }

    /// Lets one wait, behind its caller's others; `first`: before them.
    pub fn join(&mut self, ask: Ask, first: bool, of: T) -> Spot {
        self.arrive(&ask.caller);
        self.numbers += 1;
        let (number, caller) = (self.numbers, Arc::clone(&ask.caller));
        if let Some(known) = self.callers.get_mut(&caller) {
            known.waiting += 1;
        }
        self.waiting += 1;
        let class = ask.rank.priority.level();
        let queue = self.queues.entry((Reverse(class), Arc::clone(&caller))).or_default();
        let waiting = Waiting { number, ask, of };
        if first {
            queue.push_front(waiting);
        } else {
            queue.push_back(waiting);
        }
        Spot { class, caller, number }
    }

    /// The next one, which is served from now on.
    pub fn call(&mut self) -> Option<(T, Charge)> {
        let (first, _) = self.queues.first_key_value()?;
        let class = first.0;
        let of_class = self.queues.iter().take_while(|((of, _), _)| *of == class);
        // Of equals, who came first: calls that cost no tokens leave counters as they were.
        let order = |(_, caller): &Place, queue: &VecDeque<Waiting<T>>| {
            (self.counter(caller), queue.front().map_or(u64::MAX, |first| first.number))
        };
        let least = of_class.min_by(|(a, of_a), (b, of_b)| {
            let (a, b) = (order(a, of_a), order(b, of_b));
            a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
        });
        let place = least.map(|(place, _)| place.clone())?;
        let waiting = self.take(&place, VecDeque::pop_front)?;
        let charge = self.charge(&waiting.ask);
        Some((waiting.of, charge))
    }

    /// One waits no longer. `None`: it did not.
    pub fn leave(&mut self, spot: &Spot) -> Option<T> {
        let place = (Reverse(spot.class), Arc::clone(&spot.caller));
        let of = |queue: &mut VecDeque<Waiting<T>>| {
            let index = queue.iter().position(|one| one.number == spot.number)?;
            queue.remove(index)
        };
        self.take(&place, of).map(|waiting| waiting.of)
    }

    /// Who must go for `ask` to get in, when there is room for no more: the last of a lower class, or
    /// of a caller in its own class with more that wait than this one would have. `None`: nobody.
    pub fn displace(&mut self, ask: &Ask) -> Option<T> {
        let class = Reverse(ask.rank.priority.level());
        let own = self.queues.get(&(class, Arc::clone(&ask.caller))).map_or(0, VecDeque::len);
        let ((last, _), _) = self.queues.last_key_value()?;
        let last = *last;
        let of_last = self.queues.iter().rev().take_while(|((of, _), _)| *of == last);
        let (longest, length) =
            of_last.map(|(place, queue)| (place, queue.len())).max_by_key(|(_, length)| *length)?;
        let lower = last > class;
        if !(lower || last == class && length > own + 1) {
            return None;
        }
        let longest = longest.clone();
        self.take(&longest, VecDeque::pop_back).map(|waiting| waiting.of)
    }

    /// How many would be served before `ask`, as far as can be told: all of higher classes, and of each
    /// other caller of its own as many as it has itself.
    pub fn ahead(&self, ask: &Ask) -> usize {
        let class = Reverse(ask.rank.priority.level());
        let own = self.queues.get(&(class, Arc::clone(&ask.caller))).map_or(0, VecDeque::len);
        let before = self.queues.iter().take_while(|((of, _), _)| *of <= class);
        let counted = before.map(|((of, caller), queue)| {
            if *of < class {
                queue.len()
            } else if *caller == ask.caller {
                0
            } else {
                queue.len().min(own + 1)
            }
        });
        counted.sum::<usize>() + own
    }

    /// One that was served is done. `took`: tokens of prompt and answer; `None`: it failed, which costs
    /// its caller nothing.
    pub fn done(&mut self, charge: &Charge, took: Option<u64>) {
        let Some(caller) = self.callers.get_mut(&charge.caller) else { return };
        caller.served = caller.served.saturating_sub(1);
        // What costs no tokens is a turn all the same.
        let took = took.map_or(0.0, |took| float(took.max(1)));
        caller.counter += (took - charge.tokens) / charge.weight;
        let answer = took - float(charge.prompt);
        if answer > 0.0 {
            caller.answer += (answer - caller.answer) / 8.0;
        }
    }

    /// Callers of whom something is known.
    #[cfg(test)]
    fn known(&self) -> usize {
        self.callers.len()
    }

    fn counter(&self, caller: &Arc<str>) -> f64 {
        self.callers.get(caller).map_or(self.now, |caller| caller.counter)
    }

    fn arrive(&mut self, caller: &Arc<str>) {
        if !self.callers.contains_key(caller) {
            self.forget();
            let new = Caller { counter: self.now, waiting: 0, served: 0, answer: ANSWER };
            self.callers.insert(Arc::clone(caller), new);
        }
        let now = self.now;
        if let Some(caller) = self.callers.get_mut(caller).filter(|caller| caller.waiting == 0) {
            caller.counter = caller.counter.max(now);
        }
    }

    fn charge(&mut self, ask: &Ask) -> Charge {
        let weight = f64::from(ask.rank.weight.max(1));
        let Some(caller) = self.callers.get_mut(&ask.caller) else {
            let caller = Arc::clone(&ask.caller);
            return Charge { caller, tokens: 0.0, prompt: ask.tokens, weight };
        };
        self.now = self.now.max(caller.counter);
        let tokens = float(ask.tokens) + caller.answer;
        caller.counter += tokens / weight;
        caller.served += 1;
        Charge { caller: Arc::clone(&ask.caller), tokens, prompt: ask.tokens, weight }
    }

    fn take(
        &mut self,
        place: &Place,
        which: impl FnOnce(&mut VecDeque<Waiting<T>>) -> Option<Waiting<T>>,
    ) -> Option<Waiting<T>> {
        let queue = self.queues.get_mut(place)?;
        let waiting = which(queue)?;
        if queue.is_empty() {
            self.queues.remove(place);
        }
        self.waiting -= 1;
        if let Some(caller) = self.callers.get_mut(&place.1) {
            caller.waiting -= 1;
        }
        Some(waiting)
    }

    /// Makes room for another caller. Who has nothing under way and no more than others would begin
    /// anew where they are, known or not.
    fn forget(&mut self) {
        if self.callers.len() < MOST_CALLERS {
            return;
        }
        let now = self.now;
        let busy = |caller: &Caller| caller.waiting > 0 || caller.served > 0;
        self.callers.retain(|_, caller| busy(caller) || caller.counter > now);
        if self.callers.len() >= MOST_CALLERS {
            self.callers.retain(|_, caller| busy(caller));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "no request has 2^52 tokens")]
fn float(tokens: u64) -> f64 {
    tokens as f64
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
