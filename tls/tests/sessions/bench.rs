//! Certificates made for a test, and two sessions driven against each other.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ringsail_tls::certificate::Certificate;
use ringsail_tls::context::{ClientContext, ServerContext};
use ringsail_tls::issue::{Issued, KeyKind, Request};
use ringsail_tls::session::{Handshake, Io, Read, Session};
use ringsail_tls::settings::{Alpn, ClientSettings, Parameters, ServerSettings};
use ringsail_tls::validation::{NameKind, NameMatcher, Rules, TextMatch, Validation};
use ringsail_tls::{TicketKeys, TlsError, Utc};

pub const HOUR: i64 = 3600;

/// Seconds from this moment.
pub fn from_now(seconds: i64) -> Utc {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_secs();
    Utc(now as i64 + seconds)
}

/// For an hour before and after now.
pub fn request() -> Request {
    Request::new(from_now(-HOUR), from_now(HOUR))
}

pub fn authority(name: &str) -> Issued {
    let request = Request { common_name: name.to_owned(), is_authority: true, ..request() };
    Issued::self_signed(&request).expect("an authority can be made")
}

/// A certificate of a workload.
pub fn workload(authority: &Issued, account: &str) -> Issued {
    let uri_names = vec![format!("spiffe://cluster.local/ns/shop/sa/{account}")];
    authority.issue(&Request { uri_names, ..request() }).expect("a certificate can be made")
}

pub fn certificate(issued: &Issued) -> Arc<Certificate> {
    let (chain, key) = (issued.certificate_pem().unwrap(), issued.key_pem().unwrap());
    Arc::new(Certificate::from_pem(&chain, &key, None, None).expect("what was made can be read"))
}

pub fn trusting(authority: &Issued) -> Rules {
    Rules { trusted: authority.certificate_pem().unwrap().into(), ..Rules::default() }
}

pub fn validation(rules: Rules) -> Option<Arc<Validation>> {
    Some(Arc::new(Validation::new(rules).expect("the rules are good")))
}

pub fn exact(kind: NameKind, text: &str) -> NameMatcher {
    NameMatcher { kind: Some(kind), text: TextMatch::Exact(text.to_owned()), ignore_case: false }
}

/// A server that shows `issued` and asks for nothing.
pub fn server(issued: &Issued) -> ServerSettings {
    ServerSettings {
        parameters: Parameters::default(),
        certificates: vec![certificate(issued)],
        validation: None,
        client_certificate_required: false,
        alpn: Alpn::default(),
        tickets: Some(TicketKeys::random()),
        client_cipher_order: false,
    }
}

/// A server that wants a certificate of `authority`.
pub fn mutual_server(issued: &Issued, authority: &Issued) -> ServerSettings {
    ServerSettings {
        validation: validation(trusting(authority)),
        client_certificate_required: true,
        ..server(issued)
    }
}

/// A client that trusts `authority` and shows nothing.
pub fn client(authority: &Issued) -> ClientSettings {
    ClientSettings {
        parameters: Parameters::default(),
        certificate: None,
        validation: validation(trusting(authority)),
        server_name: None,
        alpn: Alpn::default(),
        sessions_kept: 1,
    }
}

/// Both ends, and what is on its way.
pub struct Pair {
    pub client: Session,
    pub server: Session,
    pub to_server: Vec<u8>,
    pub to_client: Vec<u8>,
}

/// Why a handshake ended early, by side.
#[derive(Debug)]
pub struct Failed {
    pub client: Option<TlsError>,
    pub server: Option<TlsError>,
}

impl Pair {
    pub fn new(client: &ClientContext, server: &ServerContext) -> Pair {
        Pair {
            client: client.connect(None).unwrap(),
            server: server.accept().unwrap(),
            to_server: Vec::new(),
            to_client: Vec::new(),
        }
    }

    /// Drives both ends until both are done or one has failed and told the other.
    pub fn handshake(&mut self) -> Result<(), Failed> {
        let (mut client, mut server) = (None, None);
        for _ in 0..10 {
            if client.as_ref().is_none_or(Result::is_ok) {
                client = Some(step(&mut self.client, &mut self.to_client, &mut self.to_server));
            }
            if server.as_ref().is_none_or(Result::is_ok) {
                server = Some(step(&mut self.server, &mut self.to_server, &mut self.to_client));
            }
        }
        match (client, server) {
            (Some(Ok(Handshake::Done)), Some(Ok(Handshake::Done))) => Ok(()),
            (client, server) => {
                let client = client.and_then(Result::err).or_else(|| self.read_client(&mut [0; 1]).err());
                Err(Failed { client, server: server.and_then(Result::err) })
            }
        }
    }

    pub fn read_client(&mut self, plain: &mut [u8]) -> Result<Read, TlsError> {
        read(&mut self.client, &mut self.to_client, &mut self.to_server, plain)
    }

    pub fn read_server(&mut self, plain: &mut [u8]) -> Result<Read, TlsError> {
        read(&mut self.server, &mut self.to_server, &mut self.to_client, plain)
    }

    pub fn client_writes(&mut self, plain: &[u8]) {
        let mut io = Io { input: &[], input_ended: false, output: &mut self.to_server };
        assert_eq!(self.client.write(&mut io, plain).unwrap(), plain.len());
    }

    pub fn server_writes(&mut self, plain: &[u8]) {
        let mut io = Io { input: &[], input_ended: false, output: &mut self.to_client };
        assert_eq!(self.server.write(&mut io, plain).unwrap(), plain.len());
    }

    /// Sends a word each way and reads it: both ends have taken in all that belongs to the handshake.
    pub fn talk(&mut self) {
        let mut room = [0; 64];
        self.client_writes(b"ping");
        assert_eq!(self.read_server(&mut room).unwrap(), Read::Bytes(4));
        self.server_writes(b"pong");
        assert_eq!(self.read_client(&mut room).unwrap(), Read::Bytes(4));
        assert_eq!(&room[..4], b"pong");
    }
}

fn step(session: &mut Session, input: &mut Vec<u8>, output: &mut Vec<u8>) -> Result<Handshake, TlsError> {
    let mut io = Io { input, input_ended: false, output };
    let result = session.handshake(&mut io);
    let left = io.input.len();
    input.drain(..input.len() - left);
    result
}

fn read(
    session: &mut Session,
    input: &mut Vec<u8>,
    output: &mut Vec<u8>,
    plain: &mut [u8],
) -> Result<Read, TlsError> {
    let mut io = Io { input, input_ended: false, output };
    let result = session.read(&mut io, plain);
    let left = io.input.len();
    input.drain(..input.len() - left);
    result
}

/// Two ends that have shaken hands.
pub fn joined(client: ClientSettings, server: &ServerSettings) -> Result<Pair, Failed> {
    let client = ClientContext::new(&Arc::new(client)).expect("the client's settings are good");
    let server = ServerContext::new(server).expect("the server's settings are good");
    let mut pair = Pair::new(&client, &server);
    pair.handshake().map(|()| pair)
}

/// An RSA key takes a while to make.
pub fn rsa(bits: u32) -> Request {
    Request { key: KeyKind::Rsa(bits), ..request() }
}
