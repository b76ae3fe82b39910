//! Bounds of the agent.

use std::time::Duration;

/// Largest configuration file read, in bytes: 10,000 clusters with ten endpoints each are about 60 MiB of JSON.
pub const FILE_BYTES_MAX: u64 = 256 << 20;

/// Most nodes of a YAML document after expanding its aliases: keeps a small file from becoming a large tree.
pub const YAML_NODES_MAX: usize = 4 << 20;

/// Deepest nesting of a YAML document. Source: protobuf's own limit.
pub const YAML_DEPTH_MAX: usize = 100;

/// Largest discovery response, in bytes. Istio's own agent sets no bound; pushes of tens of MB exist.
pub const RESPONSE_BYTES_MAX: usize = 256 << 20;

/// First and longest pause before the control plane is tried again. Source: Envoy `grpc_mux` back-off 500 ms to 30 s.
pub const RECONNECT_MIN: Duration = Duration::from_millis(500);
/// See [`RECONNECT_MIN`].
pub const RECONNECT_MAX: Duration = Duration::from_secs(30);

/// How long a stream has to live for the pause to start over. Source: Envoy resets its back-off at the first response.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// HTTP/2 windows towards the control plane, in bytes. Source: istio-agent sets 1 MiB for both.
pub const ADS_WINDOW_BYTES: u32 = 1 << 20;

/// Keep-alive of the control plane's connection: ping interval and how long an answer may take. Source: istio-agent.
pub const ADS_PING_INTERVAL: Duration = Duration::from_secs(30);
/// See [`ADS_PING_INTERVAL`].
pub const ADS_PING_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a listener or cluster waits for its routes or endpoints. Source: `ConfigSource.initial_fetch_timeout`.
pub const INITIAL_FETCH_TIMEOUT: Duration = Duration::from_secs(15);

/// Quiet time after a file event before the file is read: a rename brings several events at once.
pub const FILE_SETTLE: Duration = Duration::from_millis(20);

/// Interval at which watched files are compared with what was read, for file systems without events.
pub const FILE_POLL: Duration = Duration::from_secs(5);

/// Name look-ups in progress at once. They occupy a thread each.
pub const LOOKUPS_MAX: usize = 32;

/// Longest time one look-up may take. Source: Envoy's c-ares default is 5 s with 4 tries.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(20);

/// Connections to the admin port at once.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;

/// Longest admin request body read, in bytes. Admin requests have none.
pub const ADMIN_BODY_BYTES_MAX: usize = 1 << 20;

/// Longest time to read an admin request head.
pub const ADMIN_HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Commands from the admin side waiting for one shard, unless `--shard-commands-max` says otherwise. They are given by
/// hand or by a script, a few at a time.
pub const SHARD_COMMANDS_MAX: usize = 64;

/// News from all shards that the agent has not looked at, unless `--shard-events-max` says otherwise. There is one for
/// each listener opened and one for each version adopted; a shard offers a refused one again.
pub const SHARD_EVENTS_MAX: usize = 4096;

/// Reports of failing endpoints waiting for the shard that judges them, unless `--shard-reports-max` says otherwise. A
/// refused one is lost; the endpoint's next failure reports again.
pub const SHARD_REPORTS_MAX: usize = 1024;

/// Resource updates waiting for the compiler, unless `--config-updates-max` says otherwise. At the limit no more are
/// read from the control plane until there is room.
pub const UPDATES_MAX: usize = 1024;

/// How long nothing is compiled until the start counts as over and its code leaves the memory: longer than a control plane
/// pauses between the parts of a first configuration.
pub const START_QUIET: Duration = Duration::from_secs(1);

/// Pause before a listener's address that could not be had is tried again. The shards' own pause is as long.
pub const BIND_RETRY: Duration = Duration::from_secs(1);

/// How often statistics that shards made and dropped are taken in, also when nobody asks for a page.
pub const STATS_COLLECT_INTERVAL: Duration = Duration::from_secs(60);

/// Batches of spans or log entries that wait for one collector, unless `--export-batches-max` says otherwise; more are
/// dropped and counted. A batch is some 16 KiB.
pub const EXPORT_BATCHES_MAX: usize = 256;

/// Collectors at once. Configuration names a handful.
pub const EXPORT_DESTINATIONS_MAX: usize = 64;

/// Longest pause between them: what waits behind a batch is not to be lost for it.
pub const EXPORT_PAUSE_MAX: Duration = Duration::from_millis(500);

/// Attempts to reach a collector with one batch.
pub const EXPORT_TRIES_MAX: u32 = 3;

/// Longest call to a collector, where its configuration says nothing. Source: Envoy's Zipkin reporter, 5 s.
pub const EXPORT_CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest file that is part of a secret: a bundle of all public authorities has 300 KiB.
pub const SECRET_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How long a key seals session tickets; the one before it still opens them as long again. Source: BoringSSL rotates its
/// own keys every two days.
pub const TICKET_KEY_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// How long one name server is waited for. Source: `CaresDnsResolverConfig.query_timeout_seconds`.
pub const DNS_TIMEOUT: Duration = Duration::from_secs(5);

/// How often all name servers are asked. Source: `CaresDnsResolverConfig.query_tries`.
pub const DNS_ATTEMPTS: u32 = 4;

/// Longest answer over UDP, in bytes. We ask without EDNS, so that servers send 512 (RFC 1035 section 4.2.1); longer ones
/// come over TCP.
pub const DNS_MESSAGE_BYTES_MAX: usize = 4096;
