//! What a scope is: a kind of thing that has statistics, with a fixed set of metrics.

/// Value semantics of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

/// A kind of thing with statistics: clusters, listeners, the server.
///
/// Implementations are written by the `scope!` macro of this module from one row per metric.
pub trait Scope: 'static {
    /// The counters.
    type Counter: Metric;
    /// The gauges.
    type Gauge: Metric;
    /// The histograms.
    type Histogram: Metric;
    /// First segment of the full name: `cluster` in `cluster.reviews.upstream_rq_total`.
    const PREFIX: &'static str;
    /// Prometheus label that carries the scope's name; `None` when there is one scope of the kind
    /// and its name is not part of the metric name.
    const LABEL: Option<&'static str>;
    /// Beginning of the scope's Prometheus families, after `envoy_`.
    const FAMILY: &'static str = Self::PREFIX;
    /// Metric that is also counted per status code (`upstream_rq` → `upstream_rq_503`).
    const BY_STATUS: Option<&'static str>;

    /// Prometheus labels of the scope called `name`. istiod ends statistics names with `;`, which
    /// is no part of the label.
    fn labels(name: &str) -> Labels<'_> {
        [Self::LABEL.map(|label| (label, name.strip_suffix(';').unwrap_or(name))), None, None]
    }

    /// Whether counters that are 0 are not shown.
    const USED_ONLY: bool = false;

    /// Appends the scope's name as it stands in dotted names.
    fn push_dotted(name: &str, out: &mut String) {
        out.push_str(name);
    }
}

/// Labels of a scope, as many as it has.
pub type Labels<'a> = [Option<(&'static str, &'a str)>; 3];

/// One row of a scope's metrics.
pub trait Metric: Copy + 'static {
    /// All metrics of this type, in the order of their [`index`](Self::index).
    const ALL: &'static [Self];
    /// Position in [`ALL`](Self::ALL).
    fn index(self) -> usize;
    /// Last part of the name: `upstream_rq_total`. May contain dots.
    fn name(self) -> &'static str;
    /// One sentence for people; may be empty where the name says it.
    fn help(self) -> &'static str;
}

/// Declares a scope: its marker type and one enum per kind of metric.
macro_rules! scope {
    (
        $(#[$doc:meta])* $scope:ident, prefix $prefix:literal, label $label:expr, by_status $by_status:expr;
        counters $counter:ident { $($(#[doc = $cdoc:literal])* $cvar:ident = $cname:literal,)* }
        gauges $gauge:ident { $($(#[doc = $gdoc:literal])* $gvar:ident = $gname:literal,)* }
        histograms $histogram:ident { $($(#[doc = $hdoc:literal])* $hvar:ident = $hname:literal,)* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub enum $scope {}

        impl $crate::scope::Scope for $scope {
            type Counter = $counter;
            type Gauge = $gauge;
            type Histogram = $histogram;
            const PREFIX: &'static str = $prefix;
            const LABEL: Option<&'static str> = $label;
            const BY_STATUS: Option<&'static str> = $by_status;
        }

        $crate::scope::metric!($counter, concat!("Counters of [`", stringify!($scope), "`]."), $($(#[doc = $cdoc])* $cvar = $cname,)*);
        $crate::scope::metric!($gauge, concat!("Gauges of [`", stringify!($scope), "`]."), $($(#[doc = $gdoc])* $gvar = $gname,)*);
        $crate::scope::metric!($histogram, concat!("Histograms of [`", stringify!($scope), "`]."), $($(#[doc = $hdoc])* $hvar = $hname,)*);
    };
}

/// Declares one metric enum.
macro_rules! metric {
    ($name:ident, $doc:expr, $($(#[doc = $vdoc:literal])* $variant:ident = $text:literal,)*) => {
        #[doc = $doc]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[doc = $vdoc])* $variant,)* }

        impl $crate::scope::Metric for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)*];
            fn index(self) -> usize {
                match self { $(Self::$variant => Self::$variant as usize,)* }
            }
            fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
            fn help(self) -> &'static str {
                match self { $(Self::$variant => concat!($($vdoc),*).trim_ascii(),)* }
            }
        }
    };
}

pub(crate) use {metric, scope};
