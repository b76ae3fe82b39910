//! Operations on ordered lists: filters and routes.

use ringsail_api::networking::envoy_filter::patch::Operation;

/// Adds, inserts, replaces or removes by position. `wanted` finds the element that a patch names; without it an
/// insertion is at an end, and a replacement or removal is none.
///
/// Compat: `INSERT_FIRST` into filters does not look for the element.
pub(super) fn place<T: Clone>(
    list: &mut Vec<T>,
    operation: Operation,
    value: Option<&T>,
    wanted: Option<&dyn Fn(&T) -> bool>,
) {
    let found = || wanted.and_then(|wanted| list.iter().position(wanted));
    match (operation, value.cloned()) {
        (Operation::Add, Some(value)) => list.push(value),
        (Operation::InsertFirst, Some(value)) => list.insert(0, value),
        (Operation::InsertAfter, Some(value)) => match (wanted.is_some(), found()) {
            (false, _) => list.push(value),
            (true, Some(position)) => list.insert(position + 1, value),
            (true, None) => {}
        },
        (Operation::InsertBefore, Some(value)) => match (wanted.is_some(), found()) {
            (false, _) => list.insert(0, value),
            (true, Some(position)) => list.insert(position, value),
            (true, None) => {}
        },
        (Operation::Replace, Some(value)) => {
            if let Some(position) = found() {
                list[position] = value;
            }
        }
        (Operation::Remove, _) => {
            if let Some(wanted) = wanted {
                list.retain(|element| !wanted(element));
            }
        }
        _ => {}
    }
}
