//! One TLS session, driven with bytes: it never owns a socket.
//!
//! ```text
//!            NeedInput ◄─┐
//! handshake ─────────────┴─ Done ──► read, write, any order ──► close
//! ```
//! Every call may leave bytes in the output, which belong to the peer even when the call failed: an alert says why.

use std::ffi::c_int;
use std::sync::Arc;

use boring::error::ErrorStack;
use boring::ssl::{Error, ErrorCode, NameType, Ssl, SslStream, SslVersion};
use boring_sys as sys;

use crate::certificate::Facts;
use crate::context::VERDICT;
use crate::error::TlsError;
use crate::ffi::{self, Pipe};
use crate::limits::RECORD_BYTES_MAX;
use crate::settings::Version;
use crate::validation::Validation;

/// What one call reads and writes.
#[derive(Debug)]
pub struct Io<'a> {
    /// Bytes from the peer; what was used up is gone from the front.
    pub input: &'a [u8],
    /// Whether the peer will send no more than these.
    pub input_ended: bool,
    /// Bytes for the peer are put behind what this holds.
    pub output: &'a mut Vec<u8>,
}

/// Who we are in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// We accepted.
    Server,
    /// We connected.
    Client,
}

/// How far a handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// It is over; data may flow.
    Done,
    /// It goes on when the peer has sent more.
    NeedInput,
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Nothing until the peer sends more.
    NeedInput,
    /// The peer has ended its side.
    End,
}

/// A session.
pub struct Session {
    stream: SslStream<Pipe>,
    /// A server's rules, for clients that resume a session.
    validation: Option<Arc<Validation>>,
}

impl Session {
    pub(crate) fn new(
        mut ssl: Ssl,
        side: Side,
        validation: Option<Arc<Validation>>,
    ) -> Result<Session, ErrorStack> {
        ffi::shed_handshake_config(&mut ssl);
        ffi::set_side(&mut ssl, side);
        Ok(Session { stream: SslStream::new(ssl, Pipe::empty())?, validation })
    }

