//! `$(NAME)` in commands, arguments and environment values, as Kubernetes expands it.

/// Replaces `$(NAME)` by the variable's value. An unknown name stays as it is written, and `$$` is a dollar sign.
///
/// Source: Kubernetes API, `Container.command` and `EnvVar.value`.
pub fn expand(text: &str, environment: &[(String, String)]) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        expanded.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        if let Some(escaped) = after.strip_prefix('$') {
            expanded.push('$');
            rest = escaped;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            // The last definition of a name is the one in force.
            match environment.iter().rev().find(|(known, _)| known == name) {
                Some((_, value)) => expanded.push_str(value),
                None => expanded.extend(["$(", name, ")"]),
            }
            rest = tail;
        } else {
            expanded.push('$');
            rest = after;
        }
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_replaced_as_kubernetes_does() {
        let environment = [("IP".to_owned(), "10.0.0.1".to_owned()), ("E".to_owned(), String::new())];
        for (text, wanted) in [
            ("$(IP):80", "10.0.0.1:80"),
            ("a$(E)b", "ab"),
            ("$(UNKNOWN)", "$(UNKNOWN)"),
            ("$$(IP)", "$(IP)"),
            ("$$$(IP)", "$10.0.0.1"),
            ("$IP", "$IP"),
            ("$(IP", "$(IP"),
            ("$", "$"),
        ] {
            assert_eq!(expand(text, &environment), wanted, "{text}");
        }
    }
}
