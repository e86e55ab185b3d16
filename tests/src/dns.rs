//! A name server that answers by a script: several addresses of one name, or another one
//! each time it is asked.
//!
//! For a namespace of the test's own, where it may have port 53 of loopback.

use std::collections::HashMap;
use std::net::{IpAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Header of a message.
const HEADER: usize = 12;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
/// Answer, recursion desired and available.
const ANSWER: [u8; 2] = [0x81, 0x80];
const NO_SUCH_NAME: u8 = 3;

/// What it knows of a name: the addresses of each answer, the last of them for good.
type Script = Vec<Vec<IpAddr>>;

#[derive(Debug, Default)]
struct Zone {
    names: HashMap<String, Script>,
    /// Questions about a name that were answered, by type.
    asked: HashMap<(String, u16), usize>,
}

/// The server; it ends with the process.
#[derive(Clone, Debug)]
pub struct Dns {
    zone: Arc<Mutex<Zone>>,
}

impl Dns {
    /// Listens on port 53 of 127.0.0.1.
    ///
    /// # Panics
    /// When it may not.
    pub fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:53").expect("the namespace's port 53 is ours");
        let zone: Arc<Mutex<Zone>> = Arc::default();
        let shared = Arc::clone(&zone);
        thread::spawn(move || {
            let mut bytes = [0; 512];
            while let Ok((length, peer)) = socket.recv_from(&mut bytes) {
                if let Some(answer) = lock(&shared).answer(&bytes[..length]) {
                    // Who asked may be gone.
                    let _sent = socket.send_to(&answer, peer);
                }
            }
        });
        Self { zone }
    }

    /// Sets the answers about a name: the addresses of the first, of the second, and so on.
    ///
    /// # Panics
    /// When an address is none.
    pub fn set(&self, name: &str, answers: &[&[&str]]) {
        let address = |text: &&str| text.parse().expect("an address");
        let script = answers.iter().map(|one| one.iter().map(address).collect());
        let mut zone = lock(&self.zone);
        zone.names.insert(name.to_owned(), script.collect());
    }

    /// How often addresses of IPv4 of a name were asked for.
    pub fn asked(&self, name: &str) -> usize {
        let key = (name.to_owned(), TYPE_A);
        lock(&self.zone).asked.get(&key).copied().unwrap_or(0)
    }
}

fn lock(zone: &Mutex<Zone>) -> MutexGuard<'_, Zone> {
    zone.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Zone {
    fn answer(&mut self, query: &[u8]) -> Option<Vec<u8>> {
        let (name, kind, question) = question(query)?;
        let known = self.names.get(&name);
        let turn = self.asked.entry((name, kind)).or_default();
        let addresses = known.map(|script| {
            let last = script.len().saturating_sub(1);
            script.get((*turn).min(last)).cloned().unwrap_or_default()
        });
        *turn += 1;
        let records: Vec<Vec<u8>> = addresses
            .iter()
            .flatten()
            .filter_map(|ip| record(*ip, kind))
            .collect();
        let refusal = if known.is_none() { NO_SUCH_NAME } else { 0 };
        let count = u8::try_from(records.len()).ok()?;
        let mut answer = query[..2].to_vec();
        answer.extend([ANSWER[0], ANSWER[1] | refusal, 0, 1, 0, count, 0, 0, 0, 0]);
        answer.extend(question);
        answer.extend(records.concat());
        Some(answer)
    }
}

/// Name in lower case, type, and the bytes of the first question.
fn question(query: &[u8]) -> Option<(String, u16, &[u8])> {
    let mut at = HEADER;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        let label = query.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes(*query.get(at..)?.first_chunk()?);
    Some((labels.join("."), kind, query.get(HEADER..at + 4)?))
}

/// A record of the question's own name, to be forgotten at once.
fn record(ip: IpAddr, asked: u16) -> Option<Vec<u8>> {
    let (kind, data) = match ip {
        IpAddr::V4(ip) => (TYPE_A, ip.octets().to_vec()),
        IpAddr::V6(ip) => (TYPE_AAAA, ip.octets().to_vec()),
    };
    let length = u8::try_from(data.len()).ok()?;
    let head = [
        0xC0,
        HEADER as u8,
        0,
        kind as u8,
        0,
        1,
        0,
        0,
        0,
        0,
        0,
        length,
    ];
    (kind == asked).then(|| [&head[..], &data].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_another_address_each_time_and_the_last_one_for_good() {
        let mut zone = Zone::default();
        let address = |text: &str| text.parse().expect("an address");
        let script = vec![vec![address("192.0.2.1")], vec![address("192.0.2.2")]];
        zone.names.insert("a.example".to_owned(), script);
        let query = b"\x07\x08\x01\x00\0\x01\0\0\0\0\0\0\x01A\x07eXample\0\0\x01\0\x01";
        let mut last = || zone.answer(query).expect("an answer").pop();
        assert_eq!([last(), last(), last()], [Some(1), Some(2), Some(2)]);
        let unknown = b"\x07\x08\x01\x00\0\x01\0\0\0\0\0\0\x01b\0\0\x01\0\x01";
        assert_eq!(
            zone.answer(unknown).expect("an answer")[3] & 15,
            NO_SUCH_NAME
        );
        for end in 0..query.len() {
            assert_eq!(zone.answer(&query[..end]), None, "cut at {end}");
        }
    }
}