    /// Goes on with the handshake.
    ///
    /// # Errors
    /// It failed: the output may hold the alert that tells the peer.
    pub fn handshake(&mut self, io: &mut Io<'_>) -> Result<Handshake, TlsError> {
        match ffi::lend(&mut self.stream, io, |stream| stream.do_handshake()) {
            Ok(()) => self.judge_again(io).map(|()| Handshake::Done),
            Err(error) if error.code() == ErrorCode::WANT_READ => Ok(Handshake::NeedInput),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Judges the certificate of a client that has resumed a session: by now it may have expired or be revoked.
    fn judge_again(&mut self, io: &mut Io<'_>) -> Result<(), TlsError> {
        let Some(validation) = self.validation.take().filter(|_| self.is_resumed()) else { return Ok(()) };
        let (verdict, result) = validation.judge(self.stream.ssl());
        let failure = verdict.failure.clone();
        self.stream.ssl_mut().replace_ex_data(*VERDICT, verdict);
        let Err(alert) = result else { return Ok(()) };
        ffi::lend(&mut self.stream, io, |stream| ffi::send_alert(stream, alert));
        Err(failure.map_or_else(TlsError::closed, |failure| *failure))
    }

    /// Opens as many records as `io` holds and `plain` has room for.
    ///
    /// # Errors
    /// What came is no proper record, or the peer says that it failed.
    pub fn read(&mut self, io: &mut Io<'_>, plain: &mut [u8]) -> Result<Read, TlsError> {
        let mut filled = 0;
        let result: Result<(), Error> = ffi::lend(&mut self.stream, io, |stream| {
            while filled < plain.len() {
                filled += stream.ssl_read(&mut plain[filled..])?;
            }
            Ok(())
        });
        match result {
            // What is wrong with the rest shows at the next call.
            _ if filled > 0 => Ok(Read::Bytes(filled)),
            Ok(()) => Ok(Read::NeedInput),
            Err(error) => match error.code() {
                ErrorCode::WANT_READ => Ok(Read::NeedInput),
                ErrorCode::ZERO_RETURN => Ok(Read::End),
                // Compat: an end without a word about it is an end; HTTP knows itself what is complete.
                ErrorCode::SYSCALL if error.ssl_error().is_none() => Ok(Read::End),
                _ => Err(self.failed(&error)),
            },
        }
    }

    /// Looks whether a read would give bytes or the end, and takes in what is not data. The bytes stay.
    pub fn is_readable(&mut self, io: &mut Io<'_>) -> bool {
        match ffi::lend(&mut self.stream, io, ffi::peek) {
            Err(code) => code != sys::SSL_ERROR_WANT_READ as c_int,
            Ok(_) => true,
        }
    }

    /// Whether bytes wait inside, whole records or parts.
    pub fn has_pending(&self) -> bool {
        ffi::has_pending(self.stream.ssl())
    }

    /// Seals at most one record and says how many bytes of `plain` are in it.
    ///
    /// # Errors
    /// The session has ended.
    pub fn write(&mut self, io: &mut Io<'_>, plain: &[u8]) -> Result<usize, TlsError> {
        let record = &plain[..plain.len().min(RECORD_BYTES_MAX)];
        match ffi::lend(&mut self.stream, io, |stream| stream.ssl_write(record)) {
            Ok(count) => Ok(count),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Tells the peer that nothing follows; its own side stays open.
    pub fn close(&mut self, io: &mut Io<'_>) {
        // A session that has failed has nothing more to say.
        let _ = ffi::lend(&mut self.stream, io, |stream| stream.shutdown());
    }

    fn failed(&self, error: &Error) -> TlsError {
        if let Some(failure) =
            self.stream.ssl().ex_data(*VERDICT).and_then(|verdict| verdict.failure.as_deref())
        {
            return failure.clone();
        }
        match error.ssl_error() {
            Some(stack) => TlsError::of_stack(stack),
            None => TlsError::closed(),
        }
    }

    /// Whether the peer's certificate was judged and found good.
    pub fn is_peer_validated(&self) -> bool {
        self.stream.ssl().ex_data(*VERDICT).is_some_and(|verdict| verdict.validated)
    }

    /// What the peer's certificate says; `None` where it has shown none.
    pub fn peer(&self) -> Option<Facts> {
        self.stream.ssl().peer_certificate().map(|leaf| Facts::of(&leaf))
    }

    /// The peer's certificates, leaf first, in PEM.
    pub fn peer_chain_pem(&self) -> Vec<Vec<u8>> {
        let ssl = self.stream.ssl();
        let leaf = ssl.peer_certificate();
        let mut chain: Vec<Vec<u8>> = leaf.iter().filter_map(|leaf| leaf.to_pem().ok()).collect();
        for certificate in ssl.peer_cert_chain().into_iter().flatten() {
            if let Ok(pem) = certificate.to_pem()
                && chain.first() != Some(&pem)
            {
                chain.push(pem);
            }
        }
        chain
    }

    /// The application protocol agreed on.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.stream.ssl().selected_alpn_protocol()
    }

    /// The version agreed on.
    pub fn version(&self) -> Option<Version> {
        match self.stream.ssl().version2() {
            Some(SslVersion::TLS1_2) => Some(Version::Tls12),
            Some(SslVersion::TLS1_3) => Some(Version::Tls13),
            _ => None,
        }
    }

    /// The cipher suite agreed on, as OpenSSL names it.
    pub fn cipher(&self) -> Option<&'static str> {
        self.stream.ssl().current_cipher().map(|cipher| cipher.name())
    }

    /// The key exchange group agreed on.
    pub fn group(&self) -> Option<&'static str> {
        self.stream.ssl().curve_name()
    }

    /// The server name the client asked for.
    pub fn server_name(&self) -> Option<&str> {
        self.stream.ssl().servername(NameType::HOST_NAME)
    }

    /// The session's id in hexadecimal; empty where it has none.
    pub fn id(&self) -> String {
        self.stream
            .ssl()
            .session()
            .map(|session| crate::certificate::hexadecimal(session.id()))
            .unwrap_or_default()
    }

    /// Whether an earlier session was resumed.
    pub fn is_resumed(&self) -> bool {
        self.stream.ssl().session_reused()
    }
}
