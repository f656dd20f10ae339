//! What several nodes share while they serve: counts in Redis, of which each node takes a little at a
//! time.
//!
//! Nothing here is durable: the store keeps totals, and each node says what it knows where Redis
//! knows nothing.

use std::borrow::Cow;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, FromRedisValue, RedisError, Script, ScriptInvocation,
    TlsCertificates,
};
use tokio::time::timeout;

use crate::config::Secret;

/// How long Redis may take to answer.
const ANSWER: Duration = Duration::from_millis(50);
/// How long a new connection may take, with TLS and its password.
const CONNECT: Duration = Duration::from_secs(2);
/// Counters in one call: Redis does nothing else meanwhile.
pub const MOST_LEASES: usize = 500;
/// Integers of Redis have a sign; half of the room is left for sums.
const LARGEST: u64 = i64::MAX as u64 / 2;

/// Where the counts are kept, and the nodes.
const COUNTS: &str = "forebay:count:";
const NODES: &str = "forebay:nodes";

/// For each counter: what a node holds takes the place of what it held, and it gets as much of what it
/// wants besides as the cap leaves. `unclaimed` is what of the first `base` no node has named as its
/// own. Sums are made by Redis itself: numbers of the script are exact up to 2^53 only. A window without
/// a near end is kept for a month from its last use: the store knows it for longer.
const LEASE: &str = r"
local node, leaving = ARGV[1], ARGV[2] == '1'
local month = redis.call('TIME')[1] * 1000 + 2678400000
local said = {}
for i, key in ipairs(KEYS) do
  local at = i * 6 - 3
  local ends, cap, base, had, held, want = unpack(ARGV, at, at + 5)
  if redis.call('EXISTS', key) == 0 then
    redis.call('HSET', key, 'used', base, 'unclaimed', base)
  end
  local mine = redis.call('HGET', key, node)
  if not mine then
    local unclaimed = redis.call('HGET', key, 'unclaimed')
    mine = tonumber(had) < tonumber(unclaimed) and had or unclaimed
    if mine ~= '0' then redis.call('HINCRBY', key, 'unclaimed', '-' .. mine) end
  end
  if mine ~= '0' then redis.call('HINCRBY', key, 'used', '-' .. mine) end
  local used = redis.call('HINCRBY', key, 'used', held)
  local granted = math.min(tonumber(want), math.max(0, tonumber(cap) - used))
  granted = string.format('%.0f', granted)
  redis.call('HINCRBY', key, 'used', granted)
  if leaving then
    redis.call('HDEL', key, node)
  else
    redis.call('HSET', key, node, held)
    redis.call('HINCRBY', key, node, granted)
  end
  redis.call('PEXPIREAT', key, string.format('%.0f', math.min(month, tonumber(ends))))
  said[#said + 1] = granted
  said[#said + 1] = redis.call('HGET', key, 'used') or '0'
end
return table.concat(said, ' ')
";

/// Notes that a node lives; how many have said so within ten seconds. By the clock of Redis.
const BEAT: &str = r"
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - 11)
redis.call('EXPIRE', KEYS[1], 60)
return redis.call('ZCARD', KEYS[1])
";

/// Counts shared through Redis. One call at a time; it connects when it is first asked, and again
/// after whatever went wrong.
pub struct SharedCounts {
    client: Client,
    connection: Option<MultiplexedConnection>,
    lease: Script,
    beat: Script,
}

/// Why Redis did not do it. Whether it did is not known, and does not matter: what a node says of
/// itself is how it stands, and is said again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Redis: {0}")]
pub struct SharedAway(String);

/// What a node says about one counter, and wants of it. In the counter's own unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease<'a> {
    pub counter: &'a str,
    /// When it may be forgotten, Unix milliseconds.
    pub expires_at: i64,
    /// No more than this is granted, to all nodes together.
    pub cap: u64,
    /// Taken out of the limit by all nodes, where Redis knows nothing.
    pub base: u64,
    /// Of `base`: by this node.
    pub had: u64,
    /// What this node holds from now on.
    pub held: u64,
    /// What it is to be granted besides.
    pub want: u64,
}

/// The answer to one lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leased {
    /// Of what was wanted: all of it, or what was left.
    pub granted: u64,
    /// Taken out of the limit by all nodes, with `granted` in it.
    pub used: u64,
}

// === impl SharedCounts ===

impl SharedCounts {
    /// By `redis://` or `rediss://` URL. The latter trusts the authorities that browsers trust, or
    /// those in a file of PEM: `?ca_file=/etc/forebay/ca.pem`. Connects to nothing yet.
    ///
    /// # Errors
    ///
    /// The URL is none, or the file cannot be read.
    pub fn new(url: &Secret) -> Result<Self, SharedAway> {
        let open = match authority(url.expose()) {
            None => Client::open(url.expose()),
            Some(file) => {
                let pem = std::fs::read(&*file).map_err(|error| {
                    SharedAway(format!("its `ca_file` cannot be read: {}", error.kind()))
                })?;
                let trusted = TlsCertificates { client_tls: None, root_cert: Some(pem) };
                Client::build_with_tls(url.expose(), trusted)
            }
        };
        // Told without the URL, which holds a password.
        let client = open.map_err(|_| SharedAway("its URL cannot be read".to_owned()))?;
        let (lease, beat) = (Script::new(LEASE), Script::new(BEAT));
        Ok(Self { client, connection: None, lease, beat })
    }

