//! Mesh-wide settings: MeshConfig with Istio's defaults filled in.

use std::time::Duration;

use ringsail_api::MeshConfig;
use ringsail_api::istio::mesh::v1alpha1::mesh_config::{inbound_traffic_policy, outbound_traffic_policy};

use crate::visibility::Visibility;

/// `meshConfig.connectTimeout` default. Source: Istio MeshConfig.
pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// `meshConfig.dnsRefreshRate` default. Source: Istio MeshConfig.
pub const DNS_REFRESH_RATE_DEFAULT: Duration = Duration::from_secs(60);
/// Port of the captured outbound listener, `meshConfig.proxyListenPort`.
pub const OUTBOUND_PORT_DEFAULT: u32 = 15001;
/// Port of the captured inbound listener, `meshConfig.proxyInboundListenPort`.
pub const INBOUND_PORT_DEFAULT: u32 = 15006;

/// Where traffic to unknown destinations goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutboundMode {
    /// To the address the client dialled.
    AllowAny,
    /// Nowhere.
    RegistryOnly,
}

/// Settings of the whole mesh.
#[derive(Clone, Debug, PartialEq)]
pub struct MeshSettings {
    /// MeshConfig as written.
    pub config: MeshConfig,
    /// DNS suffix of the cluster (`cluster.local`); empty leaves short names as `<name>.<namespace>`.
    pub cluster_domain: String,
    /// Namespace whose objects apply to all (`istio-system`).
    pub root_namespace: String,
    /// Default of `exportTo` for services.
    pub service_visibility: Visibility,
    /// Default of `exportTo` for VirtualServices.
    pub virtual_service_visibility: Visibility,
    /// Default of `exportTo` for DestinationRules.
    pub destination_rule_visibility: Visibility,
}

impl Default for MeshSettings {
    fn default() -> Self {
        MeshSettings::new(MeshConfig::default(), "cluster.local")
    }
}

impl MeshSettings {
    /// Fills in Istio's defaults.
    pub fn new(config: MeshConfig, cluster_domain: &str) -> MeshSettings {
        let root_namespace = if config.root_namespace.is_empty() {
            "istio-system".to_owned()
        } else {
            config.root_namespace.clone()
        };
        MeshSettings {
            cluster_domain: cluster_domain.to_owned(),
            root_namespace,
            service_visibility: Visibility::parse_default(&config.default_service_export_to),
            virtual_service_visibility: Visibility::parse_default(&config.default_virtual_service_export_to),
            destination_rule_visibility: Visibility::parse_default(
                &config.default_destination_rule_export_to,
            ),
            config,
        }
    }

    /// Mesh-wide outbound mode; a Sidecar may override it.
    pub fn outbound_mode(&self) -> OutboundMode {
        use outbound_traffic_policy::Mode;
        match self.config.outbound_traffic_policy.as_ref().map(|policy| policy.mode()) {
            Some(Mode::RegistryOnly) => OutboundMode::RegistryOnly,
            // ALLOW_ANY_DYNAMIC_DNS needs the dynamic forward proxy and is refused when configuration is validated.
            Some(Mode::AllowAny | Mode::AllowAnyDynamicDns) | None => OutboundMode::AllowAny,
        }
    }

    /// Whether inbound traffic goes to loopback instead of the workload's own address.
    pub fn inbound_to_localhost(&self) -> bool {
        self.config
            .inbound_traffic_policy
            .as_ref()
            .is_some_and(|policy| policy.mode() == inbound_traffic_policy::Mode::Localhost)
    }

    /// Time to establish an upstream connection, unless a DestinationRule says otherwise.
    pub fn connect_timeout(&self) -> Duration {
        positive(self.config.connect_timeout).unwrap_or(CONNECT_TIMEOUT_DEFAULT)
    }

    /// How often DNS is asked when an answer carries no TTL.
    pub fn dns_refresh_rate(&self) -> Duration {
        positive(self.config.dns_refresh_rate).unwrap_or(DNS_REFRESH_RATE_DEFAULT)
    }

    /// Port of `virtualOutbound`.
    pub fn outbound_port(&self) -> u32 {
        port_or(self.config.proxy_listen_port, OUTBOUND_PORT_DEFAULT)
    }

    /// Port of `virtualInbound`.
    pub fn inbound_port(&self) -> u32 {
        port_or(self.config.proxy_inbound_listen_port, INBOUND_PORT_DEFAULT)
    }
}

fn positive(duration: Option<prost_types::Duration>) -> Option<Duration> {
    duration.and_then(|duration| Duration::try_from(duration).ok()).filter(|duration| !duration.is_zero())
}

fn port_or(port: i32, default: u32) -> u32 {
    u32::try_from(port).ok().filter(|port| *port != 0).unwrap_or(default)
}
