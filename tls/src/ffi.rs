//! What `boring` does not wrap. The only file of this crate with `unsafe`.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc};
use std::cell::Cell;
use std::ffi::{CStr, c_int, c_void};
use std::io::{self, Read, Write};
use std::ptr;

use boring::asn1::{Asn1IntegerRef, Asn1TimeRef};
use boring::error::ErrorStack;
use boring::hash::MessageDigest;
use boring::pkey::{PKeyRef, Private};
use boring::ssl::{SslAlert, SslContextBuilder, SslRef, SslSessionRef, SslStream, TicketKeyCallbackResult};
use boring::symm::Cipher;
use boring::x509::store::X509StoreBuilder;
use boring::x509::verify::X509VerifyFlags;
use boring::x509::{X509, X509Ref, X509StoreContextRef};
use boring_sys as sys;
use foreign_types::{ForeignType, ForeignTypeRef};

use crate::session::{Io, Side};
use crate::tickets::TicketKeys;

/// The peer that BoringSSL reads from and writes to: memory that is lent for the time of one call.
pub(crate) struct Pipe {
    input: *const u8,
    input_len: usize,
    input_ended: bool,
    output: *mut Vec<u8>,
}

impl Pipe {
    /// With nothing to read and nowhere to write.
    pub(crate) fn empty() -> Pipe {
        Pipe { input: ptr::null(), input_len: 0, input_ended: false, output: ptr::null_mut() }
    }
}

