//! Who this proxy works for.

use ringsail_tables::Str;
use ringsail_tables::istio::Workload;
use ringsail_tables::metadata::Value;

/// What a proxy was told about itself when it started.
#[derive(Clone, Debug)]
pub struct Local {
    /// Its workload.
    pub workload: Workload,
    /// The node's id.
    pub node_id: String,
    /// The node's cluster.
    pub node_cluster: String,
    /// Version in `istio_build`.
    pub version: String,
    /// The node's metadata, for expressions.
    pub metadata: Value,
}

impl Default for Local {
    fn default() -> Local {
        Local {
            workload: Workload::default(),
            node_id: String::new(),
            node_cluster: String::new(),
            version: String::new(),
            metadata: Value::object([]),
        }
    }
}

impl Local {
    /// The metadata's value at a path.
    pub(super) fn metadata_at(&self, path: &[Str]) -> Option<&Value> {
        path.iter().try_fold(&self.metadata, |value, key| value.field(key))
    }
}
