//! What a server says of its KV cache: vLLM's `KVEventBatch` (`vllm/distributed/kv_events.py`), in msgpack.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// One change of a server's KV cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Blocks can be found in the cache from now on.
    Stored(Stored),
    /// … and these no more.
    Removed(Vec<u64>),
    /// Nothing is cached any more.
    Cleared,
    /// Nothing that matters here.
    Other,
}

/// Blocks in a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// What the server calls each; only it knows how they are made.
    pub hashes: Vec<u64>,
    /// The block before the first of them; `None`: a prompt begins here.
    pub parent: Option<u64>,
    /// What they hold, all together.
    pub tokens: Vec<u32>,
    /// Tokens of a block.
    pub block: usize,
    /// The `LoRA` adapter they were worked out with.
    pub adapter: Option<String>,
}

/// Reads one message's events.
pub fn read(message: &[u8]) -> Result<Vec<Event>, rmp_serde::decode::Error> {
    // The moment, the events, and in newer versions the rank of the engine.
    struct Batch;
    impl<'de> Visitor<'de> for Batch {
        type Value = Vec<Event>;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("a batch of events")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            seq.next_element::<IgnoredAny>()?;
            let events = seq.next_element()?.ok_or_else(|| A::Error::missing_field("events"));
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            events
        }
    }
    let mut reader = rmp_serde::Deserializer::from_read_ref(message);
    reader.set_max_depth(16);
    reader.deserialize_any(Batch)
}

/// The members of all kinds of event.
#[derive(Default)]
struct Members {
    hashes: Vec<Hash>,
    parent: Option<Hash>,
    tokens: Vec<u32>,
    block: usize,
    lora_id: Option<IgnoredAny>,
    lora_name: Option<String>,
    medium: Option<String>,
    extra: Option<Vec<Option<Vec<Extra>>>>,
    group: Option<u32>,
}

/// A number, or as many bytes as a digest has, of which a few are enough.
struct Hash(u64);

/// What besides its tokens makes a block what it is: an adapter's name, a salt, the hash of an image.
#[derive(Deserialize)]
#[serde(untagged)]
enum Extra {
    Text(String),
    Other(IgnoredAny),
}

impl Members {
    fn event(self, tag: &str) -> Event {
        // Other caches than the engine's own, and what layers of a second kind keep, say nothing of
        // what a prompt will find.
        let elsewhere = self.medium.as_ref().is_some_and(|medium| medium != "GPU");
        if elsewhere || self.group.is_some_and(|group| group != 0) {
            return Event::Other;
        }
        match tag {
            "BlockStored" if self.is_plain() => Event::Stored(Stored {
                hashes: self.hashes.into_iter().map(|hash| hash.0).collect(),
                parent: self.parent.map(|hash| hash.0),
                tokens: self.tokens,
                block: self.block,
                adapter: self.lora_name,
            }),
            "BlockRemoved" => Event::Removed(self.hashes.into_iter().map(|hash| hash.0).collect()),
            "AllBlocksCleared" => Event::Cleared,
            _ => Event::Other,
        }
    }

    /// Whether its tokens and its adapter's name say all there is to know.
    fn is_plain(&self) -> bool {
        let adapter = self.lora_name.as_deref();
        let known = |keys: &Vec<Extra>| {
            keys.iter()
                .all(|key| matches!(key, Extra::Text(text) if Some(text.as_str()) == adapter))
        };
        (self.lora_id.is_none() || adapter.is_some())
            && self.extra.iter().flatten().flatten().all(known)
    }

    /// Reads the member of that name; they stand in this order when they have none.
    fn read<'de, E>(
        &mut self,
        name: &str,
        next: &mut impl Next<'de, Error = E>,
    ) -> Result<bool, E> {
        fn put<T>(place: &mut T, found: Option<T>) -> bool {
            let found = found.map(|found| *place = found);
            found.is_some()
        }
        Ok(match name {
            "block_hashes" => put(&mut self.hashes, next.next()?),
            "parent_block_hash" => put(&mut self.parent, next.next()?),
            "token_ids" => put(&mut self.tokens, next.next()?),
            "block_size" => put(&mut self.block, next.next()?),
            "lora_id" => put(&mut self.lora_id, next.next()?),
            "lora_name" => put(&mut self.lora_name, next.next()?),
            "medium" => put(&mut self.medium, next.next()?),
            "extra_keys" => put(&mut self.extra, next.next()?),
            "group_idx" => put(&mut self.group, next.next()?),
            _ => next.next::<IgnoredAny>()?.is_some(),
        })
    }
}

/// Where events are lists (vLLM before its events had names): the order of their members.
const STORED: [&str; 10] = [
    "block_hashes",
    "parent_block_hash",
    "token_ids",
    "block_size",
    "lora_id",
    "medium",
    "lora_name",
    "extra_keys",
    "group_idx",
    "",
];
const REMOVED: [&str; 3] = ["block_hashes", "medium", "group_idx"];

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EventVisitor)
    }
}

struct EventVisitor;

impl<'de> Visitor<'de> for EventVisitor {
    type Value = Event;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an event of a KV cache")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Event, A::Error> {
        let (mut tag, mut members) = (String::new(), Members::default());
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "type" => tag = map.next_value()?,
                name => _ = members.read(name, &mut OfMap(&mut map))?,
            }
        }
        Ok(members.event(&tag))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Event, A::Error> {
        let tag: String = seq.next_element()?.unwrap_or_default();
        let names: &[&str] = match tag.as_str() {
            "BlockStored" => &STORED,
            "BlockRemoved" => &REMOVED,
            _ => &[],
        };
        let mut members = Members::default();
        let mut names = names.iter().copied();
        while members.read(names.next().unwrap_or_default(), &mut OfSeq(&mut seq))? {}
        Ok(members.event(&tag))
    }
}