    /// Notes that `node` lives; how many nodes have been heard of within ten seconds.
    pub async fn beat(&mut self, node: &str) -> Result<u32, SharedAway> {
        let script = self.beat.clone();
        self.run(script.key(NODES).arg(node)).await
    }

    /// `node` goes: it is not counted any more.
    pub async fn leave(&mut self, node: &str) -> Result<(), SharedAway> {
        let mut gone = redis::pipe();
        gone.zrem(NODES, node).ignore();
        let connection = self.connected().await?;
        let asked = timeout(ANSWER, gone.query_async(connection)).await;
        self.judge(asked.unwrap_or_else(|_| Err(late())))
    }

    /// Takes leases, at most [`MOST_LEASES`] at once; answers in their order. `leaving`: what is held
    /// is spent, and this node says no more of these counters.
    pub async fn lease(
        &mut self,
        node: &str,
        leases: &[Lease<'_>],
        leaving: bool,
    ) -> Result<Vec<Leased>, SharedAway> {
        let script = self.lease.clone();
        let mut call = script.arg(node);
        call.arg(i32::from(leaving));
        for lease in leases {
            call.key(format!("{COUNTS}{}", lease.counter));
            call.arg(lease.expires_at).arg(signed(lease.cap)).arg(signed(lease.base));
            call.arg(signed(lease.had)).arg(signed(lease.held)).arg(signed(lease.want));
        }
        let said: String = self.run(&call).await?;
        let numbers: Vec<u64> = said.split(' ').filter_map(|word| word.parse().ok()).collect();
        let (pairs, _) = numbers.as_chunks::<2>();
        if pairs.len() != leases.len() {
            return Err(SharedAway("its answer has another length".to_owned()));
        }
        Ok(pairs.iter().map(|&[granted, used]| Leased { granted, used }).collect())
    }

    async fn run<T: FromRedisValue>(
        &mut self,
        call: &ScriptInvocation<'_>,
    ) -> Result<T, SharedAway> {
        let connection = self.connected().await?;
        let asked = timeout(ANSWER, call.invoke_async(connection)).await;
        self.judge(asked.unwrap_or_else(|_| Err(late())))
    }

    async fn connected(&mut self) -> Result<&mut MultiplexedConnection, SharedAway> {
        let connection = if let Some(connection) = self.connection.take() {
            connection
        } else {
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(CONNECT))
                .set_response_timeout(Some(CONNECT));
            let connect = self.client.get_multiplexed_async_connection_with_config(&config);
            let connected = timeout(CONNECT, connect).await;
            connected.unwrap_or_else(|_| Err(late())).map_err(|error| away(&error))?
        };
        Ok(self.connection.insert(connection))
    }

    /// After anything but a plain answer there is another connection: an answer that comes late must
    /// not queue up behind it, and one that was cut is noticed only by the system.
    fn judge<T>(&mut self, asked: Result<T, RedisError>) -> Result<T, SharedAway> {
        asked.map_err(|error| {
            self.connection = None;
            away(&error)
        })
    }
}

/// The file of authorities that a URL names.
fn authority(url: &str) -> Option<Cow<'_, str>> {
    let (_, query) = url.split_once('?')?;
    let file = query.split('&').find_map(|part| part.strip_prefix("ca_file="))?;
    percent_decode_str(file).decode_utf8().ok()
}

// === errors ===

fn late() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

/// In fixed words: the crate's own may repeat what was sent.
fn away(error: &RedisError) -> SharedAway {
    let why = if error.is_timeout() {
        "no answer in time"
    } else if error.is_connection_refusal() {
        "the connection is refused"
    } else if error.is_io_error() || error.is_connection_dropped() {
        "the connection is broken"
    } else {
        return SharedAway(error.code().unwrap_or_else(|| error.category()).to_owned());
    };
    SharedAway(why.to_owned())
}

