//! How many downstream connections the process may have.

use ringsail_xds::envoy::config::bootstrap::v3::Bootstrap as Message;
use ringsail_xds::envoy::config::overload::v3::resource_monitor::ConfigType;
use ringsail_xds::envoy::extensions::resource_monitors::downstream_connections::v3::DownstreamConnectionsConfig;
use ringsail_xds::unpack;

use super::Bootstrap;

/// The one resource monitor that has an effect here.
const MONITOR: &str = "envoy.resource_monitors.global_downstream_max_connections";

impl Bootstrap {
    /// Most downstream connections of the process; `None` without a bound. Source: Envoy's resource monitor
    /// `global_downstream_max_connections`, or the older runtime key `overload.global_downstream_max_connections`.
    pub fn downstream_connections_max(&self) -> Option<u32> {
        by_monitor(&self.message()).or_else(|| {
            let value = self.runtime.get("overload.global_downstream_max_connections")?;
            let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
            u32::try_from(number).ok()
        })
    }
}

fn by_monitor(message: &Message) -> Option<u32> {
    let monitors = message.overload_manager.iter().flat_map(|manager| &manager.resource_monitors);
    let monitor = monitors.into_iter().find(|monitor| monitor.name == MONITOR)?;
    let Some(ConfigType::TypedConfig(config)) = &monitor.config_type else { return None };
    let config: DownstreamConnectionsConfig = unpack(config).ok()?;
    u32::try_from(config.max_active_downstream_connections).ok()
}

/// Whether the overload manager asks for anything else, which has no effect.
pub(super) fn asks_for_more(message: &Message) -> bool {
    message.overload_manager.as_ref().is_some_and(|manager| {
        !manager.actions.is_empty()
            || !manager.loadshed_points.is_empty()
            || manager.resource_monitors.iter().any(|monitor| monitor.name != MONITOR)
    })
}
