//! Names of the standard metrics and of their labels. Source: telemetry contract §1.1 and §1.2.

use crate::scope::Kind;

/// What is measured together, with one set of labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// Once per HTTP exchange.
    Http,
    /// Per gRPC message.
    Messages,
    /// Per TCP connection.
    Tcp,
}

macro_rules! istio_metrics {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $family:ident, $kind:ident, $cell:literal;)+) => {
        /// A standard metric.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum IstioMetric { $($(#[doc = $doc])+ $variant,)+ }

        impl IstioMetric {
            /// All of them.
            pub const ALL: [IstioMetric; 10] = [$(IstioMetric::$variant),+];

            /// The exported name.
            pub const fn name(self) -> &'static str {
                match self { $(IstioMetric::$variant => concat!("istio_", $name),)+ }
            }

            /// The name in configuration: without `istio_`.
            pub const fn config_name(self) -> &'static str {
                match self { $(IstioMetric::$variant => $name,)+ }
            }

            /// One sentence for people.
            pub fn help(self) -> &'static str {
                match self { $(IstioMetric::$variant => concat!($($doc),+).trim_ascii(),)+ }
            }

            /// What it is measured together with.
            pub const fn family(self) -> Family {
                match self { $(IstioMetric::$variant => Family::$family,)+ }
            }

            /// Counter or histogram.
            pub const fn kind(self) -> Kind {
                match self { $(IstioMetric::$variant => Kind::$kind,)+ }
            }

            /// Which counter or histogram of its family's block.
            pub(super) const fn cell(self) -> usize {
                match self { $(IstioMetric::$variant => $cell,)+ }
            }
        }
    };
}

istio_metrics! {
    /// Requests, counted when they end.
    Requests = "requests_total", Http, Counter, 0;
    /// Time from a request's head to the end of its answer, in milliseconds.
    RequestDuration = "request_duration_milliseconds", Http, Histogram, 0;
    /// Bytes of requests on the wire.
    RequestBytes = "request_bytes", Http, Histogram, 1;
    /// Bytes of answers on the wire.
    ResponseBytes = "response_bytes", Http, Histogram, 2;
    /// gRPC messages from clients.
    RequestMessages = "request_messages_total", Messages, Counter, 0;
    /// gRPC messages to clients.
    ResponseMessages = "response_messages_total", Messages, Counter, 1;
    /// TCP connections opened.
    TcpOpened = "tcp_connections_opened_total", Tcp, Counter, 0;
    /// TCP connections closed.
    TcpClosed = "tcp_connections_closed_total", Tcp, Counter, 1;
    /// Bytes towards clients.
    TcpSent = "tcp_sent_bytes_total", Tcp, Counter, 2;
    /// Bytes from clients.
    TcpReceived = "tcp_received_bytes_total", Tcp, Counter, 3;
}

impl IstioMetric {
    /// The metric that configuration calls `name`.
    pub fn from_config_name(name: &str) -> Option<IstioMetric> {
        IstioMetric::ALL.into_iter().find(|metric| metric.config_name() == name)
    }
}

/// A set of metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetricSet(u16);

impl MetricSet {
    /// The metrics of a family.
    pub fn of(family: Family) -> MetricSet {
        IstioMetric::ALL.into_iter().filter(|metric| metric.family() == family).collect()
    }

    /// Whether `metric` is in it.
    pub const fn contains(self, metric: IstioMetric) -> bool {
        self.0 & (1 << metric as u16) != 0
    }

    /// Whether nothing is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) const fn bits(self) -> u16 {
        self.0
    }

    pub(super) fn join(&mut self, other: MetricSet) {
        self.0 |= other.0;
    }
}

impl FromIterator<IstioMetric> for MetricSet {
    fn from_iter<I: IntoIterator<Item = IstioMetric>>(metrics: I) -> MetricSet {
        MetricSet(metrics.into_iter().fold(0, |set, metric| set | 1 << metric as u16))
    }
}

macro_rules! tags {
    ($($variant:ident = $name:literal;)+) => {
        /// A standard label, in the order they are written.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[expect(missing_docs, reason = "the label's name says it")]
        pub enum Tag { $($variant,)+ }

        impl Tag {
            /// All of them, in order.
            pub const ALL: [Tag; 25] = [$(Tag::$variant),+];

            /// The label's name.
            pub const fn name(self) -> &'static str {
                match self { $(Tag::$variant => $name,)+ }
            }
        }
    };
}

tags! {
    Reporter = "reporter";
    SourceWorkload = "source_workload";
    SourceCanonicalService = "source_canonical_service";
    SourceCanonicalRevision = "source_canonical_revision";
    SourceWorkloadNamespace = "source_workload_namespace";
    SourcePrincipal = "source_principal";
    SourceApp = "source_app";
    SourceVersion = "source_version";
    SourceCluster = "source_cluster";
    DestinationWorkload = "destination_workload";
    DestinationWorkloadNamespace = "destination_workload_namespace";
    DestinationPrincipal = "destination_principal";
    DestinationApp = "destination_app";
    DestinationVersion = "destination_version";
    DestinationService = "destination_service";
    DestinationCanonicalService = "destination_canonical_service";
    DestinationCanonicalRevision = "destination_canonical_revision";
    DestinationServiceName = "destination_service_name";
    DestinationServiceNamespace = "destination_service_namespace";
    DestinationCluster = "destination_cluster";
    RequestProtocol = "request_protocol";
    ResponseCode = "response_code";
    GrpcResponseStatus = "grpc_response_status";
    ResponseFlags = "response_flags";
    ConnectionSecurityPolicy = "connection_security_policy";
}

impl Tag {
    /// The standard label called `name`.
    pub fn from_name(name: &str) -> Option<Tag> {
        Tag::ALL.into_iter().find(|tag| tag.name() == name)
    }

    /// Whether metrics of `family` carry it.
    pub const fn is_of(self, family: Family) -> bool {
        match family {
            Family::Http => true,
            Family::Messages => (self as u8) < (Tag::RequestProtocol as u8),
            Family::Tcp => !matches!(self, Tag::ResponseCode | Tag::GrpcResponseStatus),
        }
    }
}
