//! Addresses of a local mesh, all of them loopback.
//!
//! Mesh number N owns `127.77.N.0/24` for its pods (where sidecars and gateways listen), `127.78.N.0/24` for the programs
//! behind them, and `127.79.N.0/24` for the sidecars' outbound listeners. Several meshes can run on one machine: a listening socket on the mesh's own address is the
//! claim to its number, and the kernel drops the claim with the process.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Result, bail};

use crate::limits::WORKLOADS_MAX;

/// Last byte of the address at which the control plane answers.
const CONTROL_PLANE: u8 = 254;

/// Port of the claim.
const CLAIM_PORT: u16 = 15999;

/// The numbers of one mesh and who has which.
pub struct Network {
    number: u8,
    slots: BTreeMap<String, usize>,
    _claim: TcpListener,
}

/// A workload's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The pod's address, where its proxy listens.
    pub mesh: Ipv4Addr,
    /// Where its program listens.
    pub app: Ipv4Addr,
    /// Where its sidecar takes the program's calls. Not the program's own address: it may listen on the very port of
    /// a service that it calls.
    pub outbound: Ipv4Addr,
}

impl Network {
    /// Claims the lowest free mesh number.
    pub fn claim() -> Result<Self> {
        for number in 0..=u8::MAX {
            let address = SocketAddr::from((Ipv4Addr::new(127, 77, number, CONTROL_PLANE), CLAIM_PORT));
            if let Ok(claim) = TcpListener::bind(address) {
                return Ok(Self { number, slots: BTreeMap::new(), _claim: claim });
            }
        }
        bail!(
            "no free block in 127.77.0.0/16: 256 local meshes run already, or loopback addresses cannot be bound here"
        )
    }

    /// Where the control plane answers.
    pub fn control_plane(&self) -> Ipv4Addr {
        Ipv4Addr::new(127, 77, self.number, CONTROL_PLANE)
    }

    /// The addresses of a pod: the same at every call, until it is released.
    pub fn addresses(&mut self, pod: &str) -> Result<Addresses> {
        let slot = match self.slots.get(pod) {
            Some(slot) => *slot,
            None => {
                let free = (1..=WORKLOADS_MAX).find(|slot| !self.slots.values().any(|used| used == slot));
                let Some(free) = free else {
                    bail!("a local mesh holds at most {WORKLOADS_MAX} pods; lower some `replicas`");
                };
                self.slots.insert(pod.to_owned(), free);
                free
            }
        };
        let last = u8::try_from(slot).unwrap_or(u8::MAX);
        Ok(Addresses {
            mesh: Ipv4Addr::new(127, 77, self.number, last),
            app: Ipv4Addr::new(127, 78, self.number, last),
            outbound: Ipv4Addr::new(127, 79, self.number, last),
        })
    }

    /// Gives a pod's addresses back.
    pub fn release(&mut self, pod: &str) {
        self.slots.remove(pod);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_meshes_never_share_addresses() {
        let mut one = Network::claim().expect("a block");
        let mut two = Network::claim().expect("another block");
        assert_ne!(one.control_plane(), two.control_plane());
        assert_ne!(one.addresses("a").expect("free"), two.addresses("a").expect("free"));
    }

    #[test]
    fn a_pod_keeps_its_addresses_until_released() {
        let mut network = Network::claim().expect("a block");
        let first = network.addresses("a").expect("free");
        network.addresses("b").expect("free");
        assert_eq!(network.addresses("a").expect("known"), first);
        network.release("a");
        assert_eq!(network.addresses("c").expect("free"), first);
    }

    #[test]
    fn the_last_pod_fits_and_the_next_is_refused() {
        let mut network = Network::claim().expect("a block");
        for index in 0..WORKLOADS_MAX {
            network.addresses(&index.to_string()).expect("free");
        }
        assert!(network.addresses("one more").is_err());
    }
}
