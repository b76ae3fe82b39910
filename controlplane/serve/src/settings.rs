//! Mesh-wide settings from the ConfigMap `istio`.

use std::sync::Arc;

use ringsail_api::{Diagnostic, Kind, MeshConfig, Object, ObjectKey, Spec, decode_mesh_config};

/// Name of the ConfigMap and of its key. Source: Istio's charts.
const CONFIG_MAP: &str = "istio";
const KEY: &str = "mesh";

/// The namespace whose ConfigMap wins when several have the name.
const ROOT_NAMESPACE: &str = "istio-system";

/// Finds the mesh's ConfigMap among objects.
pub(crate) fn find<'a>(objects: impl Iterator<Item = &'a Arc<Object>>) -> Option<&'a Arc<Object>> {
    objects
        .filter(|object| object.kind == Kind::ConfigMap && object.meta.name == CONFIG_MAP)
        .min_by_key(|object| (object.meta.namespace != ROOT_NAMESPACE, object.key()))
}

/// Reads the mesh configuration of a ConfigMap; without the key it is the default.
///
/// # Errors
/// What is wrong with it; places are those inside the key's text.
pub(crate) fn read(object: &Object) -> Result<MeshConfig, Vec<Diagnostic>> {
    let text = match &object.spec {
        Spec::ConfigMap(map) => map.data.get(KEY),
        _ => None,
    };
    let Some(text) = text else { return Ok(MeshConfig::default()) };
    decode_mesh_config(text, &object.origin.file)
        .map_err(|found| found.into_iter().map(|line| inside(line, object.key(), object)).collect())
}

/// Says that a finding is about the text of a key: its line counts from the key's first line.
fn inside(line: Diagnostic, key: ObjectKey, object: &Object) -> Diagnostic {
    let place = format!("data.{KEY} line {}", line.origin.line);
    let field_path = match line.field_path.is_empty() {
        true => place,
        false => format!("{place}: {}", line.field_path),
    };
    let message = format!("{} (the last good mesh configuration keeps serving)", line.message);
    Diagnostic { origin: object.origin.clone(), object: Some(key), field_path, message, ..line }
}