fn signed(number: u64) -> i64 {
    i64::try_from(number.min(LARGEST)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    fn url() -> Secret {
        #[expect(clippy::disallowed_methods, reason = "where the tests' Redis is")]
        let said = std::env::var("FOREBAY_TEST_REDIS");
        Secret::new(said.unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned()))
    }

    /// A node and a counter of this test alone, and the end of its window.
    fn names() -> (String, String, i64) {
        let name = format!("test-{:x}", rand::random::<u64>());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        (name.clone(), name, i64::try_from(now).unwrap() + 30_000)
    }

    fn lease(counter: &str, expires_at: i64, held: u64, want: u64) -> Lease<'_> {
        Lease { counter, expires_at, cap: 100, base: 0, had: 0, held, want }
    }

    /// Asks for one lease; what was granted, and what is used.
    async fn ask(counts: &mut SharedCounts, node: &str, lease: Lease<'_>) -> (u64, u64) {
        let said = counts.lease(node, &[lease], false).await.unwrap();
        (said[0].granted, said[0].used)
    }

    #[tokio::test]
    async fn no_more_is_granted_than_the_cap_leaves() {
        let mut counts = SharedCounts::new(&url()).unwrap();
        let (node, counter, end) = names();
        assert_eq!(ask(&mut counts, &node, lease(&counter, end, 0, 50)).await, (50, 50));
        assert_eq!(ask(&mut counts, "other", lease(&counter, end, 0, 70)).await, (50, 100));
        // What comes back can be had by others.
        assert_eq!(ask(&mut counts, &node, lease(&counter, end, 30, 0)).await, (0, 80));
        assert_eq!(ask(&mut counts, "other", lease(&counter, end, 50, 70)).await, (20, 100));
        // What is held beyond the cap is known, and nothing is granted.
        assert_eq!(ask(&mut counts, &node, lease(&counter, end, 37, 1)).await, (0, 107));
    }

    #[tokio::test]
    async fn several_counters_are_answered_in_their_order() {
        let mut counts = SharedCounts::new(&url()).unwrap();
        let (node, counter, end) = names();
        let names: Vec<String> = (0..3).map(|number| format!("{counter}-{number}")).collect();
        let leases: Vec<_> =
            names.iter().zip(1..).map(|(it, want)| lease(it, end, 0, want)).collect();
        let said = counts.lease(&node, &leases, false).await.unwrap();
        assert_eq!(said.iter().map(|it| it.used).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[tokio::test]
    async fn what_is_said_twice_counts_once() {
        let mut counts = SharedCounts::new(&url()).unwrap();
        let (node, counter, end) = names();
        // The first answer is lost: all that is known to be held is what was held before.
        assert_eq!(ask(&mut counts, &node, lease(&counter, end, 3, 10)).await, (10, 13));
        assert_eq!(ask(&mut counts, &node, lease(&counter, end, 3, 10)).await, (10, 13));
    }

    #[tokio::test]
    async fn where_redis_knows_nothing_it_is_told() {
        let mut counts = SharedCounts::new(&url()).unwrap();
        let (node, counter, end) = names();
        let told = Lease { base: 80, had: 30, ..lease(&counter, end, 35, 5) };
        assert_eq!(ask(&mut counts, &node, told).await, (5, 90));
        // Another node's part of what was told first is not counted again.
        let other = Lease { base: 70, had: 50, ..lease(&counter, end, 50, 9) };
        assert_eq!(ask(&mut counts, "other", other).await, (9, 99));
    }

    #[tokio::test]
    async fn what_a_node_has_spent_stays_when_it_leaves() {
        let mut counts = SharedCounts::new(&url()).unwrap();
        let (node, counter, end) = names();
        assert_eq!(ask(&mut counts, &node, lease(&counter, end, 0, 40)).await, (40, 40));
        let said = counts.lease(&node, &[lease(&counter, end, 15, 0)], true).await.unwrap();
        assert_eq!(said, [Leased { granted: 0, used: 15 }]);
        assert_eq!(ask(&mut counts, "other", lease(&counter, end, 0, 100)).await, (85, 100));
    }

    #[tokio::test]
    async fn amounts_beyond_what_a_float_holds_are_exact() {
        let mut counts = SharedCounts::new(&url()).unwrap();
        let (node, counter, end) = names();
        let base = (1 << 60) + 1;
        let one = Lease { cap: u64::MAX, base, ..lease(&counter, end, 2, 1) };
        assert_eq!(ask(&mut counts, &node, one).await, (1, base + 3));
    }

    #[tokio::test]
    async fn nodes_are_counted_while_they_are_heard_of() {
        let mut counts = SharedCounts::new(&url()).unwrap();
        let (node, other, _) = names();
        let before = counts.beat(&node).await.unwrap();
        assert_eq!(counts.beat(&node).await.unwrap(), before);
        counts.beat(&format!("{other}-other")).await.unwrap();
        assert!(counts.beat(&node).await.unwrap() > before);
        counts.leave(&node).await.unwrap();
        counts.leave(&format!("{other}-other")).await.unwrap();
    }

    #[tokio::test]
    async fn a_redis_that_is_away_is_told_without_its_url() {
        let nobody = Secret::new("redis://:hidden-password@127.0.0.1:1");
        let mut counts = SharedCounts::new(&nobody).unwrap();
        let said = counts.beat("node").await.unwrap_err().to_string();
        assert_eq!(said, "Redis: the connection is refused");
        let said = SharedCounts::new(&Secret::new("hidden-password")).err().unwrap().to_string();
        assert!(!said.contains("hidden"), "{said}");
    }

    #[tokio::test]
    async fn a_redis_that_hangs_is_given_up_in_time() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Secret::new(format!("redis://{}", silent.local_addr().unwrap()));
        let mut counts = SharedCounts::new(&url).unwrap();
        let begun = std::time::Instant::now();
        assert!(counts.beat("node").await.is_err());
        assert!(begun.elapsed() < CONNECT + CONNECT / 2);
    }
}