/// The next value of a map or a list.
trait Next<'de> {
    type Error;

    fn next<T: Deserialize<'de>>(&mut self) -> Result<Option<T>, Self::Error>;
}

struct OfMap<'a, A>(&'a mut A);
struct OfSeq<'a, A>(&'a mut A);

impl<'de, A: MapAccess<'de>> Next<'de> for OfMap<'_, A> {
    type Error = A::Error;

    fn next<T: Deserialize<'de>>(&mut self) -> Result<Option<T>, A::Error> {
        self.0.next_value().map(Some)
    }
}

impl<'de, A: SeqAccess<'de>> Next<'de> for OfSeq<'_, A> {
    type Error = A::Error;

    fn next<T: Deserialize<'de>>(&mut self) -> Result<Option<T>, A::Error> {
        self.0.next_element()
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HashVisitor;
        impl Visitor<'_> for HashVisitor {
            type Value = Hash;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a block's hash")
            }

            fn visit_u64<E>(self, hash: u64) -> Result<Hash, E> {
                Ok(Hash(hash))
            }

            fn visit_i64<E>(self, hash: i64) -> Result<Hash, E> {
                Ok(Hash(hash.cast_unsigned()))
            }

            fn visit_bytes<E: Error>(self, hash: &[u8]) -> Result<Hash, E> {
                let first = hash.first_chunk().ok_or_else(|| E::custom("a hash that is too short"));
                first.map(|first| Hash(u64::from_le_bytes(*first)))
            }
        }
        deserializer.deserialize_any(HashVisitor)
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;

    fn packed(value: &impl Serialize) -> Vec<u8> {
        rmp_serde::to_vec(value).unwrap()
    }

    #[test]
    fn recorded_messages_of_vllm_are_read() {
        let first =
            read(include_bytes!("../../../tests/fixtures/vllm/kv_event_1.msgpack")).unwrap();
        let [Event::Stored(first)] = first.as_slice() else { panic!("{first:?}") };
        assert_eq!(first.hashes, [5_150_020_361_224_789_434, 14_930_978_610_702_195_219]);
        assert_eq!((first.parent, first.block, first.tokens.len()), (None, 128, 256));
        assert_eq!((&first.tokens[..3], &first.adapter), (&[1, 309, 261][..], &None));
        let second =
            read(include_bytes!("../../../tests/fixtures/vllm/kv_event_2.msgpack")).unwrap();
        let [Event::Stored(second)] = second.as_slice() else { panic!("{second:?}") };
        assert_eq!(second.parent, first.hashes.last().copied());
        assert_eq!((second.hashes.len(), second.tokens.len()), (1, 128));
    }

    #[test]
    fn lists_of_members_are_read_as_well() {
        let stored = ("BlockStored", [1_u64], Some(7_u64), [5_u32, 6], 2, None::<u32>);
        let removed = ("BlockRemoved", [3_u64, 4], "GPU");
        let batch = packed(&(1.5, (stored, removed, ("AllBlocksCleared",)), None::<u32>));
        let parent = Some(7);
        let stored =
            Stored { hashes: vec![1], parent, tokens: vec![5, 6], block: 2, adapter: None };
        let all = [Event::Stored(stored), Event::Removed(vec![3, 4]), Event::Cleared];
        assert_eq!(read(&batch).unwrap(), all);
    }

    /// A stored block with other members.
    fn stored(others: &serde_json::Value) -> Event {
        let mut event = serde_json::json!({
            "type": "BlockStored", "block_hashes": [1], "token_ids": [1, 2], "block_size": 2,
            "new_member": [[1, {"x": null}]],
        });
        event.as_object_mut().unwrap().extend(others.as_object().unwrap().clone());
        read(&packed(&(1.5, [event]))).unwrap().remove(0)
    }

    #[test]
    fn blocks_that_more_than_their_tokens_make_up_are_passed_over() {
        use serde_json::json;
        assert!(matches!(stored(&json!({"extra_keys": [null]})), Event::Stored(_)));
        let adapter = json!({"lora_id": 1, "lora_name": "a", "extra_keys": [["a"]]});
        let Event::Stored(stored_with) = stored(&adapter) else { panic!("an adapter is known") };
        assert_eq!(stored_with.adapter.as_deref(), Some("a"));
        for others in [
            json!({"extra_keys": [["salt"]]}),
            json!({"extra_keys": [[["image", 3]]]}),
            json!({"lora_id": 1}),
            json!({"medium": "CPU"}),
            json!({"group_idx": 1}),
            json!({"type": "SomethingNew"}),
        ] {
            assert_eq!(stored(&others), Event::Other, "{others}");
        }
    }

    #[test]
    fn a_digest_stands_for_itself_by_its_first_bytes() {
        let digest: Hash = rmp_serde::from_slice(b"\xc4\x09\x01\0\0\0\0\0\0\0\x09").unwrap();
        assert_eq!(digest.0, 1);
        assert!(rmp_serde::from_slice::<Hash>(b"\xc4\x01\x01").is_err());
    }

    #[test]
    fn what_is_no_batch_is_an_error_and_no_memory_is_set_aside_for_what_is_declared() {
        let whole = include_bytes!("../../../tests/fixtures/vllm/kv_event_1.msgpack");
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "{length}");
        }
        // A list of four thousand million, of which nothing comes.
        assert!(read(b"\x92\x01\xdd\xff\xff\xff\xff").is_err());
        let deep = [&[0x92, 0x01][..], &vec![0x91; 100_000]].concat();
        assert!(read(&deep).is_err());
    }
}
