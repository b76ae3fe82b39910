//! The process's own log, and its levels at run time.

use std::fs::OpenOptions;
use std::sync::{Arc, Mutex, PoisonError};

use ringsail_agent::options::{LogLevel, Options};
use tracing_subscriber::prelude::*;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// Components whose level can be set apart, with the targets they log under.
const COMPONENTS: [(&str, &str); 5] = [
    ("agent", "ringsail_agent"),
    ("engine", "ringsail_engine"),
    ("main", "ringsail_proxy"),
    ("runtime", "ringsail_runtime"),
    ("tables", "ringsail_tables"),
];

/// The levels, changeable by `/logging`.
pub struct Levels {
    handle: reload::Handle<EnvFilter, Registry>,
    levels: Mutex<Vec<(String, LogLevel)>>,
}

/// Starts logging to standard error or `--log-path`.
///
/// # Errors
/// The log file cannot be opened.
pub fn start(options: &Options) -> std::io::Result<Levels> {
    let mut levels: Vec<(String, LogLevel)> =
        COMPONENTS.iter().map(|(name, _)| ((*name).to_owned(), options.log_level)).collect();
    for pair in options.component_log_level.iter().flat_map(|list| list.split(',')) {
        let Some((name, level)) = pair.split_once(':') else { continue };
        if let (Some(known), Some(level)) =
            (levels.iter_mut().find(|(known, _)| known == name.trim()), LogLevel::from_name(level.trim()))
        {
            known.1 = level;
        }
    }
    let (filter, handle) = reload::Layer::new(filter(&levels));
    let registry = tracing_subscriber::registry().with(filter);
    match &options.log_path {
        Some(path) => {
            let file = OpenOptions::new().append(true).create(true).open(path)?;
            registry.with(fmt::layer().with_ansi(false).with_writer(Arc::new(file))).init();
        }
        None => registry.with(fmt::layer().with_ansi(false).with_writer(std::io::stderr)).init(),
    }
    Ok(Levels { handle, levels: Mutex::new(levels) })
}

fn filter(levels: &[(String, LogLevel)]) -> EnvFilter {
    let targets = levels.iter().filter_map(|(name, level)| {
        let (_, target) = COMPONENTS.iter().find(|(known, _)| known == name)?;
        Some(format!("{target}={}", level.directive()))
    });
    EnvFilter::new(targets.collect::<Vec<_>>().join(","))
}

impl Levels {
    /// Levels by component, sorted by name.
    pub fn all(&self) -> Vec<(String, LogLevel)> {
        self.levels.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets the level of one component, or of all. False if there is no such component.
    pub fn set(&self, component: Option<&str>, level: LogLevel) -> bool {
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = false;
        for (name, current) in levels.iter_mut() {
            if component.is_none_or(|wanted| wanted == name) {
                *current = level;
                found = true;
            }
        }
        found && self.handle.reload(filter(&levels)).is_ok()
    }
}
