//! A name server of our own: A and SRV records, with the TTL a test gives them.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// Answers on 127.0.0.1; gone when dropped.
pub struct Server {
    pub address: SocketAddr,
    zone: Arc<Zone>,
    _task: JoinSet<()>,
}

#[derive(Default)]
struct Zone {
    records: Mutex<HashMap<String, Vec<Record>>>,
    /// Names asked for, in turn.
    asked: Mutex<Vec<String>>,
    silent: AtomicBool,
}

/// One record, with its TTL in seconds.
#[derive(Clone)]
pub enum Record {
    A { address: Ipv4Addr, ttl: u32 },
    Srv { priority: u16, weight: u16, port: u16, target: String, ttl: u32 },
}

pub async fn server() -> Server {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let zone = Arc::new(Zone::default());
    let (mut server, shared) = (JoinSet::new(), Arc::clone(&zone));
    server.spawn(async move {
        let mut packet = [0; 1024];
        while let Ok((length, from)) = socket.recv_from(&mut packet).await {
            let name = name_of(&packet);
            shared.asked.lock().unwrap().push(name.clone());
            if !shared.silent.load(SeqCst) {
                let known = shared.records.lock().unwrap().get(&name).cloned();
                let _sent = socket.send_to(&answer(&packet[..length], known), from).await;
            }
        }
    });
    Server { address, zone, _task: server }
}

impl Server {
    /// Sets all records of a name.
    pub fn set(&self, name: &str, records: &[Record]) {
        self.zone.records.lock().unwrap().insert(name.to_owned(), records.to_vec());
    }

    /// How often a name has been asked for.
    pub fn asked_for(&self, name: &str) -> usize {
        self.zone.asked.lock().unwrap().iter().filter(|asked| *asked == name).count()
    }

    /// From now on it answers nothing.
    pub fn fall_silent(&self) {
        self.zone.silent.store(true, SeqCst);
    }
}

pub fn srv(port: u16, target: &str, ttl: u32) -> Record {
    Record::Srv { priority: 1, weight: 1, port, target: target.to_owned(), ttl }
}

pub fn a(address: [u8; 4], ttl: u32) -> Record {
    Record::A { address: address.into(), ttl }
}

/// The name that is asked for.
fn name_of(question: &[u8]) -> String {
    let (mut labels, mut at) = (Vec::new(), 12);
    while question[at] > 0 {
        let end = at + 1 + usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..end]).to_ascii_lowercase());
        at = end;
    }
    labels.join(".")
}

/// RFC 1035: the question comes back, and what there is of its type.
fn answer(question: &[u8], known: Option<Vec<Record>>) -> Vec<u8> {
    // Twelve bytes of header; the name, its end and the length of its first label.
    let at = 12 + name_of(question).len() + 1;
    let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
    let code = if known.is_some() { 0 } else { 3 };
    let found: Vec<Record> =
        known.into_iter().flatten().filter(|record| record.kind() == kind).collect();
    let mut answer = question[..2].to_vec();
    answer.extend([0x85, 0x80 | code, 0, 1, 0, u8::try_from(found.len()).unwrap(), 0, 0, 0, 0]);
    answer.extend(&question[12..at + 5]);
    for record in found {
        record.write(&mut answer);
    }
    answer
}

impl Record {
    fn kind(&self) -> u16 {
        match self {
            Self::A { .. } => 1,
            Self::Srv { .. } => 33,
        }
    }

    fn write(&self, answer: &mut Vec<u8>) {
        // Its name is the question's.
        answer.extend([0xc0, 12]);
        answer.extend(self.kind().to_be_bytes());
        answer.extend([0, 1]);
        let (ttl, data) = match self {
            Self::A { address, ttl } => (ttl, address.octets().to_vec()),
            Self::Srv { priority, weight, port, target, ttl } => {
                let mut data: Vec<u8> =
                    [priority, weight, port].iter().flat_map(|part| part.to_be_bytes()).collect();
                for label in target.split('.') {
                    data.push(u8::try_from(label.len()).unwrap());
                    data.extend(label.as_bytes());
                }
                data.push(0);
                (ttl, data)
            }
        };
        answer.extend(ttl.to_be_bytes());
        answer.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        answer.extend(data);
    }
}
