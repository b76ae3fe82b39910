//! The command line: Envoy's, so that whatever starts Envoy can start ringsail-proxy.
//!
//! Every flag of Envoy 1.40 is known. Flags that mean nothing here are accepted and named in the log; unknown flags
//! are an error, as they are in Envoy.

use std::path::PathBuf;
use std::time::Duration;

use ringsail_runtime::limits::ShardLimits;

use crate::limits;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run, or with [`Mode::Validate`] only check the configuration.
    Run(Box<Options>),
    /// Print this and exit with 0: `--help`, `--version`.
    Print(String),
}

/// Values of the flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `-c`, `--config-path`: the bootstrap file.
    pub config_path: Option<PathBuf>,
    /// `--config-yaml`: a bootstrap merged over the file's.
    pub config_yaml: Option<String>,
    /// `--mode`.
    pub mode: Mode,
    /// `--concurrency`: shards; `None` or 0 means one per core.
    pub concurrency: Option<u32>,
    /// `--service-node`: replaces the bootstrap's `node.id`.
    pub service_node: Option<String>,
    /// `--service-cluster`: replaces `node.cluster`.
    pub service_cluster: Option<String>,
    /// `--service-zone`: replaces `node.locality.zone`.
    pub service_zone: Option<String>,
    /// `-l`, `--log-level`.
    pub log_level: LogLevel,
    /// `--component-log-level`: `name:level` pairs, comma-separated.
    pub component_log_level: Option<String>,
    /// `--log-path`: file instead of standard error.
    pub log_path: Option<PathBuf>,
    /// `--log-format`, as given.
    pub log_format: Option<String>,
    /// `--drain-time-s`: how long a drain may take. Default 600 s.
    pub drain_time: Duration,
    /// `--drain-strategy`.
    pub drain_strategy: DrainStrategy,
    /// `--parent-shutdown-time-s`. Default 900 s; only shown.
    pub parent_shutdown_time: Duration,
    /// `--file-flush-interval-msec`: access logs. Default 10 s.
    pub file_flush_interval: Duration,
    /// `--admin-address-path`: where to write the admin address that was bound.
    pub admin_address_path: Option<PathBuf>,
    /// `--base-id`; only shown.
    pub base_id: u64,
    /// `--restart-epoch`; only shown.
    pub restart_epoch: u32,
    /// `--engine`: `auto`, `io_uring` or `epoll`. A flag of ours.
    pub engine: String,
    /// `--shard-connections-max`, `--shard-buffers-max` and `--shard-tasks-max`. Flags of ours.
    pub shard_limits: ShardLimits,
    /// How long the queues between threads may get. Flags of ours.
    pub queues: QueueLimits,
    /// Flags that were given and have no effect here.
    pub without_effect: Vec<&'static str>,
}

/// How many entries the queues between the threads of a proxy hold at most. A full one refuses or drops, and counts it
/// (`server.ringsail_…` on `/stats`), or keeps its sender from reading on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// `--shard-commands-max`: commands from the admin side to one shard.
    pub commands: usize,
    /// `--shard-events-max`: news from all shards.
    pub events: usize,
    /// `--shard-reports-max`: reports of failing endpoints.
    pub reports: usize,
    /// `--access-log-queue-max`: access-log records waiting for the writer.
    pub access_log: usize,
    /// `--config-updates-max`: resource updates waiting for the compiler.
    pub updates: usize,
    /// `--export-batches-max`: batches waiting for one collector.
    pub export_batches: usize,
}

impl Default for QueueLimits {
    fn default() -> QueueLimits {
        QueueLimits {
            commands: limits::SHARD_COMMANDS_MAX,
            events: limits::SHARD_EVENTS_MAX,
            reports: limits::SHARD_REPORTS_MAX,
            access_log: ringsail_telemetry::limits::LOG_QUEUE_MAX,
            updates: limits::UPDATES_MAX,
            export_batches: limits::EXPORT_BATCHES_MAX,
        }
    }
}

/// `--mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Serve traffic.
    Serve,
    /// Check the configuration and exit.
    Validate,
    /// Start everything, then exit.
    InitOnly,
}

/// `--drain-strategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainStrategy {
    /// Connections are asked to close with a probability that grows over the drain time.
    Gradual,
    /// All connections are asked to close at once.
    Immediate,
}

