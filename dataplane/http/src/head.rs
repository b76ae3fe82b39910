//! Request and response heads.

use crate::fields::{EditError, Fields, Span};
use crate::framing::Framing;
use crate::method::Method;

/// Protocol version of a message, as its start line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Version {
    /// `HTTP/1.0`
    Http10,
    /// `HTTP/1.1`
    #[default]
    Http11,
    /// `HTTP/2`, whose messages do not come as text: see [`RequestHead::receive`].
    Http2,
}

impl Version {
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

/// The four forms of a request target (RFC 9112 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TargetForm {
    /// `/path?query`
    #[default]
    Origin,
    /// `http://authority/path?query`
    Absolute,
    /// `host:port`, with CONNECT only.
    Authority,
    /// `*`, with OPTIONS only.
    Asterisk,
}

/// A request head. All bytes live in one arena that is reused from message to message.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    pub(crate) fields: Fields,
    pub(crate) method: Option<Method>,
    pub(crate) method_name: Span,
    pub(crate) target: Span,
    pub(crate) form: TargetForm,
    pub(crate) scheme: Span,
    pub(crate) authority: Option<Span>,
    pub(crate) path: Span,
    pub(crate) version: Version,
    pub(crate) framing: Framing,
}

impl RequestHead {
    /// An empty head to decode into; allocates on first use.
    pub fn new() -> Self {
        Self::default()
    }

    /// A request of our own making (health checks, external authorization): HTTP/1.1, origin form,
    /// `Host` as the first field, no body until [`set_framing`](Self::set_framing).
    pub fn build(method: Method, authority: &[u8], path: &[u8]) -> Result<Self, EditError> {
        let mut head = Self::default();
        head.set_method(method)?;
        // In lower case, as Envoy writes the heads it makes itself.
        head.fields.append("host", authority)?;
        head.set_authority(authority)?;
        head.set_path(path)?;
        head.target = head.path;
        Ok(head)
    }

    /// Begins a head that arrived in parts (HTTP/2): its pseudo-header fields. The other fields follow through
    /// [`Fields::receive`]; [`Fields::seal`] ends it. Nothing is checked that HTTP/2 has checked already.
    ///
    /// The authority becomes the first field, `host`, so that everything that works on heads finds it where HTTP/1
    /// has it. A CONNECT has no path.
    pub fn receive(&mut self, method: &[u8], scheme: &[u8], authority: Option<&[u8]>, path: Option<&[u8]>) {
        self.clear();
        self.version = Version::Http2;
        self.method = Method::from_bytes(method);
        self.method_name = self.fields.receive_bytes(method);
        self.scheme = self.fields.receive_bytes(scheme);
        self.authority = authority.map(|authority| self.fields.receive_bytes(authority));
        if let (Some(authority), Some(span)) = (authority, self.authority) {
            self.fields.receive(b"host", authority);
            debug_assert_eq!(self.fields.bytes(span), authority);
        }
        match path {
            Some(path) => {
                self.path = self.fields.receive_bytes(path);
                self.form = if path == b"*" { TargetForm::Asterisk } else { TargetForm::Origin };
            }
            None => {
                self.path = self.authority.unwrap_or_default();
                self.form = TargetForm::Authority;
            }
        }
        self.target = self.path;
    }

