//! Changes from sources to published snapshots.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use ringsail_api::{Diagnostic, Severity, find_mesh_config, read_mesh_config};
use ringsail_model::{Change, MeshBuilder, MeshSettings, analyze};
use tokio::sync::mpsc;

use crate::debounce::Debounce;
use crate::plane::Plane;

/// What a source reports.
#[derive(Debug, Clone)]
pub struct Update {
    /// Changes to objects since its update before.
    pub changes: Vec<Change>,
    /// Everything that is wrong there as of this update.
    pub diagnostics: Arc<[Diagnostic]>,
}

/// Collects updates, and publishes a snapshot when a burst is over.
#[derive(Debug)]
pub struct Updater {
    plane: Arc<Plane>,
    debounce: Debounce,
    builder: MeshBuilder,
    cluster_domain: String,
    pending: Vec<Change>,
    from_source: Arc<[Diagnostic]>,
    /// Wrong with the mesh configuration.
    from_settings: Vec<Diagnostic>,
    reported: Vec<Diagnostic>,
}

impl Updater {
    /// An updater with no objects yet. `cluster_domain` is the DNS suffix of services.
    pub fn new(plane: Arc<Plane>, debounce: Debounce, cluster_domain: &str) -> Self {
        let settings = MeshSettings::new(ringsail_api::MeshConfig::default(), cluster_domain);
        Self {
            plane,
            debounce,
            builder: MeshBuilder::new(settings),
            cluster_domain: cluster_domain.to_owned(),
            pending: Vec::new(),
            from_source: Arc::from([]),
            from_settings: Vec::new(),
            reported: Vec::new(),
        }
    }

    /// Applies updates until their sender is gone. The first one is published at once.
    pub async fn run(mut self, mut updates: mpsc::Receiver<Update>) {
        loop {
            let due = self.debounce.due();
            let update = tokio::select! {
                update = updates.recv() => update,
                () = sleep_until(due) => {
                    self.publish();
                    continue;
                }
            };
            let Some(Update { changes, diagnostics }) = update else { return };
            self.plane.metrics.updates.add("config", changes.len() as u64);
            self.pending.extend(changes);
            self.from_source = diagnostics;
            self.debounce.changed(Instant::now());
            if !self.plane.is_ready() {
                self.publish();
            }
        }
    }

    fn publish(&mut self) {
        let changed_at = self.debounce.take().unwrap_or_else(Instant::now);
        let started = Instant::now();
        let changes = newest_of_each(std::mem::take(&mut self.pending));
        let change_count = changes.len();
        self.builder.apply(changes);
        self.apply_settings();
        let mut diagnostics: Vec<Diagnostic> = self.from_source.to_vec();
        diagnostics.extend(self.from_settings.iter().cloned());
        let analyzed = analyze(&self.builder);
        self.log(&analyzed);
        diagnostics.extend(analyzed);
        let mesh = Arc::clone(self.builder.mesh());
        tracing::info!(
            changes = change_count,
            version = mesh.version,
            waited_ms = (started - changed_at).as_millis() as u64,
            took_ms = started.elapsed().as_millis() as u64,
            "snapshot published"
        );
        self.plane.metrics.debounced(started - changed_at);
        let objects = self.builder.objects().cloned().collect();
        self.plane.publish(mesh, changed_at, objects, Arc::from(diagnostics));
    }

    /// Reads the mesh configuration again; a wrong one keeps the settings as they are.
    fn apply_settings(&mut self) {
        let config = find_mesh_config(self.builder.objects()).map(read_mesh_config);
        match config.unwrap_or_else(|| Ok(ringsail_api::MeshConfig::default())) {
            Ok(config) => {
                self.from_settings.clear();
                self.builder.set_settings(MeshSettings::new(config, &self.cluster_domain));
            }
            Err(found) => {
                if found != self.from_settings {
                    for line in &found {
                        tracing::error!("{line}");
                    }
                }
                self.from_settings = found;
            }
        }
    }

    /// Logs what the analysis found for the first time.
    fn log(&mut self, analyzed: &[Diagnostic]) {
        for line in analyzed.iter().filter(|line| !self.reported.contains(line)) {
            match line.severity {
                Severity::Error | Severity::Warning => tracing::warn!("{line}"),
                Severity::Note => tracing::debug!("{line}"),
            }
        }
        self.reported = analyzed.to_vec();
    }
}

/// Of several changes to one object in a burst only the last one matters.
fn newest_of_each(changes: Vec<Change>) -> Vec<Change> {
    let mut by_key = BTreeMap::new();
    for change in changes {
        let key = match &change {
            Change::Put(object) => object.key(),
            Change::Delete(key) => key.clone(),
        };
        by_key.insert(key, change);
    }
    by_key.into_values().collect()
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