/// Levels by Envoy's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// `trace`
    Trace,
    /// `debug`
    Debug,
    /// `info`
    Info,
    /// `warning` or `warn`
    Warning,
    /// `error`
    Error,
    /// `critical`
    Critical,
    /// `off`
    Off,
}

impl LogLevel {
    /// By Envoy's name.
    pub fn from_name(name: &str) -> Option<LogLevel> {
        Some(match name {
            "trace" => LogLevel::Trace,
            "debug" => LogLevel::Debug,
            "info" => LogLevel::Info,
            "warning" | "warn" => LogLevel::Warning,
            "error" => LogLevel::Error,
            "critical" => LogLevel::Critical,
            "off" => LogLevel::Off,
            _ => return None,
        })
    }

    /// Envoy's name.
    pub fn name(self) -> &'static str {
        match self {
            LogLevel::Trace => "trace",
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warning => "warning",
            LogLevel::Error => "error",
            LogLevel::Critical => "critical",
            LogLevel::Off => "off",
        }
    }

    /// The filter directive of `tracing` for it. Critical is the most severe there is: error.
    pub fn directive(self) -> &'static str {
        match self {
            LogLevel::Trace => "trace",
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warning => "warn",
            LogLevel::Error | LogLevel::Critical => "error",
            LogLevel::Off => "off",
        }
    }
}

/// A command line that cannot be understood. Print it and exit with 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}\nTry --help.")]
pub struct UsageError(String);

impl Default for Options {
    fn default() -> Options {
        Options {
            config_path: None,
            config_yaml: None,
            mode: Mode::Serve,
            concurrency: None,
            service_node: None,
            service_cluster: None,
            service_zone: None,
            log_level: LogLevel::Info,
            component_log_level: None,
            log_path: None,
            log_format: None,
            drain_time: Duration::from_secs(600),
            drain_strategy: DrainStrategy::Gradual,
            parent_shutdown_time: Duration::from_secs(900),
            file_flush_interval: Duration::from_secs(10),
            admin_address_path: None,
            base_id: 0,
            restart_epoch: 0,
            engine: "auto".to_string(),
            shard_limits: ShardLimits::default(),
            queues: QueueLimits::default(),
            without_effect: Vec::new(),
        }
    }
}

impl Options {
    /// Reads the arguments after the program's name.
    ///
    /// # Errors
    /// On an unknown flag, a missing or impossible value, or an argument that is no flag.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Command, UsageError> {
        let mut options = Options::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let (name, attached) = match argument.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name.to_string(), Some(value.to_string())),
                _ => (argument.clone(), None),
            };
            let Some(flag) = FLAGS.iter().find(|flag| flag.is(&name)) else {
                return Err(UsageError(format!("unknown argument {argument:?}")));
            };
            let value = match (flag.value, attached) {
                (None, None) => String::new(),
                (None, Some(_)) => return Err(UsageError(format!("{} takes no value", flag.long))),
                (Some(_), Some(value)) => value,
                (Some(_), None) => {
                    arguments.next().ok_or_else(|| UsageError(format!("{} needs a value", flag.long)))?
                }
            };
            match flag.effect {
                Effect::Print(text) => return Ok(Command::Print(text())),
                Effect::None => options.without_effect.push(flag.long),
                Effect::Set(set) => set(&mut options, value.clone())
                    .ok_or_else(|| UsageError(format!("{value:?} is no value for {}", flag.long)))?,
            }
        }
        if options.config_path.is_none() && options.config_yaml.is_none() {
            return Err(UsageError("a configuration is needed: -c FILE or --config-yaml TEXT".to_string()));
        }
        Ok(Command::Run(Box::new(options)))
    }
}

/// The text of `--help`.
pub fn help() -> String {
    let mut text = String::from(
        "ringsail-proxy: a sidecar and gateway proxy that takes Envoy's configuration\n\nUsage: ringsail-proxy -c FILE [flags]\n",
    );
    for with_effect in [true, false] {
        text.push_str(if with_effect {
            "\nFlags:\n"
        } else {
            "\nAccepted for compatibility, without effect:\n"
        });
        for flag in FLAGS.iter().filter(|flag| matches!(flag.effect, Effect::None) != with_effect) {
            let short = flag.short.map_or("    ".to_string(), |short| format!("{short}, "));
            let usage = format!("{short}{} {}", flag.long, flag.value.unwrap_or_default());
            text.push_str(format!("  {usage:<48}{}", flag.help).trim_end());
            text.push('\n');
        }
    }
    text
}

