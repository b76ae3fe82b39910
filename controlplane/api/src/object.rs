//! One accepted object and its identity.

use std::fmt;

pub use crate::k8s::io::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::diagnostic::Origin;
use crate::kind::{Kind, Shape, Spec};

/// Annotation of an object that a local mesh writes to take the place of the one its user wrote: that there are two is
/// meant.
pub const STANDS_IN: &str = "local.ringsail.io/stands-in";

/// What tells one object from another: API versions of one kind share it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty for cluster-scoped kinds.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// One object that was decoded and validated.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// The `apiVersion` it was written in.
    pub api_version: String,
    /// Its kind; always that of `spec`.
    pub kind: Kind,
    /// Identity, labels and age. `namespace` is filled in for namespaced kinds.
    pub meta: ObjectMeta,
    /// Its content.
    pub spec: Spec,
    /// Where its document starts.
    pub origin: Origin,
}

impl Object {
    /// What tells this object from others.
    pub fn key(&self) -> ObjectKey {
        ObjectKey { kind: self.kind, namespace: self.meta.namespace.clone(), name: self.meta.name.clone() }
    }

    /// Creation time in seconds since 1970; 0 when the object carries none (files usually do not).
    pub fn created_unix_seconds(&self) -> i64 {
        self.meta.creation_timestamp.as_ref().map_or(0, |at| at.seconds)
    }
}

impl Object {
    /// The object as a Kubernetes API server would show it, in proto3 JSON: unset fields are left out.
    pub fn to_json(&self) -> serde_json::Value {
        let mut content = self.spec.to_json();
        let mut metadata = crate::decode::to_json(META_MESSAGE, &self.meta);
        // The message's JSON has Kubernetes' own names, but 64-bit numbers as strings.
        if let Some(generation) = metadata.get_mut("generation") {
            *generation = self.meta.generation.into();
        }
        let mut document = serde_json::Map::new();
        document.insert("apiVersion".to_owned(), self.api_version.clone().into());
        document.insert("kind".to_owned(), self.kind.name().into());
        document.insert("metadata".to_owned(), metadata);
        match (self.kind.shape(), &mut content) {
            (Shape::Whole, serde_json::Value::Object(fields)) => document.append(fields),
            _ => {
                document.insert("spec".to_owned(), content);
            }
        }
        document.into()
    }
}

/// Name of the metadata's message.
pub(crate) const META_MESSAGE: &str = "k8s.io.apimachinery.pkg.apis.meta.v1.ObjectMeta";

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}
