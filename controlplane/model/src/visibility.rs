//! `exportTo`: which namespaces may see an object.

use std::collections::BTreeSet;

/// Namespaces that may see an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Visibility {
    /// Every namespace (`*`, and the default).
    Public,
    /// Only these namespaces; `.` has been replaced by the object's own. Empty means nobody (`~`).
    Namespaces(BTreeSet<String>),
}

impl Visibility {
    /// Reads an `exportTo` list of an object that lives in `namespace`; an empty list takes the mesh default.
    ///
    /// Compat: one `*` makes the object public whatever else is listed; `~` adds nobody.
    pub fn parse<S: AsRef<str>>(export_to: &[S], namespace: &str, default: &Visibility) -> Visibility {
        if export_to.is_empty() {
            return match default {
                // The mesh default may be `.`, which means the object's own namespace.
                Visibility::Namespaces(names) if names.contains(".") => {
                    Visibility::Namespaces([namespace.to_owned()].into())
                }
                other => other.clone(),
            };
        }
        let mut namespaces = BTreeSet::new();
        for entry in export_to {
            match entry.as_ref() {
                "*" => return Visibility::Public,
                "." => {
                    namespaces.insert(namespace.to_owned());
                }
                "~" => {}
                other => {
                    namespaces.insert(other.to_owned());
                }
            }
        }
        Visibility::Namespaces(namespaces)
    }

    /// Reads a mesh-wide default list; `.` stays a placeholder that [`Visibility::parse`] replaces.
    pub fn parse_default<S: AsRef<str>>(export_to: &[S]) -> Visibility {
        if export_to.is_empty() {
            Visibility::Public
        } else {
            Self::parse(export_to, ".", &Visibility::Public)
        }
    }

    /// Whether objects of this visibility may be used from `namespace`.
    pub fn includes(&self, namespace: &str) -> bool {
        match self {
            Visibility::Public => true,
            Visibility::Namespaces(names) => names.contains(namespace),
        }
    }

    /// Whether only the object's own namespace may use it.
    pub fn is_private_to(&self, namespace: &str) -> bool {
        matches!(self, Visibility::Namespaces(names) if names.len() == 1 && names.contains(namespace))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_list_takes_the_mesh_default() {
        let public = Visibility::Public;
        assert_eq!(Visibility::parse::<&str>(&[], "shop", &public), Visibility::Public);
        let private = Visibility::parse_default(&["."]);
        assert!(Visibility::parse::<&str>(&[], "shop", &private).is_private_to("shop"));
    }

    #[test]
    fn star_makes_public_and_tilde_hides() {
        let default = Visibility::Public;
        assert_eq!(Visibility::parse(&["a", "*"], "shop", &default), Visibility::Public);
        let nobody = Visibility::parse(&["~"], "shop", &default);
        assert!(!nobody.includes("shop"));
        let listed = Visibility::parse(&[".", "b"], "shop", &default);
        assert!(listed.includes("shop") && listed.includes("b") && !listed.includes("c"));
    }
}
