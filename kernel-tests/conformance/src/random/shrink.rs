//! Making a difference small: parts are taken away for as long as it stays.

use serde_json::Value;

use super::setting::Setting;
use super::traffic::Conversation;
use super::{Outcome, Pair};

/// Tries for one difference; each starts both proxies.
const TRIES_MAX: usize = 80;

/// The smallest setting and conversation found that still differ, and how they do; `None` when the conversation alone
/// does not differ.
pub(super) fn smallest(
    pair: &Pair<'_>,
    setting: &Setting,
    conversation: &Conversation,
) -> Option<(Setting, Conversation, String)> {
    let differs = |setting: &Setting, conversation: &Conversation| {
        match pair.compare(setting, std::slice::from_ref(conversation), false) {
            Ok(Outcome::Compared { mut found, .. }) => found.pop().map(|(_, how)| how),
            // What Envoy refuses is no setting, and what ringsail refuses is another difference.
            Ok(Outcome::Refused(_)) | Err(_) => None,
        }
    };
    let mut how = differs(setting, conversation)?;
    let mut best = (setting.clone(), conversation.clone());
    let mut tries = 0;
    let mut keep = |best: &mut (Setting, Conversation), candidate: (Setting, Conversation)| {
        tries += 1;
        if tries > TRIES_MAX {
            return false;
        }
        match differs(&candidate.0, &candidate.1) {
            Some(text) => {
                how = text;
                *best = candidate;
                true
            }
            None => false,
        }
    };
    let mut index = 0;
    while best.1.asks.len() > 1 && index < best.1.asks.len() {
        let mut candidate = best.clone();
        candidate.1.asks.remove(index);
        if !keep(&mut best, candidate) {
            index += 1;
        }
    }
    for part in [routes as fn(&mut Setting) -> &mut Value, manager] {
        let mut index = 0;
        loop {
            let mut candidate = best.clone();
            if !remove(part(&mut candidate.0), &mut index.clone()) {
                break;
            }
            if !keep(&mut best, candidate) {
                index += 1;
            }
        }
    }
    for ask in 0..best.1.asks.len() {
        let mut field = 0;
        while field < best.1.asks[ask].fields.len() {
            let mut candidate = best.clone();
            candidate.1.asks[ask].fields.remove(field);
            if !keep(&mut best, candidate) {
                field += 1;
            }
        }
        let mut candidate = best.clone();
        if candidate.1.asks[ask].body.take().is_some() {
            keep(&mut best, candidate);
        }
        let mut candidate = best.clone();
        if let Some((path, _)) = best.1.asks[ask].target.split_once('?') {
            candidate.1.asks[ask].target = path.to_string();
            keep(&mut best, candidate);
        }
    }
    Some((best.0, best.1, how))
}

/// The smallest setting found that Envoy takes and ringsail does not, with what ringsail says.
pub(super) fn refused(pair: &Pair<'_>, setting: &Setting, text: &str) -> String {
    let mut best = (setting.clone(), text.to_string());
    let mut tries = 0;
    for part in [routes as fn(&mut Setting) -> &mut Value, manager] {
        let mut index = 0;
        loop {
            let mut candidate = best.0.clone();
            tries += 1;
            if tries > TRIES_MAX || !remove(part(&mut candidate), &mut index.clone()) {
                break;
            }
            match pair.compare(&candidate, &[], false) {
                Ok(Outcome::Refused(text)) => best = (candidate, text),
                Ok(Outcome::Compared { .. }) | Err(_) => index += 1,
            }
        }
    }
    format!("refused: {}\nmanager {}\nroutes {}", best.1, best.0.manager, best.0.routes)
}

fn routes(setting: &mut Setting) -> &mut Value {
    &mut setting.routes
}

fn manager(setting: &mut Setting) -> &mut Value {
    &mut setting.manager
}

/// Removes the part that comes `index`-th when parts are listed before what they contain; `false` when there are fewer.
fn remove(value: &mut Value, index: &mut usize) -> bool {
    match value {
        Value::Array(items) => {
            for at in 0..items.len() {
                if *index == 0 {
                    items.remove(at);
                    return true;
                }
                *index -= 1;
                if remove(&mut items[at], index) {
                    return true;
                }
            }
        }
        Value::Object(fields) => {
            let names: Vec<String> = fields.keys().cloned().collect();
            for name in names {
                if *index == 0 {
                    fields.remove(&name);
                    return true;
                }
                *index -= 1;
                if fields.get_mut(&name).is_some_and(|part| remove(part, index)) {
                    return true;
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    false
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_part_is_removed_once_and_wholes_before_parts() {
        let whole = json!({"a": [1, {"b": 2}], "c": 3});
        let without = |index: usize| {
            let mut value = whole.clone();
            remove(&mut value, &mut index.clone()).then_some(value)
        };
        assert_eq!(without(0), Some(json!({"c": 3})));
        assert_eq!(without(1), Some(json!({"a": [{"b": 2}], "c": 3})));
        assert_eq!(without(2), Some(json!({"a": [1], "c": 3})));
        assert_eq!(without(3), Some(json!({"a": [1, {}], "c": 3})));
        assert_eq!(without(4), Some(json!({"a": [1, {"b": 2}]})));
        assert_eq!(without(5), None);
    }
}
