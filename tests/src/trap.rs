//! A listener on all addresses of a namespace: whoever is dialled there is noted.

use std::net::{IpAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// The listener; it closes every connection at once, and ends with the process.
#[derive(Clone, Debug)]
pub struct Trap {
    dialled: Arc<Mutex<Vec<IpAddr>>>,
}

impl Trap {
    /// Listens on a port of every address, of IPv4 and IPv6.
    ///
    /// # Panics
    /// When the port is taken.
    pub fn set(port: u16) -> Self {
        let listener = TcpListener::bind(("::", port)).expect("the namespace's ports are ours");
        let dialled: Arc<Mutex<Vec<IpAddr>>> = Arc::default();
        let notes = Arc::clone(&dialled);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let local = stream.local_addr().expect("a connection has two addresses");
                let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
                notes.push(local.ip().to_canonical());
            }
        });
        Self { dialled }
    }

    /// The addresses that were dialled, in order.
    pub fn dialled(&self) -> Vec<IpAddr> {
        let dialled = self.dialled.lock();
        dialled.unwrap_or_else(PoisonError::into_inner).clone()
    }
}
