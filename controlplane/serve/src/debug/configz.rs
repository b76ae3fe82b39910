//! `/debug/configz`: the accepted objects.

use serde_json::{Value, json};

use crate::plane::Published;

/// One entry per object, with where it was written.
pub(super) fn page(published: Option<&Published>) -> Value {
    let objects = published.map(|published| published.objects.as_slice()).unwrap_or_default();
    let entries = objects.iter().map(|object| {
        let mut entry = object.to_json();
        if let Value::Object(fields) = &mut entry {
            fields.insert("origin".to_owned(), json!(object.origin.to_string()));
        }
        entry
    });
    entries.collect()
}
