//! Access control of requests: every condition that plaintext can satisfy, both ways.

use serde_json::{Value, json};

use crate::scenario::Scenario;
use crate::suite::{Suite, filter, filter_config};

/// A scenario whose route has these rules, and a request that shows whether they hold.
fn rules(
    id: &'static str,
    rules: Value,
    method: &'static str,
    target: &'static str,
    fields: &'static str,
) -> Scenario {
    let filter = filter_config("rbac.v3.RBACPerRoute", json!({"rbac": {"rules": rules}}));
    Scenario::new(id)
        .entry(json!({"typed_per_filter_config": {"envoy.filters.http.rbac": filter}}))
        .does(move |run| run.raw(run.request_of(method, &format!("/{}{target}", run.id), fields)))
}

fn policy(permission: Value, principal: Value) -> Value {
    json!({"permissions": [permission], "principals": [principal]})
}

fn one(action: &str, permission: Value, principal: Value) -> Value {
    json!({"action": action, "policies": {"ns[foo]-policy[one two]-rule[0]": policy(permission, principal)}})
}

/// The permission as an ALLOW, asked with a request that has it and one that has not.
fn permission(
    ids: [&'static str; 2],
    permission: Value,
    [with, without]: [(&'static str, &'static str, &'static str); 2],
) -> [Scenario; 2] {
    let asked = |id, (method, target, fields)| {
        rules(id, one("ALLOW", permission.clone(), json!({"any": true})), method, target, fields)
    };
    [asked(ids[0], with), asked(ids[1], without)]
}

/// The same for a principal.
fn principal(id: &'static str, principal: Value) -> Scenario {
    rules(id, one("ALLOW", json!({"any": true}), principal), "GET", "", "")
}

/// The suite.
pub fn suite() -> Suite {
    let any = || json!({"any": true});
    let header = |test: Value| {
        let mut header = json!({"name": "x-role"});
        header
            .as_object_mut()
            .into_iter()
            .for_each(|header| header.extend(test.as_object().cloned().unwrap_or_default()));
        json!({"header": header})
    };
    let path = |test: Value| json!({"url_path": {"path": test}});
    let range = |prefix: &str, len: u32| json!({"address_prefix": prefix, "prefix_len": len});
    let template = |text: &str| {
        json!({"uri_template": {"name": "t", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
            "path_template": text}}})
    };
    let mut scenarios = vec![
        // Actions.
        rules("access-allow", one("ALLOW", any(), any()), "GET", "", ""),
        rules("access-allow-nothing", json!({"action": "ALLOW"}), "GET", "", ""),
        rules("access-deny", one("DENY", any(), any()), "GET", "", ""),
        rules("access-deny-nothing", json!({"action": "DENY"}), "GET", "", ""),
        rules("access-log", one("LOG", any(), any()), "GET", "", ""),
        rules(
            "access-deny-grpc",
            one("DENY", any(), any()),
            "POST",
            "",
            "content-type: application/grpc\r\n",
        ),
        rules("access-deny-head", one("DENY", any(), any()), "HEAD", "", ""),
        rules(
            "access-first-by-name",
            json!({"action": "DENY", "policies": {"b": policy(any(), any()), "a": policy(any(), any())}}),
            "GET",
            "",
            "",
        ),
        // Structure.
        rules(
            "access-and",
            one(
                "ALLOW",
                json!({"and_rules": {"rules": [any(), header(json!({"string_match": {"exact": "a"}}))]}}),
                any(),
            ),
            "GET",
            "",
            "x-role: b\r\n",
        ),
        rules(
            "access-or",
            one(
                "ALLOW",
                json!({"or_rules": {"rules": [header(json!({"present_match": true})), any()]}}),
                any(),
            ),
            "GET",
            "",
            "",
        ),
        rules(
            "access-not",
            one("ALLOW", json!({"not_rule": header(json!({"present_match": true}))}), any()),
            "GET",
            "",
            "x-role: a\r\n",
        ),
        rules(
            "access-not-id",
            one(
                "DENY",
                any(),
                json!({"not_id": {"header": {"name": "x-role", "string_match": {"exact": "a"}}}}),
            ),
            "GET",
            "",
            "x-role: a\r\n",
        ),
        // Who: plaintext has no identity.
        principal("access-authenticated", json!({"authenticated": {}})),
        principal("access-named", json!({"authenticated": {"principal_name": {"prefix": "spiffe://"}}})),
        principal("access-not-authenticated", json!({"not_id": {"authenticated": {}}})),
        principal("access-direct-remote", json!({"direct_remote_ip": range("127.0.0.0", 8)})),
        principal("access-direct-remote-other", json!({"direct_remote_ip": range("10.0.0.0", 8)})),
        principal("access-remote-v6", json!({"remote_ip": range("::", 0)})),
        principal("access-source", json!({"source_ip": range("127.0.0.0", 8)})),
        rules(
            "access-remote-by-header",
            one("ALLOW", any(), json!({"remote_ip": range("10.1.0.0", 16)})),
            "GET",
            "",
            "x-forwarded-for: 10.1.2.3\r\n",
        ),
        rules(
            "access-direct-remote-by-header",
            one("ALLOW", any(), json!({"direct_remote_ip": range("10.1.0.0", 16)})),
            "GET",
            "",
            "x-forwarded-for: 10.1.2.3\r\n",
        ),
        // Where to.
        rules(
            "access-destination-ip",
            one("ALLOW", json!({"destination_ip": range("127.0.0.1", 32)}), any()),
            "GET",
            "",
            "",
        ),
        rules("access-destination-port", one("ALLOW", json!({"destination_port": 1}), any()), "GET", "", ""),
        rules(
            "access-destination-ports",
            one("ALLOW", json!({"destination_port_range": {"start": 1, "end": 65536}}), any()),
            "GET",
            "",
            "",
        ),
        rules(
            "access-server-name",
            one("ALLOW", json!({"requested_server_name": {"exact": ""}}), any()),
            "GET",
            "",
            "",
        ),
        // Metadata nobody wrote.
        rules(
            "access-metadata",
            one(
                "ALLOW",
                json!({"metadata": {"filter": "f", "path": [{"key": "k"}], "value": {"present_match": true}}}),
                any(),
            ),
            "GET",
            "",
            "",
        ),
        rules(
            "access-metadata-not",
            one(
                "DENY",
                json!({"not_rule": {"metadata": {"filter": "f", "path": [{"key": "k"}], "value": {"present_match": true}}}}),
                any(),
            ),
            "GET",
            "",
            "",
        ),
    ];
    let plain = |target| ("GET", target, "");
    for pair in [
        permission(
            ["access-method", "access-method-other"],
            json!({"header": {"name": ":method", "string_match": {"exact": "DELETE"}}}),
            [("DELETE", "", ""), plain("")],
        ),
        permission(
            ["access-header-suffix", "access-header-suffix-other"],
            header(json!({"string_match": {"suffix": "-admin"}})),
            [("GET", "", "x-role: a-admin\r\n"), ("GET", "", "x-role: admin-a\r\n")],
        ),
        permission(
            ["access-path-prefix", "access-path-prefix-encoded"],
            path(json!({"prefix": "/access-path-prefix"})),
            [plain("/a?b"), plain("/%61")],
        ),
        permission(
            ["access-path-suffix", "access-path-suffix-query"],
            path(json!({"suffix": "/end"})),
            [plain("/end?x=y"), plain("/a?x=/end")],
        ),
        permission(
            ["access-path-regex", "access-path-regex-other"],
            path(json!({"safe_regex": {"regex": "/[^/]+/v[0-9]+/.*"}})),
            [plain("/v1/a"), plain("/vx/a")],
        ),
        permission(
            ["access-template", "access-template-deeper"],
            template("/*/users/*"),
            [plain("/users/1"), plain("/users/1/2")],
        ),
        permission(
            ["access-template-any-depth", "access-template-any-depth-other"],
            template("/*/a/**"),
            [plain("/a/b/c?d"), plain("/ab")],
        ),
        permission(
            ["access-template-variable", "access-template-variable-odd"],
            template("/{case}/{x=a/*}/c"),
            [plain("/a/b/c"), plain("/a/b=/c")],
        ),
    ] {
        scenarios.extend(pair);
    }
    let shadow = json!({"shadow_rules": {"action": "DENY", "policies": {"a": policy(any(), any())}}});
    let filters = json!([filter("rbac", "rbac.v3.RBAC", shadow)]);
    scenarios.push(Scenario::new("access-shadow-only"));
    Suite { name: "access", scenarios, filters }
}
