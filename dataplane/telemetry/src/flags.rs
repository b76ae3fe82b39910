//! Response flags: why a request ended as it did.

use std::fmt;

macro_rules! flags {
    ($($(#[doc = $doc:literal])* $variant:ident = $short:literal, $long:literal;)+) => {
        /// One reason. Names and short forms are Envoy's (`StreamInfo::CoreResponseFlag`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum ResponseFlag { $($(#[doc = $doc])* $variant,)+ }

        impl ResponseFlag {
            /// All flags.
            pub const ALL: &'static [ResponseFlag] = &[$(ResponseFlag::$variant),+];

            /// The form in access logs: `UH`.
            pub const fn short(self) -> &'static str {
                match self { $(ResponseFlag::$variant => $short,)+ }
            }

            /// The long form: `NoHealthyUpstream`.
            pub const fn long(self) -> &'static str {
                match self { $(ResponseFlag::$variant => $long,)+ }
            }
        }
    };
}

flags! {
    /// The local health check failed.
    FailedLocalHealthCheck = "LH", "FailedLocalHealthCheck";
    /// No healthy upstream host.
    NoHealthyUpstream = "UH", "NoHealthyUpstream";
    /// The request took longer than its timeout.
    UpstreamRequestTimeout = "UT", "UpstreamRequestTimeout";
    /// We reset the connection.
    LocalReset = "LR", "LocalReset";
    /// The upstream reset the stream, or a TCP session.
    UpstreamRemoteReset = "UR", "UpstreamRemoteReset";
    /// The upstream could not be connected.
    UpstreamConnectionFailure = "UF", "UpstreamConnectionFailure";
    /// The upstream connection ended.
    UpstreamConnectionTermination = "UC", "UpstreamConnectionTermination";
    /// A circuit breaker refused.
    UpstreamOverflow = "UO", "UpstreamOverflow";
    /// No route, or no filter chain.
    NoRouteFound = "NR", "NoRouteFound";
    /// A delay was injected.
    DelayInjected = "DI", "DelayInjected";
    /// An abort was injected.
    FaultInjected = "FI", "FaultInjected";
    /// A rate limit refused.
    RateLimited = "RL", "RateLimited";
    /// External authorization refused.
    UnauthorizedExternalService = "UAEX", "UnauthorizedExternalService";
    /// The rate-limit service failed.
    RateLimitServiceError = "RLSE", "RateLimitServiceError";
    /// The client went away.
    DownstreamConnectionTermination = "DC", "DownstreamConnectionTermination";
    /// Retries, or connection attempts, were used up.
    UpstreamRetryLimitExceeded = "URX", "UpstreamRetryLimitExceeded";
    /// The stream made no progress.
    StreamIdleTimeout = "SI", "StreamIdleTimeout";
    /// A malformed `x-envoy-*` header.
    InvalidEnvoyRequestHeaders = "IH", "InvalidEnvoyRequestHeaders";
    /// The client broke the protocol.
    DownstreamProtocolError = "DPE", "DownstreamProtocolError";
    /// The upstream stream lasted longer than its maximum.
    UpstreamMaxStreamDurationReached = "UMSDR", "UpstreamMaxStreamDurationReached";
    /// Served from a cache.
    ResponseFromCacheFilter = "RFCF", "ResponseFromCacheFilter";
    /// A filter's configuration never came.
    NoFilterConfigFound = "NFCF", "NoFilterConfigFound";
    /// The downstream TCP connection lasted longer than its maximum.
    DurationTimeout = "DT", "DurationTimeout";
    /// The upstream broke the protocol.
    UpstreamProtocolError = "UPE", "UpstreamProtocolError";
    /// The route's cluster does not exist.
    NoClusterFound = "NC", "NoClusterFound";
    /// Resources ran out.
    OverloadManager = "OM", "OverloadManagerTerminated";
    /// A name could not be resolved.
    DnsResolutionFailed = "DF", "DnsResolutionFailed";
    /// Dropped by the cluster's drop overload.
    DropOverload = "DO", "DropOverload";
    /// The client reset the stream.
    DownstreamRemoteReset = "DR", "DownstreamRemoteReset";
    /// Dropped without a chance to retry.
    UnconditionalDropOverload = "UDO", "UnconditionalDropOverload";
}

/// Flags in the order they were set, without repetition.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct ResponseFlags {
    order: [u8; ResponseFlag::ALL.len()],
    len: u8,
}

impl ResponseFlags {
    /// No flag.
    pub const fn new() -> Self {
        Self { order: [0; ResponseFlag::ALL.len()], len: 0 }
    }

    /// Sets a flag; setting it again changes nothing.
    pub fn insert(&mut self, flag: ResponseFlag) {
        if self.contains(flag) {
            return;
        }
        if let Some(slot) = self.order.get_mut(usize::from(self.len)) {
            *slot = flag as u8;
            self.len += 1;
        }
    }

    /// Whether a flag is set.
    pub fn contains(&self, flag: ResponseFlag) -> bool {
        self.iter().any(|f| f == flag)
    }

    /// Whether no flag is set.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The flags in the order they were set.
    pub fn iter(&self) -> impl Iterator<Item = ResponseFlag> + '_ {
        let set = self.order.get(..usize::from(self.len)).unwrap_or(&[]);
        set.iter().filter_map(|index| ResponseFlag::ALL.get(usize::from(*index)).copied())
    }
}

impl FromIterator<ResponseFlag> for ResponseFlags {
    fn from_iter<I: IntoIterator<Item = ResponseFlag>>(flags: I) -> Self {
        let mut set = Self::new();
        for flag in flags {
            set.insert(flag);
        }
        set
    }
}

impl fmt::Display for ResponseFlags {
    /// Short forms joined by commas; `-` when none is set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        for (i, flag) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            f.write_str(flag.short())?;
        }
        Ok(())
    }
}

impl fmt::Debug for ResponseFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_keep_the_order_they_were_set_in() {
        let mut flags = ResponseFlags::new();
        assert_eq!(flags.to_string(), "-");
        for flag in [
            ResponseFlag::UpstreamRetryLimitExceeded,
            ResponseFlag::UpstreamConnectionFailure,
            ResponseFlag::UpstreamRetryLimitExceeded,
        ] {
            flags.insert(flag);
        }
        assert_eq!(flags.to_string(), "URX,UF");
    }

    #[test]
    fn every_flag_fits_at_once() {
        let all: ResponseFlags = ResponseFlag::ALL.iter().copied().collect();
        assert_eq!(all.iter().count(), ResponseFlag::ALL.len());
    }
}
