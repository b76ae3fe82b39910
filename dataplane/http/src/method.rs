//! Request methods.

macro_rules! methods {
    ($($variant:ident = $text:literal),+ $(,)?) => {
        /// A registered request method. The set is the one Envoy's HTTP/1 codec accepts without
        /// `allow_custom_methods`; method names are case-sensitive (RFC 9110 §9.1).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Method {
            $(#[doc = concat!("`", $text, "`")] $variant,)+
        }

        impl Method {
            /// All methods; the frequent ones come first, because lookup goes in this order.
            pub const ALL: &'static [Method] = &[$(Method::$variant),+];

            /// The method named by `name`, which must match in case.
            pub fn from_bytes(name: &[u8]) -> Option<Method> {
                $(if name == $text.as_bytes() { return Some(Method::$variant); })+
                None
            }

            /// The name as sent on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Method::$variant => $text,)+ }
            }
        }
    };
}
methods! {
    Get = "GET", Post = "POST", Put = "PUT", Head = "HEAD", Options = "OPTIONS", Delete = "DELETE",
    Patch = "PATCH", Connect = "CONNECT",
    Acl = "ACL", Bind = "BIND", Checkout = "CHECKOUT", Copy = "COPY",
    Link = "LINK", Lock = "LOCK", Merge = "MERGE",
    MkActivity = "MKACTIVITY", MkCalendar = "MKCALENDAR", MkCol = "MKCOL", Move = "MOVE",
    MSearch = "M-SEARCH", Notify = "NOTIFY",
    PropFind = "PROPFIND", PropPatch = "PROPPATCH", Purge = "PURGE", Query = "QUERY",
    Rebind = "REBIND", Report = "REPORT", Search = "SEARCH", Source = "SOURCE",
    Subscribe = "SUBSCRIBE", Trace = "TRACE", Unbind = "UNBIND", Unlink = "UNLINK",
    Unlock = "UNLOCK", Unsubscribe = "UNSUBSCRIBE",
}