    /// Forgets the message and keeps the memory.
    pub fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self { fields, ..Self::default() };
    }

    /// The registered method; `None` for an extension method, which the decoder refuses unless
    /// [`RequestOptions::custom_methods`](crate::RequestOptions::custom_methods) is set.
    pub fn method(&self) -> Option<Method> {
        self.method
    }

    /// The method as sent.
    pub fn method_name(&self) -> &[u8] {
        self.fields.bytes(self.method_name)
    }

    /// Changes the method.
    pub fn set_method(&mut self, method: Method) -> Result<(), EditError> {
        self.method_name = self.fields.store_value(method.as_str().as_bytes())?;
        self.method = Some(method);
        Ok(())
    }

    /// The request target exactly as received.
    pub fn target(&self) -> &[u8] {
        self.fields.bytes(self.target)
    }

    /// Form of the target as received.
    pub fn target_form(&self) -> TargetForm {
        self.form
    }

    /// Scheme of an absolute-form target (`http` or `https`, in the sender's case); empty otherwise.
    pub fn target_scheme(&self) -> &[u8] {
        self.fields.bytes(self.scheme)
    }

    /// Host and optional port: from an absolute or authority-form target, else the Host field.
    /// `None` without either: on HTTP/1.1 that is Envoy's `missing_host_header`.
    pub fn authority(&self) -> Option<&[u8]> {
        self.authority.map(|span| self.fields.bytes(span))
    }

    /// Changes the authority and the Host field that will be sent.
    pub fn set_authority(&mut self, authority: &[u8]) -> Result<(), EditError> {
        self.fields.set_first("Host", authority)?;
        self.authority = Some(self.fields.store_value(authority)?);
        Ok(())
    }

    /// Path and query: what is routed on and what is sent in the request line. `*` in asterisk
    /// form; the authority in authority form (CONNECT has no path).
    pub fn path(&self) -> &[u8] {
        self.fields.bytes(self.path)
    }

    /// Changes path and query. Bytes that may not stand in a request line (blanks, control bytes)
    /// are the caller's to encode; CR, LF and NUL become spaces and would make the line invalid.
    pub fn set_path(&mut self, path: &[u8]) -> Result<(), EditError> {
        self.path = self.fields.store_value(path)?;
        Ok(())
    }

    /// Version in the request line.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Body length and connection options found by the decoder.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Sets how the encoder frames the body.
    pub fn set_framing(&mut self, framing: Framing) {
        self.framing = framing;
    }

    /// The fields.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// The fields, for edits. Editing `Host`, `Content-Length`, `Transfer-Encoding` or `Connection`
    /// here does not change [`authority`](Self::authority) or [`framing`](Self::framing).
    pub fn fields_mut(&mut self) -> &mut Fields {
        &mut self.fields
    }

    /// Heap bytes held by the head. See [`Fields::heap_bytes`].
    pub fn heap_bytes(&self) -> usize {
        self.fields.heap_bytes()
    }
}

/// A response head.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    pub(crate) fields: Fields,
    pub(crate) status: u16,
    pub(crate) reason: Span,
    pub(crate) version: Version,
    pub(crate) framing: Framing,
}

impl ResponseHead {
    /// An empty head to decode into; allocates on first use.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a head that arrived in parts (HTTP/2). Its fields follow through [`Fields::receive`]; [`Fields::seal`]
    /// ends it.
    pub fn receive(&mut self, status: u16) {
        self.reset(status);
        self.version = Version::Http2;
    }

    /// Makes this a response of our own with `status`, the standard reason phrase and no fields,
    /// reusing the memory. A status outside 100–999 is written as 500.
    pub fn reset(&mut self, status: u16) {
        self.clear();
        self.status = if (100..=999).contains(&status) { status } else { 500 };
    }

    /// Forgets the message and keeps the memory.
    pub fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self { fields, ..Self::default() };
    }

    /// Status code, 100–999.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Changes the status; the reason phrase becomes the standard one.
    pub fn set_status(&mut self, status: u16) {
        self.status = if (100..=999).contains(&status) { status } else { 500 };
        self.reason = Span::default();
    }

    /// Reason phrase as received; the standard one when none was.
    pub fn reason(&self) -> &[u8] {
        match self.fields.bytes(self.reason) {
            [] => crate::status::reason_phrase(self.status).as_bytes(),
            reason => reason,
        }
    }

    /// Version in the status line.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Body length and connection options found by the decoder.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Sets how the encoder frames the body.
    pub fn set_framing(&mut self, framing: Framing) {
        self.framing = framing;
    }

    /// The fields.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// The fields, for edits. Editing framing fields here does not change [`framing`](Self::framing).
    pub fn fields_mut(&mut self) -> &mut Fields {
        &mut self.fields
    }

    /// Heap bytes held by the head. See [`Fields::heap_bytes`].
    pub fn heap_bytes(&self) -> usize {
        self.fields.heap_bytes()
    }
}
