use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket as Socket};
use std::sync::{Arc, Mutex};
use std::thread;

use super::*;

/// What a server does with a question for a kind of record.
#[derive(Clone, Copy)]
enum Reply {
    /// One address, with a lifetime in seconds.
    Address(IpAddr, u32),
    /// Nothing, with this code.
    Code(u8),
    /// Nothing at all over UDP.
    Silence,
    /// Too long for UDP.
    Long(IpAddr),
}

/// A name server that answers by `script`; notes what it was asked, by kind and whether over TCP.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<(String, u16, bool)>>>,
}

fn server(script: impl Fn(u16) -> Reply + Send + Sync + 'static) -> Server {
    // A port that is free for both.
    let (udp, tcp) = loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        if let Ok(udp) = Socket::bind(tcp.local_addr().unwrap()) {
            break (udp, tcp);
        }
    };
    let server = Server { address: tcp.local_addr().unwrap(), asked: Arc::default() };
    let (script, asked) = (Arc::new(script), server.asked.clone());
    let (script_tcp, asked_tcp) = (script.clone(), asked.clone());
    thread::spawn(move || {
        let mut message = [0; 512];
        while let Ok((length, from)) = udp.recv_from(&mut message) {
            if let Some(answer) = answer(&message[..length], &*script, &asked, false) {
                let _ = udp.send_to(&answer, from);
            }
        }
    });
    thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut message).unwrap();
            let answer = answer(&message, &*script_tcp, &asked_tcp, true).unwrap();
            stream.write_all(&(answer.len() as u16).to_be_bytes()).unwrap();
            stream.write_all(&answer).unwrap();
        }
    });
    server
}

fn answer(
    question: &[u8],
    script: &dyn Fn(u16) -> Reply,
    asked: &Mutex<Vec<(String, u16, bool)>>,
    over_tcp: bool,
) -> Option<Vec<u8>> {
    let mut name = Vec::new();
    let mut at = 12;
    while question[at] > 0 {
        let end = at + 1 + usize::from(question[at]);
        name.push(String::from_utf8_lossy(&question[at + 1..end]).into_owned());
        at = end;
    }
    let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
    asked.lock().unwrap().push((name.join("."), kind, over_tcp));
    let mut answer = question.to_vec();
    let (flags, found): (u16, _) = match script(kind) {
        Reply::Address(address, ttl) => (0x8180, Some((address, ttl))),
        Reply::Code(code) => (0x8180 | u16::from(code), None),
        Reply::Silence => return None,
        Reply::Long(_) if !over_tcp => (0x8380, None),
        Reply::Long(address) => (0x8180, Some((address, 5))),
    };
    answer[2..4].copy_from_slice(&flags.to_be_bytes());
    if let Some((address, ttl)) = found {
        answer[7] = 1;
        let data = match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        answer.extend_from_slice(&[0xc0, 12]);
        answer.extend_from_slice(&kind.to_be_bytes());
        answer.extend_from_slice(&[0, 1]);
        answer.extend_from_slice(&ttl.to_be_bytes());
        answer.extend_from_slice(&(data.len() as u16).to_be_bytes());
        answer.extend_from_slice(&data);
    }
    Some(answer)
}

const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// A script with an answer for each family.
fn both(v4: Reply, v6: Reply) -> impl Fn(u16) -> Reply + Send + Sync + 'static {
    move |kind| if kind == Kind::A as u16 { v4 } else { v6 }
}

fn ask(servers: &[&Server], family: DnsFamily) -> Result<Found, String> {
    let servers = DnsServers {
        addresses: servers.iter().map(|server| server.address).collect(),
        as_fallback: false,
        tcp: false,
        search: false,
        rotate: false,
        timeout: Some(Duration::from_millis(300)),
        attempts: Some(2),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(resolve("app.test", family, &servers))
}

fn found(addresses: &[IpAddr], ttl: Option<u64>) -> Result<Found, String> {
    Ok(Found { addresses: addresses.to_vec(), ttl: ttl.map(Duration::from_secs) })
}

#[test]
fn families_are_asked_and_preferred_as_configured() {
    let server = server(both(Reply::Address(V4, 30), Reply::Address(V6, 20)));
    assert_eq!(ask(&[&server], DnsFamily::V4Only), found(&[V4], Some(30)));
    assert_eq!(*server.asked.lock().unwrap(), [("app.test".to_owned(), 1, false)]);
    assert_eq!(ask(&[&server], DnsFamily::V6Only), found(&[V6], Some(20)));
    assert_eq!(ask(&[&server], DnsFamily::Auto), found(&[V6], Some(20)));
    assert_eq!(ask(&[&server], DnsFamily::V4Preferred), found(&[V4], Some(30)));
    assert_eq!(ask(&[&server], DnsFamily::All), found(&[V4, V6], Some(20)));
}

#[test]
fn a_family_without_addresses_leaves_it_to_the_other() {
    let server = server(both(Reply::Address(V4, 30), Reply::Code(0)));
    assert_eq!(ask(&[&server], DnsFamily::Auto), found(&[V4], Some(30)));
    assert_eq!(ask(&[&server], DnsFamily::V6Only), found(&[], None));
}

#[test]
fn a_name_that_does_not_exist_is_an_answer() {
    let server = server(|_| Reply::Code(3));
    assert_eq!(ask(&[&server], DnsFamily::Auto), found(&[], None));
    assert_eq!(server.asked.lock().unwrap().len(), 2, "nobody is asked again");
}

#[test]
fn a_server_that_fails_or_is_silent_leaves_it_to_the_next() {
    let (failing, silent) = (server(|_| Reply::Code(2)), server(|_| Reply::Silence));
    let good = server(|_| Reply::Address(V4, 30));
    assert_eq!(ask(&[&failing, &silent, &good], DnsFamily::V4Only), found(&[V4], Some(30)));
    let error = ask(&[&silent, &failing], DnsFamily::V4Only).unwrap_err();
    assert!(error.contains("code 2"), "{error}");
    assert_eq!(failing.asked.lock().unwrap().len(), 3, "once before, and twice in this look-up");
}

#[test]
fn a_long_answer_is_asked_for_over_tcp() {
    let server = server(|_| Reply::Long(V4));
    assert_eq!(ask(&[&server], DnsFamily::V4Only), found(&[V4], Some(5)));
    let asked = server.asked.lock().unwrap();
    assert_eq!(asked.iter().map(|(_, _, tcp)| *tcp).collect::<Vec<_>>(), [false, true]);
}
