//! Where MeshConfig is written, and what its text fields hold.

use std::borrow::Borrow;
use std::sync::Arc;

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};

use crate::diagnostic::{Diagnostic, Origin};
use crate::kind::Spec;
use crate::object::{Object, ObjectKey, ObjectMeta};
use crate::{Kind as ObjectKind, MeshConfig, ProxyConfig, core, decode_mesh_config};

/// Name of the ConfigMap and of its key. Source: Istio's charts.
const CONFIG_MAP: &str = "istio";
const KEY: &str = "mesh";
/// The namespace whose ConfigMap wins when several have the name.
const ROOT_NAMESPACE: &str = "istio-system";
/// Name, without its ending, of a file that is nothing but a MeshConfig.
const PLAIN_FILE: &str = "meshconfig";

/// Finds the mesh's ConfigMap among objects.
pub fn find_mesh_config<'a, T: Borrow<Object> + 'a>(
    objects: impl Iterator<Item = &'a T>,
) -> Option<&'a Object> {
    objects
        .map(T::borrow)
        .filter(|object| object.kind == ObjectKind::ConfigMap && object.meta.name == CONFIG_MAP)
        .min_by_key(|object| (object.meta.namespace != ROOT_NAMESPACE, object.key()))
}

/// Reads the mesh configuration of a ConfigMap; without the key it is the default.
///
/// # Errors
/// What is wrong with it; places are those inside the key's text.
pub fn read_mesh_config(object: &Object) -> Result<MeshConfig, Vec<Diagnostic>> {
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

/// A file `meshconfig.yaml` holds a MeshConfig by itself and stands for the ConfigMap.
pub(crate) fn of_plain_file(text: &str, file: &str) -> Option<Object> {
    let name = file.rsplit(['/', '\\']).next()?;
    let (stem, ending) = name.rsplit_once('.')?;
    let is_plain = stem == PLAIN_FILE && ["yaml", "yml", "json"].contains(&ending);
    let data = [(KEY.to_owned(), text.to_owned())].into();
    is_plain.then(|| Object {
        api_version: "v1".to_owned(),
        kind: ObjectKind::ConfigMap,
        meta: ObjectMeta {
            name: CONFIG_MAP.to_owned(),
            namespace: ROOT_NAMESPACE.to_owned(),
            ..ObjectMeta::default()
        },
        spec: Spec::ConfigMap(Box::new(core::ConfigMap { data, ..core::ConfigMap::default() })),
        origin: Origin { file: Arc::from(file), line: 1, column: 1 },
    })
}

impl ProxyConfig {
    /// The settings as node metadata carry them.
    pub fn to_json(&self) -> serde_json::Value {
        crate::decode::to_json("istio.mesh.v1alpha1.ProxyConfig", self)
    }
}

impl MeshConfig {
    /// The fields of the access log, when `accessLogFormat` is a JSON object.
    pub fn access_log_json(&self) -> Option<Struct> {
        match serde_json::from_str(&self.access_log_format).ok()? {
            serde_json::Value::Object(fields) => Some(object(fields)),
            _ => None,
        }
    }
}

fn object(fields: serde_json::Map<String, serde_json::Value>) -> Struct {
    Struct { fields: fields.into_iter().map(|(key, field)| (key, value(field))).collect() }
}

fn value(json: serde_json::Value) -> Value {
    use serde_json::Value as Json;
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(value),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(values) => Kind::ListValue(ListValue { values: values.into_iter().map(value).collect() }),
        Json::Object(fields) => Kind::StructValue(object(fields)),
    };
    Value { kind: Some(kind) }
}
