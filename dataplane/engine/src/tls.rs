//! TLS handshakes of this shard, and what is known of a session after one.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ringsail_runtime::buffers::Lease;
use ringsail_runtime::local::Notify;
use ringsail_runtime::net;
use ringsail_runtime::task::yield_now;
use ringsail_runtime::time::timeout;
use ringsail_tables::tls::{ClientTls, Secrets, ServerTls};
use ringsail_tls::certificate::{self, Certificate};
use ringsail_tls::context::{ClientContext, ServerContext};
use ringsail_tls::session::{Handshake, Io, Session};
use ringsail_tls::settings::{Alpn, ClientSettings, ServerSettings, Version};

use crate::limits::{RECEIVE_BYTES_MAX, TLS_FAILURES_KEPT};
use crate::stream::Stream;

/// What is known of a TLS session for as long as it lasts.
#[derive(Debug)]
pub struct Facts {
    /// What the peer's certificate says; `None` where it has shown none.
    pub peer: Option<Box<certificate::Facts>>,
    /// The peer's certificate was judged and found good. Without that, what it says is only what the peer says.
    pub peer_validated: bool,
    /// Our own certificate.
    pub local: Option<Arc<Certificate>>,
    /// The server name that was asked for; empty where none was.
    pub server_name: Box<str>,
    /// The application protocol agreed on.
    pub alpn: Box<[u8]>,
    /// The version.
    pub version: Option<Version>,
    /// The cipher suite as OpenSSL names it.
    pub cipher: &'static str,
    /// The session's id in hexadecimal.
    pub session_id: Box<str>,
    /// An earlier session was resumed.
    pub is_resumed: bool,
}

impl Facts {
    fn of(session: &Session, local: Option<Arc<Certificate>>) -> Facts {
        Facts {
            peer: session.peer().map(Box::new),
            peer_validated: session.is_peer_validated(),
            local,
            server_name: session.server_name().unwrap_or_default().into(),
            alpn: session.alpn().unwrap_or_default().into(),
            version: session.version(),
            cipher: session.cipher().unwrap_or_default(),
            session_id: session.id().into(),
            is_resumed: session.is_resumed(),
        }
    }

    /// The peer's certificate, if it was found good.
    pub fn trusted_peer(&self) -> Option<&certificate::Facts> {
        self.peer.as_deref().filter(|_| self.peer_validated)
    }

    /// The version as Envoy writes it.
    pub fn version_text(&self) -> &'static str {
        match self.version {
            Some(Version::Tls12) => "TLSv1.2",
            Some(Version::Tls13) => "TLSv1.3",
            None => "",
        }
    }
}

/// Why a handshake failed, in words for people and in Envoy's.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// For people.
    pub text: String,
    /// As Envoy writes it in access logs, blanks replaced by `_`.
    pub compat: String,
}

impl Refusal {
    fn of(error: &ringsail_tls::TlsError) -> Refusal {
        Refusal { text: error.to_string(), compat: error.compat().replace(' ', "_") }
    }

    fn local(text: String) -> Refusal {
        let compat = format!("TLS_error:_{}", text.replace(' ', "_"));
        Refusal { text, compat }
    }
}

/// A filter chain's context, made at its first handshake and again when a secret of it was rotated.
#[derive(Default)]
pub struct ServerCache(RefCell<Option<ServerReady>>);

struct ServerReady {
    secrets: Arc<Secrets>,
    settings: ServerSettings,
    context: ServerContext,
}

impl ServerCache {
    fn context(
        &self,
        tls: &ServerTls,
        secrets: &Arc<Secrets>,
    ) -> Result<(ServerContext, Option<Arc<Certificate>>), Refusal> {
        let mut ready = self.0.borrow_mut();
        if ready.as_ref().is_none_or(|ready| !Arc::ptr_eq(&ready.secrets, secrets)) {
            let settings = tls.settings(secrets).map_err(Refusal::local)?;
            match &mut *ready {
                // Another secret was rotated.
                Some(ready) if ready.settings == settings => ready.secrets = secrets.clone(),
                _ => {
                    let context =
                        ServerContext::new(&settings).map_err(|error| Refusal::local(error.to_string()))?;
                    *ready = Some(ServerReady { secrets: secrets.clone(), settings, context });
                }
            }
        }
        match &*ready {
            Some(ready) => Ok((ready.context.clone(), ready.settings.certificates.first().cloned())),
            None => Err(Refusal::local("no context".to_owned())),
        }
    }
}

/// A cluster's contexts: one for each TLS that its endpoints may ask for.
#[derive(Default)]
pub struct ClientCache(RefCell<Vec<ClientReady>>);

struct ClientReady {
    tls: Arc<ClientTls>,
    secrets: Arc<Secrets>,
    settings: Arc<ClientSettings>,
    context: ClientContext,
}

impl ClientCache {
    /// The context of `tls` with these secrets.
    pub fn context(&self, tls: &Arc<ClientTls>, secrets: &Arc<Secrets>) -> Result<ClientContext, Refusal> {
        let mut all = self.0.borrow_mut();
        let known = all.iter_mut().find(|ready| Arc::ptr_eq(&ready.tls, tls));
        if let Some(ready) = &known
            && Arc::ptr_eq(&ready.secrets, secrets)
        {
            return Ok(ready.context.clone());
        }
        let settings = tls.settings(secrets).map_err(Refusal::local)?;
        if let Some(ready) = known {
            ready.secrets = secrets.clone();
            if *ready.settings != settings {
                ready.settings = Arc::new(settings);
                ready.context =
                    ClientContext::new(&ready.settings).map_err(|error| Refusal::local(error.to_string()))?;
            }
            return Ok(ready.context.clone());
        }
        let settings = Arc::new(settings);
        let context = ClientContext::new(&settings).map_err(|error| Refusal::local(error.to_string()))?;
        let ready =
            ClientReady { tls: tls.clone(), secrets: secrets.clone(), settings, context: context.clone() };
        // A version that is gone leaves its entry; a cluster has a handful of them at most.
        if all.len() >= CONTEXTS_KEPT_MAX {
            all.remove(0);
        }
        all.push(ready);
        Ok(context)
    }
}

