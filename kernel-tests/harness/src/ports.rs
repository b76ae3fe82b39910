//! Port numbers for processes under test.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};
use std::{env, process, thread};

use anyhow::{Context, Result, bail};

/// The numbers given out. They lie below Linux' ephemeral range (from 32768), so that no outgoing connection of this
/// machine takes one between its reservation and the child's `bind`.
const FIRST: u16 = 20_000;
const LAST: u16 = 31_999;

/// Locks of the numbers this process gave out; the kernel drops them with the process.
static RESERVED: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// Where the next search begins; processes begin at different places.
static NEXT: AtomicU16 = AtomicU16::new(0);

/// Reserves a loopback address whose port nobody listens on. No other process that asks here gets the same number
/// while this one lives.
///
/// # Errors
/// When no number is left, or the folder of reservations (under the system's temporary folder) cannot be written.
pub fn free_address() -> Result<SocketAddr> {
    let folder = env::temp_dir().join("ringsail-test-ports");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let numbers = LAST - FIRST + 1;
    let start = (process::id() as u16).wrapping_mul(37) % numbers;
    for _ in 0..numbers {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (start + offset % numbers) % numbers;
        let path = folder.join(port.to_string());
        let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
        if file.try_lock().is_err() || TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err() {
            continue;
        }
        RESERVED.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(file);
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    bail!("every port from {FIRST} to {LAST} is taken")
}

/// Waits until some process listens on each of `addresses`, without connecting (a connection would be counted).
///
/// # Errors
/// Names the first address on which nobody listens after `limit`.
pub fn wait_until_listening(addresses: &[SocketAddr], limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let listening = listening_ports()?;
        let Some(missing) = addresses.iter().find(|address| !listening.contains(&address.port())) else {
            return Ok(());
        };
        if Instant::now() > deadline {
            bail!("nobody listens on {missing} after {limit:?}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// The ports in state LISTEN. Source: proc(5), `/proc/net/tcp`: local address in hexadecimal, state 0A.
fn listening_ports() -> Result<Vec<u16>> {
    let mut ports = Vec::new();
    for path in ["/proc/net/tcp", "/proc/net/tcp6"].map(PathBuf::from) {
        // Without IPv6 the second file does not exist.
        for line in fs::read_to_string(path).unwrap_or_default().lines().skip(1) {
            let mut columns = line.split_ascii_whitespace().skip(1);
            let (Some(local), Some(_), Some("0A")) = (columns.next(), columns.next(), columns.next()) else {
                continue;
            };
            let port = local.rsplit(':').next().context("a local address has a port")?;
            ports.push(u16::from_str_radix(port, 16)?);
        }
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_ports_differ_and_are_below_the_ephemeral_range() {
        let addresses: Vec<_> = (0..20).map(|_| free_address().unwrap()).collect();
        for (index, address) in addresses.iter().enumerate() {
            assert!((FIRST..=LAST).contains(&address.port()));
            assert!(!addresses[..index].contains(address));
        }
    }

    #[test]
    fn a_listener_is_seen_and_its_absence_is_named() {
        let address = free_address().unwrap();
        let error = wait_until_listening(&[address], Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains(&address.to_string()));
        let _listener = TcpListener::bind(address).unwrap();
        wait_until_listening(&[address], Duration::from_secs(20)).unwrap();
    }
}
