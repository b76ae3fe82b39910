//! Every kind that is read: its API group and versions, its message and its Rust type, in one table.

use std::fmt;

use prost_reflect::DynamicMessage;

use crate::istio::extensions::v1alpha1 as extensions;
use crate::istio::networking::v1beta1 as networking_v1beta1;
use crate::{apps, core, discovery, networking, security, telemetry};

/// Which part of a document the kind's message describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The value of `spec` (Istio's kinds).
    Spec,
    /// The whole document except `apiVersion`, `kind` and `metadata` (Kubernetes' kinds).
    Whole,
}

macro_rules! kinds {
    ($($kind:ident: $group:literal $versions:tt $scope:ident $shape:ident $message:literal => $type:ty;)*) => {
        /// A kind of object that is read.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)]
        pub enum Kind { $($kind),* }

        /// The content of an object, by kind. Kubernetes kinds carry no `metadata` here: it is
        /// [`crate::Object::meta`].
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs)]
        pub enum Spec { $($kind(Box<$type>)),* }

        impl Kind {
            /// Every kind that is read.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            /// The kind's name, as in a document's `kind`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => stringify!($kind)),* }
            }

            /// The API group; empty for Kubernetes' core group.
            pub fn group(self) -> &'static str {
                match self { $(Self::$kind => $group),* }
            }

            /// The versions of the group in which the kind is served. All have the same schema.
            pub fn versions(self) -> &'static [&'static str] {
                match self { $(Self::$kind => &$versions),* }
            }

            /// True when objects of the kind live in a namespace.
            pub fn is_namespaced(self) -> bool {
                match self { $(Self::$kind => kinds!(@scope $scope)),* }
            }

            pub(crate) fn shape(self) -> Shape {
                match self { $(Self::$kind => Shape::$shape),* }
            }

            pub(crate) fn message(self) -> &'static str {
                match self { $(Self::$kind => $message),* }
            }

            pub(crate) fn spec(self, message: &DynamicMessage) -> Result<Spec, prost::DecodeError> {
                Ok(match self { $(Self::$kind => Spec::$kind(Box::new(message.transcode_to()?))),* })
            }
        }

        impl Spec {
            /// The kind whose content this is.
            pub fn kind(&self) -> Kind {
                match self { $(Self::$kind(_) => Kind::$kind),* }
            }

            /// The content in JSON.
            pub(crate) fn to_json(&self) -> serde_json::Value {
                match self { $(Self::$kind(spec) => crate::decode::to_json($message, &**spec)),* }
            }
        }
    };
    (@scope Namespaced) => { true };
    (@scope Cluster) => { false };
}

kinds! {
    VirtualService: "networking.istio.io" ["v1", "v1beta1", "v1alpha3"] Namespaced Spec
        "istio.networking.v1alpha3.VirtualService" => networking::VirtualService;
    DestinationRule: "networking.istio.io" ["v1", "v1beta1", "v1alpha3"] Namespaced Spec
        "istio.networking.v1alpha3.DestinationRule" => networking::DestinationRule;
    Gateway: "networking.istio.io" ["v1", "v1beta1", "v1alpha3"] Namespaced Spec
        "istio.networking.v1alpha3.Gateway" => networking::Gateway;
    ServiceEntry: "networking.istio.io" ["v1", "v1beta1", "v1alpha3"] Namespaced Spec
        "istio.networking.v1alpha3.ServiceEntry" => networking::ServiceEntry;
    WorkloadEntry: "networking.istio.io" ["v1", "v1beta1", "v1alpha3"] Namespaced Spec
        "istio.networking.v1alpha3.WorkloadEntry" => networking::WorkloadEntry;
    WorkloadGroup: "networking.istio.io" ["v1", "v1beta1", "v1alpha3"] Namespaced Spec
        "istio.networking.v1alpha3.WorkloadGroup" => networking::WorkloadGroup;
    Sidecar: "networking.istio.io" ["v1", "v1beta1", "v1alpha3"] Namespaced Spec
        "istio.networking.v1alpha3.Sidecar" => networking::Sidecar;
    EnvoyFilter: "networking.istio.io" ["v1alpha3"] Namespaced Spec
        "istio.networking.v1alpha3.EnvoyFilter" => networking::EnvoyFilter;
    ProxyConfig: "networking.istio.io" ["v1beta1"] Namespaced Spec
        "istio.networking.v1beta1.ProxyConfig" => networking_v1beta1::ProxyConfig;
    PeerAuthentication: "security.istio.io" ["v1", "v1beta1"] Namespaced Spec
        "istio.security.v1beta1.PeerAuthentication" => security::PeerAuthentication;
    RequestAuthentication: "security.istio.io" ["v1", "v1beta1"] Namespaced Spec
        "istio.security.v1beta1.RequestAuthentication" => security::RequestAuthentication;
    AuthorizationPolicy: "security.istio.io" ["v1", "v1beta1"] Namespaced Spec
        "istio.security.v1beta1.AuthorizationPolicy" => security::AuthorizationPolicy;
    Telemetry: "telemetry.istio.io" ["v1", "v1alpha1"] Namespaced Spec
        "istio.telemetry.v1alpha1.Telemetry" => telemetry::Telemetry;
    WasmPlugin: "extensions.istio.io" ["v1alpha1"] Namespaced Spec
        "istio.extensions.v1alpha1.WasmPlugin" => extensions::WasmPlugin;
    TrafficExtension: "extensions.istio.io" ["v1alpha1"] Namespaced Spec
        "istio.extensions.v1alpha1.TrafficExtension" => extensions::TrafficExtension;
    Service: "" ["v1"] Namespaced Whole "k8s.io.api.core.v1.Service" => core::Service;
    Endpoints: "" ["v1"] Namespaced Whole "k8s.io.api.core.v1.Endpoints" => core::Endpoints;
    EndpointSlice: "discovery.k8s.io" ["v1", "v1beta1"] Namespaced Whole
        "k8s.io.api.discovery.v1.EndpointSlice" => discovery::EndpointSlice;
    Pod: "" ["v1"] Namespaced Whole "k8s.io.api.core.v1.Pod" => core::Pod;
    Namespace: "" ["v1"] Cluster Whole "k8s.io.api.core.v1.Namespace" => core::Namespace;
    Node: "" ["v1"] Cluster Whole "k8s.io.api.core.v1.Node" => core::Node;
    ConfigMap: "" ["v1"] Namespaced Whole "k8s.io.api.core.v1.ConfigMap" => core::ConfigMap;
    Secret: "" ["v1"] Namespaced Whole "k8s.io.api.core.v1.Secret" => core::Secret;
    ServiceAccount: "" ["v1"] Namespaced Whole "k8s.io.api.core.v1.ServiceAccount" => core::ServiceAccount;
    Deployment: "apps" ["v1"] Namespaced Whole "k8s.io.api.apps.v1.Deployment" => apps::Deployment;
    StatefulSet: "apps" ["v1"] Namespaced Whole "k8s.io.api.apps.v1.StatefulSet" => apps::StatefulSet;
    DaemonSet: "apps" ["v1"] Namespaced Whole "k8s.io.api.apps.v1.DaemonSet" => apps::DaemonSet;
    ReplicaSet: "apps" ["v1"] Namespaced Whole "k8s.io.api.apps.v1.ReplicaSet" => apps::ReplicaSet;
}

impl Kind {
    /// The kind of that group and name.
    pub fn find(group: &str, name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.group() == group && kind.name() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