/// Contexts of one cluster on one shard: auto mutual TLS needs one, or two while its settings change.
const CONTEXTS_KEPT_MAX: usize = 8;

/// Serves a client's handshake. `arrived` are its first bytes. The socket is closed where it fails, after the client was
/// told why.
pub async fn accept(
    socket: net::Stream,
    arrived: Option<Lease>,
    cache: &ServerCache,
    tls: &ServerTls,
    secrets: &Arc<Secrets>,
    limit: Duration,
) -> Result<Stream, Refusal> {
    let (context, local) = cache.context(tls, secrets)?;
    let session = context.accept().map_err(|error| Refusal::local(error.to_string()))?;
    let shaking = handshake(socket, session, arrived, local);
    match timeout(limit, shaking).await {
        Ok(result) => result,
        Err(_) => Err(Refusal::local("the client did not finish the handshake in time".to_owned())),
    }
}

/// Begins a handshake with a server.
pub async fn connect(
    socket: net::Stream,
    context: &ClientContext,
    alpn: Option<&Alpn>,
) -> Result<Stream, Refusal> {
    let session = context.connect(alpn).map_err(|error| Refusal::local(error.to_string()))?;
    handshake(socket, session, None, context.settings().certificate.clone()).await
}

async fn handshake(
    socket: net::Stream,
    mut session: Session,
    mut arrived: Option<Lease>,
    local: Option<Arc<Certificate>>,
) -> Result<Stream, Refusal> {
    let mut ended = false;
    loop {
        let mut output = Vec::new();
        let step = {
            // The turn lasts until others have had theirs.
            let turn = Turn::take().await;
            let input = arrived.as_deref().unwrap_or_default();
            let before = input.len();
            let mut io = Io { input, input_ended: ended, output: &mut output };
            let step = session.handshake(&mut io);
            let used = before - io.input.len();
            if let Some(lease) = &mut arrived {
                lease.advance(used);
                if lease.is_empty() {
                    arrived = None;
                }
            }
            yield_now().await;
            drop(turn);
            step
        };
        let sent = if output.is_empty() { Ok(()) } else { socket.send_all(&output).await };
        match step {
            Ok(Handshake::Done) => {
                sent.map_err(|error| gone(&error))?;
                let facts = Facts::of(&session, local);
                return Ok(Stream::with_tls(socket, session, facts, arrived));
            }
            Err(error) => {
                // So that the alert is not overtaken by a reset for bytes that nobody read.
                let _ = socket.shutdown_write();
                return Err(Refusal::of(&error));
            }
            Ok(Handshake::NeedInput) => sent.map_err(|error| gone(&error))?,
        }
        let lease = socket.recv(RECEIVE_BYTES_MAX).await.map_err(|error| gone(&error))?;
        ended = lease.is_empty();
        arrived = (!ended).then_some(lease);
    }
}

fn gone(error: &std::io::Error) -> Refusal {
    Refusal {
        text: format!("the connection ended in the middle of the TLS handshake: {error}"),
        compat: String::new(),
    }
}

/// A turn to compute a step of a handshake. One at a time, and the next only after every other task that could run has
/// run: a storm of handshakes delays handshakes and not established connections.
struct Turn;

thread_local! {
    static TAKEN: Cell<bool> = const { Cell::new(false) };
    static FREED: Rc<Notify> = Rc::new(Notify::new());
}

impl Turn {
    async fn take() -> Turn {
        let freed = FREED.with(Rc::clone);
        while TAKEN.get() {
            freed.notified().await;
        }
        TAKEN.set(true);
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        TAKEN.set(false);
        FREED.with(|freed| freed.notify_one());
    }
}

/// Stands for the reason of a failed handshake with an upstream, where failures are plain values. The texts of the latest
/// [`TLS_FAILURES_KEPT`] of a shard are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureText(u64);

thread_local! {
    static TEXTS: RefCell<(u64, VecDeque<Rc<str>>)> = const { RefCell::new((0, VecDeque::new())) };
}

impl FailureText {
    /// Keeps a text.
    pub fn keep(text: &str) -> FailureText {
        TEXTS.with_borrow_mut(|(first, texts)| {
            if texts.len() >= TLS_FAILURES_KEPT {
                texts.pop_front();
                *first += 1;
            }
            texts.push_back(text.into());
            FailureText(*first + texts.len() as u64 - 1)
        })
    }

    /// The text; empty when too many others came after it.
    pub fn text(self) -> Rc<str> {
        TEXTS.with_borrow(|(first, texts)| {
            let index = self.0.checked_sub(*first).and_then(|index| usize::try_from(index).ok());
            index.and_then(|index| texts.get(index)).cloned().unwrap_or_else(|| Rc::from(""))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_texts_are_kept_and_older_ones_are_empty() {
        let first = FailureText::keep("first");
        assert_eq!(&*first.text(), "first");
        let mut last = first;
        for number in 0..TLS_FAILURES_KEPT {
            last = FailureText::keep(&number.to_string());
        }
        assert_eq!(&*first.text(), "");
        assert_eq!(&*last.text(), &*(TLS_FAILURES_KEPT - 1).to_string());
    }
}
