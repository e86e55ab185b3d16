//! A free loopback port for peers that cannot ask for port 0 themselves.

use std::net::{IpAddr, SocketAddr, TcpListener};

/// An address that was free a moment ago. Another process may take it first, so
/// callers start again with a new one when their peer says it is taken.
pub fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener
        .local_addr()
        .expect("a bound socket has an address")
}

/// Several at once, on an address of this machine; all different.
///
/// # Panics
/// When the address is not this machine's.
pub fn free_at<const N: usize>(ip: IpAddr) -> [SocketAddr; N] {
    let bind = |_| TcpListener::bind((ip, 0)).expect("the address has a free port");
    let listeners: [TcpListener; N] = std::array::from_fn(bind);
    listeners.map(|listener| {
        listener
            .local_addr()
            .expect("a bound socket has an address")
    })
}
