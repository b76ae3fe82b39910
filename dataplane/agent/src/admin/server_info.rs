//! `/server_info`, `/memory`: the process about itself.

use ringsail_telemetry::{ServerCounter, ServerGauge};
use ringsail_xds::envoy::admin::v3::command_line_options::{DrainStrategy as WireStrategy, Mode as WireMode};
use ringsail_xds::envoy::admin::v3::server_info::State as WireState;
use ringsail_xds::envoy::admin::v3::{CommandLineOptions, Memory, ServerInfo};
use ringsail_xds::json::{Print, Schema};

use super::{Admin, Page, Query};
use crate::options::{DrainStrategy, Mode, Options};
use crate::state::Phase;

pub(super) fn page(admin: &Admin, _: &Query) -> Page {
    let state = admin.state.borrow();
    let uptime = prost_types::Duration {
        seconds: i64::try_from(state.started.elapsed().as_secs()).unwrap_or(i64::MAX),
        nanos: 0,
    };
    let phase = match state.phase {
        _ if state.draining => WireState::Draining,
        Phase::Live => WireState::Live,
        Phase::PreInitializing => WireState::PreInitializing,
        Phase::Initializing => WireState::Initializing,
    };
    let info = ServerInfo {
        // Compat: revision/version/status/build type/TLS library, as scripts split it.
        version: format!("ringsail/{}/Clean/{}/none", crate::VERSION, build_type()),
        state: phase.into(),
        uptime_current_epoch: Some(uptime),
        uptime_all_epochs: Some(uptime),
        hot_restart_version: "disabled".to_string(),
        command_line_options: Some(command_line(&admin.options, admin.process.concurrency())),
        node: Some(admin.bootstrap.node.clone()),
        ..ServerInfo::default()
    };
    let mut json = Schema::shared().to_json(&info, Print::WithDefaults);
    let engine = admin.process.engine();
    if let Some(members) = json.as_object_mut() {
        // A field of ours; readers of Envoy's JSON ignore what they do not know.
        members.insert(
            "ringsail_engine".to_string(),
            serde_json::json!({"name": engine.name, "reason": engine.reason}),
        );
    }
    Page::json(&json)
}

fn build_type() -> &'static str {
    if cfg!(debug_assertions) { "DEBUG" } else { "RELEASE" }
}

fn command_line(options: &Options, concurrency: u32) -> CommandLineOptions {
    let path = |path: &Option<std::path::PathBuf>| {
        path.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
    };
    let duration = |duration: std::time::Duration| prost_types::Duration::try_from(duration).ok();
    CommandLineOptions {
        base_id: options.base_id,
        concurrency,
        config_path: path(&options.config_path),
        config_yaml: options.config_yaml.clone().unwrap_or_default(),
        admin_address_path: path(&options.admin_address_path),
        log_level: options.log_level.name().to_string(),
        component_log_level: options.component_log_level.clone().unwrap_or_default(),
        log_format: options.log_format.clone().unwrap_or_default(),
        log_path: path(&options.log_path),
        service_cluster: options.service_cluster.clone().unwrap_or_default(),
        service_node: options.service_node.clone().unwrap_or_default(),
        service_zone: options.service_zone.clone().unwrap_or_default(),
        file_flush_interval: duration(options.file_flush_interval),
        drain_time: duration(options.drain_time),
        parent_shutdown_time: duration(options.parent_shutdown_time),
        drain_strategy: match options.drain_strategy {
            DrainStrategy::Gradual => WireStrategy::Gradual,
            DrainStrategy::Immediate => WireStrategy::Immediate,
        }
        .into(),
        mode: match options.mode {
            Mode::Serve => WireMode::Serve,
            Mode::Validate => WireMode::Validate,
            Mode::InitOnly => WireMode::InitOnly,
        }
        .into(),
        disable_hot_restart: true,
        restart_epoch: options.restart_epoch,
        ..CommandLineOptions::default()
    }
}

pub(super) fn memory(_: &Admin, _: &Query) -> Page {
    let usage = usage();
    let memory = Memory {
        // Compat: our allocator does not tell live bytes from kept ones; what is resident and private bounds both.
        allocated: usage.private,
        heap_size: usage.private,
        total_physical_bytes: usage.resident,
        ..Memory::default()
    };
    Page::json(&Schema::shared().to_json(&memory, Print::WithDefaults))
}

/// Brings the gauges of the process up to date before they are shown.
pub(super) fn refresh(admin: &Admin) {
    let usage = usage();
    let state = admin.state.borrow();
    let server = admin.stats.server();
    server.set(ServerGauge::Uptime, state.started.elapsed().as_secs());
    server.set(ServerGauge::State, if state.draining { 1 } else { state.phase.number() });
    server.set(ServerGauge::MemoryAllocated, usage.private);
    server.set(ServerGauge::MemoryHeapSize, usage.private);
    server.set(ServerGauge::MemoryPhysicalSize, usage.resident);
    let totals = admin.process.totals();
    server.set(ServerGauge::TotalConnections, totals.connections_open);
    server.set(ServerGauge::BuffersLent, totals.buffers_lent);
    server.set(ServerGauge::Tasks, totals.tasks);
    for (counter, value) in [
        (ServerCounter::ConnectionsRefused, totals.connections_refused),
        (ServerCounter::AcceptRests, totals.accept_rests),
        (ServerCounter::BuffersExhausted, totals.buffers_refused),
        (ServerCounter::TasksRefused, totals.tasks_refused),
        (ServerCounter::CommandsRefused, totals.commands_refused),
        (ServerCounter::EventsRefused, totals.events_refused),
        (ServerCounter::ReportsRefused, totals.reports_refused),
        (ServerCounter::TaskPanics, totals.task_panics),
        (ServerCounter::AccessLogDropped, totals.access_log_dropped),
    ] {
        // The shards count since their start; this block is only ours to write.
        server.add(counter, value.saturating_sub(server.counter(counter)));
    }
    server.set(ServerGauge::EngineIoUring, u64::from(admin.process.engine().name == "io_uring"));
}

struct Usage {
    resident: u64,
    private: u64,
}

/// Bytes in memory. Source: proc(5), `/proc/self/statm`: pages of size, resident, shared.
fn usage() -> Usage {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut pages = text.split(' ').map(|number| number.parse::<u64>().unwrap_or(0));
    let (_size, resident, shared) = (pages.next(), pages.next().unwrap_or(0), pages.next().unwrap_or(0));
    /// Pages are 4 KiB on the platforms we build for.
    const PAGE_BYTES: u64 = 4096;
    Usage { resident: resident * PAGE_BYTES, private: resident.saturating_sub(shared) * PAGE_BYTES }
}
