//! The `kv_events` of a provider: where its servers publish what they have in their KV caches.

use super::read::Value;

/// Where the replicas of a provider publish their KV events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvEvents {
    /// Their port at each replica.
    pub port: EventPort,
    /// What messages begin with.
    pub topic: String,
}

/// A port beside a replica's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventPort {
    /// The same at each.
    Same(u16),
    /// So many above its own, where several replicas share an address.
    Above(u16),
}

impl KvEvents {
    /// The port where the replica at `own` publishes; `None` when there is none that high.
    pub fn port(&self, own: u16) -> Option<u16> {
        match self.port {
            EventPort::Same(port) => Some(port),
            EventPort::Above(offset) => own.checked_add(offset),
        }
    }

    pub(super) fn read(value: Value) -> Option<Self> {
        value.section(|s| {
            let port = s.read("port", |v| v.number(1, u16::MAX)).map(EventPort::Same);
            let above = s.read("port_offset", |v| v.number(1, u16::MAX)).map(EventPort::Above);
            let topic = s.read("topic", topic).unwrap_or_default();
            match (s.has("port"), s.has("port_offset")) {
                (true, true) => {
                    s.error("`kv_events` has either `port` or `port_offset`, not both")?;
                }
                (false, false) => s.error("`port` is missing in `kv_events`")?,
                _ => {}
            }
            Some(Self { port: port.or(above)?, topic })
        })?
    }
}

/// As much as fits into a short frame.
fn topic(value: Value) -> Option<String> {
    let topic = value.text()?;
    if topic.len() > 200 {
        return value.must_be("at most 200 bytes long");
    }
    Some(topic)
}