/// Runs `work` while the stream reads what `io` holds and writes behind what it holds; what was read is gone from it.
pub(crate) fn lend<R>(
    stream: &mut SslStream<Pipe>,
    io: &mut Io<'_>,
    work: impl FnOnce(&mut SslStream<Pipe>) -> R,
) -> R {
    struct Lent<'a>(&'a mut SslStream<Pipe>);
    impl Drop for Lent<'_> {
        fn drop(&mut self) {
            *self.0.get_mut() = Pipe::empty();
        }
    }
    *stream.get_mut() = Pipe {
        input: io.input.as_ptr(),
        input_len: io.input.len(),
        input_ended: io.input_ended,
        output: ptr::from_mut(io.output),
    };
    let lent = Lent(stream);
    let result = work(&mut *lent.0);
    let left = lent.0.get_ref().input_len;
    drop(lent);
    io.input = &io.input[io.input.len() - left..];
    result
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input_len == 0 {
            return if self.input_ended { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let count = self.input_len.min(buffer.len());
        // SAFETY: `input` points to `input_len` bytes of the slice that `lend` borrows until it has put an empty pipe in
        // this one's place, also when `work` panics; `buffer` is another, exclusive slice of at least `count` bytes.
        unsafe {
            ptr::copy_nonoverlapping(self.input, buffer.as_mut_ptr(), count);
            self.input = self.input.add(count);
        }
        self.input_len -= count;
        Ok(count)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.output.is_null() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // SAFETY: not null, so it is the vector that `lend` borrows exclusively for as long as this pipe is in place.
        unsafe { (*self.output).extend_from_slice(bytes) };
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lets the session drop what only its handshake needs as soon as that is over.
pub(crate) fn shed_handshake_config(ssl: &mut SslRef) {
    // SAFETY: the pointer is a live `SSL`; the function sets a flag.
    unsafe { sys::SSL_set_shed_handshake_config(ssl.as_ptr(), 1) };
}

/// Decides who begins.
pub(crate) fn set_side(ssl: &mut SslRef, side: Side) {
    // SAFETY: the pointer is a live `SSL` that has not begun its handshake.
    unsafe {
        match side {
            Side::Server => sys::SSL_set_accept_state(ssl.as_ptr()),
            Side::Client => sys::SSL_set_connect_state(ssl.as_ptr()),
        }
    }
}

/// Offers to resume `session`.
pub(crate) fn resume(ssl: &mut SslRef, session: &SslSessionRef) -> Result<(), ErrorStack> {
    // SAFETY: the session is one of the same context, which alone keeps it.
    unsafe { ssl.set_session(session) }
}

/// Whether decrypted or received bytes wait inside the session.
pub(crate) fn has_pending(ssl: &SslRef) -> bool {
    // SAFETY: the pointer is a live `SSL`; the function only reads it.
    unsafe { sys::SSL_has_pending(ssl.as_ptr()) != 0 }
}

/// As `SSL_read` that leaves the bytes; one byte is enough to know.
pub(crate) fn peek(stream: &mut SslStream<Pipe>) -> Result<usize, c_int> {
    let mut byte = 0_u8;
    let ssl = stream.ssl().as_ptr();
    // SAFETY: the pointer is a live `SSL` whose BIO is the stream's, and one byte may be written to `byte`.
    let count = unsafe { sys::SSL_peek(ssl, ptr::from_mut(&mut byte).cast::<c_void>(), 1) };
    if count > 0 {
        return Ok(1);
    }
    // SAFETY: the pointer is a live `SSL` and `count` is what the last call on it gave.
    Err(unsafe { sys::SSL_get_error(ssl, count) })
}

/// Tells the peer why the session ends.
pub(crate) fn send_alert(stream: &mut SslStream<Pipe>, alert: SslAlert) {
    // The wrapper keeps its number to itself.
    let number = match alert {
        SslAlert::CERTIFICATE_EXPIRED => sys::SSL_AD_CERTIFICATE_EXPIRED,
        SslAlert::CERTIFICATE_REVOKED => sys::SSL_AD_CERTIFICATE_REVOKED,
        SslAlert::UNKNOWN_CA => sys::SSL_AD_UNKNOWN_CA,
        _ => sys::SSL_AD_BAD_CERTIFICATE,
    };
    // SAFETY: the pointer is a live `SSL` whose BIO is the stream's.
    unsafe { sys::SSL_send_fatal_alert(stream.ssl().as_ptr(), number as u8) };
}

/// Judges the server's certificate again when a session is resumed: by then it may have expired or be revoked.
pub(crate) fn reverify_on_resume(context: &mut SslContextBuilder) {
    // SAFETY: the pointer is a live `SSL_CTX` nobody else has yet; the function sets a flag.
    unsafe { sys::SSL_CTX_set_reverify_on_resume(context.as_ptr(), 1) };
}

/// Adds a certificate with its key beside others; the first that suits the peer is used.
pub(crate) fn add_credential(
    context: &mut SslContextBuilder,
    chain: &[X509],
    key: &PKeyRef<Private>,
    ocsp_staple: Option<&[u8]>,
) -> Result<(), ErrorStack> {
    struct Credential(*mut sys::SSL_CREDENTIAL);
    impl Drop for Credential {
        fn drop(&mut self) {
            // SAFETY: ours since `SSL_CREDENTIAL_new_x509`; a context it was added to holds its own reference.
            unsafe { sys::SSL_CREDENTIAL_free(self.0) };
        }
    }
    let mut buffers = Vec::with_capacity(chain.len());
    for certificate in chain {
        buffers.push(Buffer::new(&certificate.to_der()?)?);
    }
    let pointers: Vec<*mut sys::CRYPTO_BUFFER> = buffers.iter().map(|buffer| buffer.0).collect();
    // SAFETY: takes nothing, gives an object of ours or null.
    let credential = unsafe { sys::SSL_CREDENTIAL_new_x509() };
    if credential.is_null() {
        return Err(ErrorStack::get());
    }
    let credential = Credential(credential);
    // SAFETY: live objects; the array has `len` live buffers, of which the callee takes references of its own.
    unsafe {
        check(sys::SSL_CREDENTIAL_set1_cert_chain(credential.0, pointers.as_ptr(), pointers.len()))?;
        check(sys::SSL_CREDENTIAL_set1_private_key(credential.0, key.as_ptr()))?;
    }
    if let Some(staple) = ocsp_staple {
        let staple = Buffer::new(staple)?;
        // SAFETY: live objects; the callee takes a reference of its own.
        unsafe { check(sys::SSL_CREDENTIAL_set1_ocsp_response(credential.0, staple.0))? };
    }
    // SAFETY: live objects; the context takes a reference of its own.
    unsafe { check(sys::SSL_CTX_add1_credential(context.as_ptr(), credential.0)) }
}

/// Bytes as BoringSSL counts references to them.
struct Buffer(*mut sys::CRYPTO_BUFFER);

impl Buffer {
    fn new(bytes: &[u8]) -> Result<Buffer, ErrorStack> {
        // SAFETY: the bytes are copied before the call returns; no pool is given.
        let buffer = unsafe { sys::CRYPTO_BUFFER_new(bytes.as_ptr(), bytes.len(), ptr::null_mut()) };
        if buffer.is_null() { Err(ErrorStack::get()) } else { Ok(Buffer(buffer)) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: ours since `CRYPTO_BUFFER_new`.
        unsafe { sys::CRYPTO_BUFFER_free(self.0) };
    }
}

/// Adds the revocation lists of a PEM text to a store; says how many there were.
pub(crate) fn add_revocation_lists(store: &mut X509StoreBuilder, pem: &[u8]) -> Result<usize, ErrorStack> {
    struct Source(*mut sys::BIO);
    impl Drop for Source {
        fn drop(&mut self) {
            // SAFETY: ours since `BIO_new_mem_buf`.
            unsafe { sys::BIO_free(self.0) };
        }
    }
    // SAFETY: the BIO reads `len` bytes at `pem`, which outlive it.
    let source = unsafe { sys::BIO_new_mem_buf(pem.as_ptr().cast(), pem.len() as _) };
    if source.is_null() {
        return Err(ErrorStack::get());
    }
    let source = Source(source);
    let mut count = 0;
    loop {
        // SAFETY: a live BIO; no object to reuse and no password callback are given.
        let list = unsafe { sys::PEM_read_bio_X509_CRL(source.0, ptr::null_mut(), None, ptr::null_mut()) };
        if list.is_null() {
            let errors = ErrorStack::get();
            // The end of the text, which is not an error behind the last list.
            let at_end = errors.errors().last().is_some_and(|error| error.reason() == Some("NO_START_LINE"));
            return if at_end { Ok(count) } else { Err(errors) };
        }
        // SAFETY: live objects; the store takes a reference of its own, and ours is given back here.
        let added = unsafe {
            let added = sys::X509_STORE_add_crl(store.as_ptr(), list);
            sys::X509_CRL_free(list);
            added
        };
        check(added)?;
        count += 1;
    }
}

/// Makes a revocation list of `serials`, signed by `issuer`, in PEM.
pub(crate) fn revocation_list(
    issuer: &X509Ref,
    key: &PKeyRef<Private>,
    serials: &[&Asn1IntegerRef],
    made: &Asn1TimeRef,
    next: &Asn1TimeRef,
) -> Result<Vec<u8>, ErrorStack> {
    struct List(*mut sys::X509_CRL);
    impl Drop for List {
        fn drop(&mut self) {
            // SAFETY: ours since `X509_CRL_new`.
            unsafe { sys::X509_CRL_free(self.0) };
        }
    }
    // SAFETY: takes nothing, gives an object of ours or null.
    let list = unsafe { sys::X509_CRL_new() };
    if list.is_null() {
        return Err(ErrorStack::get());
    }
    let list = List(list);
    // SAFETY: live objects; the callee copies what it is given.
    unsafe {
        check(sys::X509_CRL_set_version(list.0, sys::X509_CRL_VERSION_2 as _))?;
        check(sys::X509_CRL_set_issuer_name(list.0, issuer.subject_name().as_ptr()))?;
        check(sys::X509_CRL_set1_lastUpdate(list.0, made.as_ptr()))?;
        check(sys::X509_CRL_set1_nextUpdate(list.0, next.as_ptr()))?;
    }
    for serial in serials {
        // SAFETY: a new entry is filled with copies and belongs to the list once it is added; before, it is freed here.
        unsafe {
            let entry = sys::X509_REVOKED_new();
            let filled = !entry.is_null()
                && sys::X509_REVOKED_set_serialNumber(entry, serial.as_ptr()) == 1
                && sys::X509_REVOKED_set_revocationDate(entry, made.as_ptr()) == 1
                && sys::X509_CRL_add0_revoked(list.0, entry) == 1;
            if !filled {
                sys::X509_REVOKED_free(entry);
                return Err(ErrorStack::get());
            }
        }
    }
    // SAFETY: live objects; the BIO is ours, its bytes are copied before it is freed.
    unsafe {
        check(sys::X509_CRL_sort(list.0))?;
        if sys::X509_CRL_sign(list.0, key.as_ptr(), MessageDigest::sha256().as_ptr()) == 0 {
            return Err(ErrorStack::get());
        }
        let out = sys::BIO_new(sys::BIO_s_mem());
        if out.is_null() {
            return Err(ErrorStack::get());
        }
        let written = sys::PEM_write_bio_X509_CRL(out, list.0);
        let (mut bytes, mut len) = (ptr::null(), 0);
        let pem = if written == 1 && sys::BIO_mem_contents(out, &mut bytes, &mut len) == 1 {
            Ok(std::slice::from_raw_parts(bytes, len).to_vec())
        } else {
            Err(ErrorStack::get())
        };
        sys::BIO_free(out);
        pem
    }
}

/// Expiry dates are not looked at.
pub(crate) fn no_check_time() -> X509VerifyFlags {
    X509VerifyFlags::from_bits_retain(sys::X509_V_FLAG_NO_CHECK_TIME as _)
}

/// Sets what a chain is verified for: `ssl_client` or `ssl_server`.
pub(crate) fn set_purpose(context: &mut X509StoreContextRef, name: &CStr) -> Result<(), ErrorStack> {
    // SAFETY: a live object and a text that ends in a zero byte, looked at only during the call.
    unsafe { check(sys::X509_STORE_CTX_set_default(context.as_ptr(), name.as_ptr())) }
}

/// Session tickets are sealed with `keys` instead of keys of the context's own, so that all shards know them.
pub(crate) fn set_ticket_keys(context: &mut SslContextBuilder, keys: TicketKeys) {
    let callback = move |_: &SslRef,
                         name: &mut [u8; 16],
                         iv: &mut [u8; sys::EVP_MAX_IV_LENGTH as usize],
                         cipher: &mut boring::symm::CipherCtxRef,
                         hmac: &mut boring::hmac::HmacCtxRef,
                         seals: bool| {
        let aes = Cipher::aes_256_cbc();
        let all = keys.current();
        let (key, result) = if seals {
            let Some(key) = all.first() else { return TicketKeyCallbackResult::Noop };
            *name = key.name;
            if boring::rand::rand_bytes(iv).is_err() {
                return TicketKeyCallbackResult::Error;
            }
            (key, TicketKeyCallbackResult::Success)
        } else {
            match all.iter().position(|key| key.name == *name) {
                Some(0) => (&all[0], TicketKeyCallbackResult::Success),
                Some(index) => (&all[index], TicketKeyCallbackResult::DecryptSuccessRenew),
                None => return TicketKeyCallbackResult::Noop,
            }
        };
        let ready = if seals {
            cipher.init_encrypt(&aes, &key.cipher, iv)
        } else {
            cipher.init_decrypt(&aes, &key.cipher, iv)
        };
        match ready.and_then(|()| hmac.init(&key.hmac, &MessageDigest::sha256())) {
            Ok(()) => result,
            Err(_) => TicketKeyCallbackResult::Error,
        }
    };
    // SAFETY: the callback gives a name and an initialization vector and sets both contexts up with keys of the right
    // size wherever it answers that it has.
    unsafe { context.set_ticket_key_callback(callback) };
}

fn check(result: c_int) -> Result<(), ErrorStack> {
    if result == 1 { Ok(()) } else { Err(ErrorStack::get()) }
}

thread_local! {
    static ALLOCATED: Cell<isize> = const { Cell::new(0) };
}

/// Bytes that this thread has allocated for BoringSSL, less those it has freed. Where memory moves between threads only
/// the sum over all says something.
pub fn allocated_bytes() -> isize {
    // Also, because only a program that names them gets the functions below.
    let hooks: [*const (); 3] = [
        OPENSSL_memory_alloc as *const (),
        OPENSSL_memory_free as *const (),
        OPENSSL_memory_get_size as *const (),
    ];
    std::hint::black_box(hooks);
    ALLOCATED.with(Cell::get)
}

/// In front of each of BoringSSL's blocks, because it frees without saying how many bytes; keeps the alignment.
const HEADER: usize = 16;

fn layout(size: usize) -> Option<Layout> {
    Layout::from_size_align(size.checked_add(HEADER)?, HEADER).ok()
}

/// BoringSSL's allocations come from the process's allocator.
// SAFETY: the one definition of the weak symbol that BoringSSL looks for, with its signature.
#[unsafe(no_mangle)]
extern "C" fn OPENSSL_memory_alloc(size: usize) -> *mut c_void {
    let Some(layout) = layout(size) else { return ptr::null_mut() };
    // SAFETY: the layout is at least HEADER bytes; the size is written inside the block and aligned as the block is.
    unsafe {
        let block = alloc(layout);
        if block.is_null() {
            return ptr::null_mut();
        }
        block.cast::<usize>().write(size);
        let _ = ALLOCATED.try_with(|count| count.set(count.get() + layout.size() as isize));
        block.add(HEADER).cast()
    }
}

/// The size that the block was asked for with.
// SAFETY: as above; BoringSSL passes only blocks of `OPENSSL_memory_alloc`.
#[unsafe(no_mangle)]
unsafe extern "C" fn OPENSSL_memory_get_size(memory: *mut c_void) -> usize {
    if memory.is_null() {
        return 0;
    }
    // SAFETY: a block of `OPENSSL_memory_alloc` has its size in front.
    unsafe { memory.cast::<u8>().sub(HEADER).cast::<usize>().read() }
}

/// Wipes and releases a block.
// SAFETY: as above.
#[unsafe(no_mangle)]
unsafe extern "C" fn OPENSSL_memory_free(memory: *mut c_void) {
    if memory.is_null() {
        return;
    }
    // SAFETY: a block of `OPENSSL_memory_alloc`, freed once, with the layout it was allocated with. It is wiped first, as
    // BoringSSL demands of this hook, because it may hold keys.
    unsafe {
        let size = OPENSSL_memory_get_size(memory);
        sys::OPENSSL_cleanse(memory, size);
        if let Some(layout) = layout(size) {
            let _ = ALLOCATED.try_with(|count| count.set(count.get() - layout.size() as isize));
            dealloc(memory.cast::<u8>().sub(HEADER), layout);
        }
    }
}
