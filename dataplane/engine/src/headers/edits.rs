//! Applies configured header operations.

use ringsail_http::{EditError, RequestHead, ResponseHead};
use ringsail_tables::StringMatch;
use ringsail_tables::header_ops::{HeaderAdd, HeaderAppend, HeaderMutation, HeaderOps};
use ringsail_tables::template::Values;

/// A head whose fields can be edited by name, the authority included.
pub trait EditableHead {
    /// Whether a field is there.
    fn contains(&self, name: &str) -> bool;
    /// Removes all fields of a name.
    fn remove(&mut self, name: &str);
    /// Removes all fields whose name, in lower case, matches.
    fn remove_matching(&mut self, names: &StringMatch);
    /// Adds a field at the end; replaces what a head has once (authority, path).
    fn append(&mut self, name: &str, value: &[u8]) -> Result<(), EditError>;
}

impl EditableHead for RequestHead {
    fn contains(&self, name: &str) -> bool {
        self.fields().contains(name)
    }
    fn remove(&mut self, name: &str) {
        // A request without Host would not be one.
        if !is_authority(name) {
            self.fields_mut().remove(name);
        }
    }
    fn remove_matching(&mut self, names: &StringMatch) {
        self.fields_mut().retain(|name, _| {
            name.eq_ignore_ascii_case(b"host") || !names.matches(&name.to_ascii_lowercase())
        });
    }
    fn append(&mut self, name: &str, value: &[u8]) -> Result<(), EditError> {
        match name {
            _ if is_authority(name) => self.set_authority(value),
            ":path" => self.set_path(value),
            _ => self.fields_mut().append(name, value),
        }
    }
}

impl EditableHead for ResponseHead {
    fn contains(&self, name: &str) -> bool {
        self.fields().contains(name)
    }
    fn remove(&mut self, name: &str) {
        self.fields_mut().remove(name);
    }
    fn remove_matching(&mut self, names: &StringMatch) {
        self.fields_mut().retain(|name, _| !names.matches(&name.to_ascii_lowercase()));
    }
    fn append(&mut self, name: &str, value: &[u8]) -> Result<(), EditError> {
        self.fields_mut().append(name, value)
    }
}

fn is_authority(name: &str) -> bool {
    name == "host" || name == ":authority"
}

/// Applies operations one after the other. `with_values` lends the values of a head to a template.
pub fn mutate<H: EditableHead>(
    mutations: &[HeaderMutation],
    head: &mut H,
    with_values: impl Fn(&H, &mut dyn FnMut(&dyn Values)),
) -> Result<(), EditError> {
    for mutation in mutations {
        match mutation {
            HeaderMutation::Remove(name) => head.remove(name),
            HeaderMutation::RemoveMatching(names) => head.remove_matching(names),
            HeaderMutation::Add(add) => add_one(add, head, &with_values)?,
        }
    }
    Ok(())
}

fn add_one<H: EditableHead>(
    add: &HeaderAdd,
    head: &mut H,
    with_values: &impl Fn(&H, &mut dyn FnMut(&dyn Values)),
) -> Result<(), EditError> {
    let exists = head.contains(&add.name);
    let (wanted, replaces) = match add.action {
        HeaderAppend::AppendIfExistsOrAdd => (true, false),
        HeaderAppend::AddIfAbsent => (!exists, false),
        HeaderAppend::OverwriteIfExistsOrAdd => (true, true),
        HeaderAppend::OverwriteIfExists => (exists, true),
    };
    let mut value = Vec::new();
    with_values(head, &mut |values| add.value.render(values, &mut value));
    if !wanted || (value.is_empty() && !add.keep_empty) {
        return Ok(());
    }
    if replaces {
        head.remove(&add.name);
    }
    head.append(&add.name, &value)
}

/// Applies one level of operations. `with_values` lends the values of a head to a template.
///
/// Removals come first; then every addition is decided and rendered against the head as it is, then overwrites are
/// made, then appends. Source: Envoy's `HeaderParser::evaluateHeaders`.
pub fn apply<H: EditableHead>(
    ops: &HeaderOps,
    head: &mut H,
    with_values: impl Fn(&H, &mut dyn FnMut(&dyn Values)),
) -> Result<(), EditError> {
    for name in &ops.remove {
        head.remove(name);
    }
    if ops.add.is_empty() {
        return Ok(());
    }
    let mut rendered: Vec<(&HeaderAdd, Vec<u8>)> = Vec::with_capacity(ops.add.len());
    with_values(head, &mut |values| {
        for add in &ops.add {
            let wanted = match add.action {
                HeaderAppend::AppendIfExistsOrAdd | HeaderAppend::OverwriteIfExistsOrAdd => true,
                HeaderAppend::AddIfAbsent => !head.contains(&add.name),
                HeaderAppend::OverwriteIfExists => head.contains(&add.name),
            };
            let mut value = Vec::new();
            add.value.render(values, &mut value);
            if wanted && (add.keep_empty || !value.is_empty()) {
                rendered.push((add, value));
            }
        }
    });
    let overwrites = |add: &HeaderAdd| {
        matches!(add.action, HeaderAppend::OverwriteIfExistsOrAdd | HeaderAppend::OverwriteIfExists)
    };
    for (add, value) in rendered.iter().filter(|(add, _)| overwrites(add)) {
        // Compat: an overwritten field moves to the end, as Envoy's maps have it.
        head.remove(&add.name);
        head.append(&add.name, value)?;
    }
    for (add, value) in rendered.iter().filter(|(add, _)| !overwrites(add)) {
        head.append(&add.name, value)?;
    }
    Ok(())
}
