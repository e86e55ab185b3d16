//! Connections by the address they come from.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;

/// Who counts as one: an IPv4 address, or a /64 of IPv6, which is what one subscriber gets.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

/// The addresses that have a connection, if connections are bounded.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    most: Option<u32>,
    taken: Mutex<HashMap<IpAddr, u32>>,
}

impl Addresses {
    pub(super) fn new(most: Option<u32>) -> Self {
        Self {
            most,
            taken: Mutex::default(),
        }
    }

    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<AddressPlace> {
        let Some(most) = self.most else {
            return Some(AddressPlace(None));
        };
        let address = network(address);
        let mut taken = self.taken.lock();
        let now = taken.get(&address).copied().unwrap_or(0);
        if now >= most {
            return None;
        }
        taken.insert(address, now + 1);
        Some(AddressPlace(Some((self.clone(), address))))
    }

    fn leave(&self, address: IpAddr) {
        let mut taken = self.taken.lock();
        match taken.get_mut(&address) {
            Some(now) if *now > 1 => *now -= 1,
            _ => drop(taken.remove(&address)),
        }
    }
}

/// A connection's place among those of its address; dropping it gives it back.
#[derive(Debug)]
pub struct AddressPlace(Option<(Arc<Addresses>, IpAddr)>);

impl Drop for AddressPlace {
    fn drop(&mut self) {
        if let Some((addresses, address)) = self.0.take() {
            addresses.leave(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_an_ipv4_one_or_a_64_of_ipv6_and_none_is_left_behind() {
        let addresses = Arc::new(Addresses::new(Some(2)));
        let enter = |text: &str| addresses.enter(text.parse().expect("an address"));
        for alike in [
            ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"],
            ["2001:db8::1", "2001:db8::ffff:1", "2001:db8::2"],
        ] {
            let places = alike.map(&enter);
            let found: Vec<_> = places.iter().map(Option::is_some).collect();
            assert_eq!(found, [true, true, false], "{alike:?}");
            assert!(enter("192.0.2.9").is_some() && enter("2001:db8:0:1::1").is_some());
            drop(places);
            assert!(enter(alike[2]).is_some(), "free again");
        }
        assert!(addresses.taken.lock().is_empty());
    }

    #[test]
    fn without_a_bound_nothing_is_remembered() {
        let addresses = Arc::new(Addresses::default());
        let address = IpAddr::from([192, 0, 2, 1]);
        let places: Vec<_> = (0..9).map(|_| addresses.enter(address)).collect();
        assert!(places.iter().all(Option::is_some));
        assert!(addresses.taken.lock().is_empty());
    }
}