/// The text of `--version`.
pub fn version() -> String {
    format!("ringsail-proxy version: {}\n", crate::VERSION)
}

struct Flag {
    long: &'static str,
    short: Option<&'static str>,
    /// What the value is called in the help; `None` if the flag takes none.
    value: Option<&'static str>,
    help: &'static str,
    effect: Effect,
}

impl Flag {
    fn is(&self, name: &str) -> bool {
        self.long == name || self.short == Some(name)
    }
}

enum Effect {
    Set(fn(&mut Options, String) -> Option<()>),
    Print(fn() -> String),
    None,
}

const fn set(
    long: &'static str,
    short: Option<&'static str>,
    value: &'static str,
    help: &'static str,
    set: fn(&mut Options, String) -> Option<()>,
) -> Flag {
    Flag { long, short, value: Some(value), help, effect: Effect::Set(set) }
}

const fn ignored(long: &'static str, value: Option<&'static str>) -> Flag {
    Flag { long, short: None, value, help: "", effect: Effect::None }
}

fn positive(value: &str) -> Option<u32> {
    value.parse().ok().filter(|number| *number > 0)
}

/// Sets the length of a queue.
fn length(queue: &mut usize, value: &str) -> Option<()> {
    *queue = usize::try_from(positive(value)?).ok()?;
    Some(())
}

const FLAGS: &[Flag] = &[
    set("--config-path", Some("-c"), "FILE", "bootstrap, JSON or YAML", |o, v| {
        o.config_path = Some(v.into());
        Some(())
    }),
    set("--config-yaml", None, "TEXT", "bootstrap merged over the file's", |o, v| {
        o.config_yaml = Some(v);
        Some(())
    }),
    set("--mode", None, "MODE", "serve, validate or init_only", |o, v| {
        o.mode = match v.as_str() {
            "serve" => Mode::Serve,
            "validate" => Mode::Validate,
            "init_only" => Mode::InitOnly,
            _ => return None,
        };
        Some(())
    }),
    set("--concurrency", None, "N", "shards; default: one per core", |o, v| {
        o.concurrency = Some(v.parse().ok()?);
        Some(())
    }),
    set("--engine", None, "ENGINE", "auto, io_uring or epoll", |o, v| {
        o.engine = v;
        matches!(o.engine.as_str(), "auto" | "io_uring" | "epoll").then_some(())
    }),
    set("--shard-connections-max", None, "N", "connections of a shard, both sides; default 65536", |o, v| {
        o.shard_limits.connections_max = positive(&v)?;
        Some(())
    }),
    set(
        "--shard-buffers-max",
        None,
        "N",
        "receive buffers of 16 KiB a shard lends out; default 4096",
        |o, v| {
            o.shard_limits.blocks_max = positive(&v)?;
            Some(())
        },
    ),
    set("--shard-tasks-max", None, "N", "tasks of a shard; default 262144", |o, v| {
        o.shard_limits.tasks_max = positive(&v)?;
        Some(())
    }),
    set("--access-log-queue-max", None, "N", "access-log records that may wait; default 4096", |o, v| {
        length(&mut o.queues.access_log, &v)
    }),
    set("--shard-commands-max", None, "N", "admin commands that may wait for a shard; default 64", |o, v| {
        length(&mut o.queues.commands, &v)
    }),
    set("--shard-events-max", None, "N", "news from shards that may wait; default 4096", |o, v| {
        length(&mut o.queues.events, &v)
    }),
    set(
        "--shard-reports-max",
        None,
        "N",
        "reports of failing endpoints that may wait; default 1024",
        |o, v| length(&mut o.queues.reports, &v),
    ),
    set("--config-updates-max", None, "N", "resource updates that may wait; default 1024", |o, v| {
        length(&mut o.queues.updates, &v)
    }),
    set("--export-batches-max", None, "N", "batches that may wait for a collector; default 256", |o, v| {
        length(&mut o.queues.export_batches, &v)
    }),
    set("--service-node", None, "ID", "replaces node.id", |o, v| {
        o.service_node = Some(v);
        Some(())
    }),
    set("--service-cluster", None, "NAME", "replaces node.cluster", |o, v| {
        o.service_cluster = Some(v);
        Some(())
    }),
    set("--service-zone", None, "ZONE", "replaces node.locality.zone", |o, v| {
        o.service_zone = Some(v);
        Some(())
    }),
    set("--log-level", Some("-l"), "LEVEL", "trace, debug, info, warning, error, critical or off", |o, v| {
        o.log_level = LogLevel::from_name(&v)?;
        Some(())
    }),
    set("--component-log-level", None, "NAME:LEVEL,…", "levels by component", |o, v| {
        o.component_log_level = Some(v);
        Some(())
    }),
    set("--log-path", None, "FILE", "log to a file instead of standard error", |o, v| {
        o.log_path = Some(v.into());
        Some(())
    }),
    set("--log-format", None, "FORMAT", "shown in /server_info; lines keep our format", |o, v| {
        o.log_format = Some(v);
        Some(())
    }),
    set("--drain-time-s", None, "SECONDS", "how long a drain may take; default 600", |o, v| {
        o.drain_time = Duration::from_secs(v.parse().ok()?);
        Some(())
    }),
    set("--drain-strategy", None, "STRATEGY", "gradual or immediate", |o, v| {
        o.drain_strategy = match v.as_str() {
            "gradual" => DrainStrategy::Gradual,
            "immediate" => DrainStrategy::Immediate,
            _ => return None,
        };
        Some(())
    }),
    set(
        "--parent-shutdown-time-s",
        None,
        "SECONDS",
        "shown in /server_info; there is no hot restart",
        |o, v| {
            o.parent_shutdown_time = Duration::from_secs(v.parse().ok()?);
            Some(())
        },
    ),
    set(
        "--file-flush-interval-msec",
        None,
        "MS",
        "how long access-log lines may wait; default 10000",
        |o, v| {
            o.file_flush_interval = Duration::from_millis(v.parse().ok()?);
            Some(())
        },
    ),
    set("--admin-address-path", None, "FILE", "where to write the admin address that was bound", |o, v| {
        o.admin_address_path = Some(v.into());
        Some(())
    }),
    set("--base-id", None, "N", "shown in /server_info; there is no hot restart", |o, v| {
        o.base_id = v.parse().ok()?;
        Some(())
    }),
    set("--restart-epoch", None, "N", "shown in /server_info; there is no hot restart", |o, v| {
        o.restart_epoch = v.parse().ok()?;
        Some(())
    }),
    Flag { long: "--help", short: Some("-h"), value: None, help: "this text", effect: Effect::Print(help) },
    Flag { long: "--version", short: None, value: None, help: "the version", effect: Effect::Print(version) },
    ignored("--disable-hot-restart", None),
    ignored("--use-dynamic-base-id", None),
    ignored("--base-id-path", Some("FILE")),
    ignored("--allow-unknown-static-fields", None),
    ignored("--reject-unknown-dynamic-fields", None),
    ignored("--ignore-unknown-dynamic-fields", None),
    ignored("--allow-unknown-fields", None),
    ignored("--skip-deprecated-logs", None),
    ignored("--cpuset-threads", None),
    ignored("--disable-extensions", Some("NAMES")),
    ignored("--enable-fine-grain-logging", None),
    ignored("--enable-mutex-tracing", None),
    ignored("--enable-core-dump", None),
    ignored("--file-flush-min-size-kb", Some("KB")),
    ignored("--local-address-ip-version", Some("VERSION")),
    ignored("--log-format-escaped", None),
    ignored("--log-stacktrace-single-entry", None),
    ignored("--skip-hot-restart-on-no-parent", None),
    ignored("--skip-hot-restart-parent-stats", None),
    ignored("--socket-mode", Some("MODE")),
    ignored("--socket-path", Some("PATH")),
    ignored("--stats-tag", Some("TAG:VALUE")),
    ignored("--bootstrap-version", Some("N")),
    ignored("--hot-restart-version", None),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Result<Command, String> {
        Options::parse(line.split_whitespace().map(str::to_string)).map_err(|error| error.0)
    }

    fn options(line: &str) -> Options {
        match run(line) {
            Ok(Command::Run(options)) => *options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_line_that_istio_starts_envoy_with_is_understood() {
        let options = options(
            "-c etc/istio/proxy/envoy-rev.json --drain-time-s 45 --drain-strategy immediate \
             --local-address-ip-version v4 --file-flush-interval-msec 1000 --disable-hot-restart \
             --allow-unknown-static-fields -l warning --component-log-level misc:error --concurrency 2 \
             --skip-deprecated-logs",
        );
        assert_eq!(options.config_path, Some("etc/istio/proxy/envoy-rev.json".into()));
        assert_eq!((options.drain_time.as_secs(), options.drain_strategy), (45, DrainStrategy::Immediate));
        assert_eq!((options.log_level, options.concurrency), (LogLevel::Warning, Some(2)));
        assert_eq!(options.component_log_level.as_deref(), Some("misc:error"));
        assert_eq!(
            options.without_effect,
            [
                "--local-address-ip-version",
                "--disable-hot-restart",
                "--allow-unknown-static-fields",
                "--skip-deprecated-logs"
            ]
        );
    }

    #[test]
    fn a_value_may_be_attached() {
        assert_eq!(options("--config-yaml={} --base-id=7").base_id, 7);
        assert_eq!(options("-c x --mode=validate").mode, Mode::Validate);
    }

    #[test]
    fn what_cannot_be_understood_is_an_error() {
        for (line, error) in [
            ("", "a configuration is needed: -c FILE or --config-yaml TEXT"),
            ("-c", "--config-path needs a value"),
            ("-c x --nonesuch", "unknown argument \"--nonesuch\""),
            ("x", "unknown argument \"x\""),
            ("-c x --concurrency many", "\"many\" is no value for --concurrency"),
            ("-c x --disable-hot-restart=1", "--disable-hot-restart takes no value"),
            ("-c x --shard-connections-max 0", "\"0\" is no value for --shard-connections-max"),
            ("-c x --engine kqueue", "\"kqueue\" is no value for --engine"),
        ] {
            assert_eq!(run(line), Err(error.to_string()), "{line}");
        }
    }

    #[test]
    fn limits_may_be_set_and_have_their_named_defaults() {
        let defaults = options("-c x");
        assert_eq!(defaults.shard_limits, ShardLimits::default());
        assert_eq!(defaults.queues, QueueLimits::default());
        let set = options(
            "-c x --shard-connections-max 7 --shard-buffers-max 8 --shard-tasks-max 9 --access-log-queue-max 10 \
             --shard-commands-max 11 --shard-events-max 12 --shard-reports-max 13 --config-updates-max 14 \
             --export-batches-max 15",
        );
        assert_eq!(set.shard_limits, ShardLimits { connections_max: 7, blocks_max: 8, tasks_max: 9 });
        let queues = QueueLimits {
            commands: 11,
            events: 12,
            reports: 13,
            access_log: 10,
            updates: 14,
            export_batches: 15,
        };
        assert_eq!(set.queues, queues);
        let Ok(Command::Print(help)) = run("--help") else { panic!("prints") };
        let (shard, queues) = (ShardLimits::default(), QueueLimits::default());
        for (flag, default) in [
            ("--shard-connections-max", shard.connections_max as usize),
            ("--shard-buffers-max", shard.blocks_max as usize),
            ("--shard-tasks-max", shard.tasks_max as usize),
            ("--access-log-queue-max", queues.access_log),
            ("--shard-commands-max", queues.commands),
            ("--shard-events-max", queues.events),
            ("--shard-reports-max", queues.reports),
            ("--config-updates-max", queues.updates),
            ("--export-batches-max", queues.export_batches),
        ] {
            let line = help.lines().find(|line| line.contains(flag)).expect(flag);
            assert!(line.ends_with(&format!("default {default}")), "{line}");
        }
    }

    #[test]
    fn help_names_every_flag() {
        let Ok(Command::Print(text)) = run("--help") else { panic!("prints") };
        for flag in FLAGS {
            assert!(text.contains(flag.long), "{}", flag.long);
        }
    }
}
