use crate::networking::string_match::MatchType;
use crate::{Decoded, Kind, Severity, Spec, decode, decode_mesh_config, limits};

/// Decodes `yaml` and gives each diagnostic as one line, without the file name.
fn report(yaml: &str) -> Vec<String> {
    let lines = decode(yaml, "f").diagnostics;
    lines.iter().map(|line| line.to_string().trim_start_matches("f:").to_owned()).collect()
}

/// A VirtualService with that `http` list.
fn virtual_service(http: &str) -> String {
    let http = http.trim_matches('\n').replace('\n', "\n  ");
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a}}\n\
         spec:\n  hosts: [a]\n  http:\n  {http}\n"
    )
}

/// Decodes one object that must be accepted without a word.
fn accepted(yaml: &str) -> crate::Object {
    let Decoded { mut objects, diagnostics, .. } = decode(yaml, "f");
    assert_eq!(diagnostics, [], "{yaml}");
    assert_eq!(objects.len(), 1);
    objects.remove(0)
}

fn http(object: &crate::Object) -> &[crate::networking::HttpRoute] {
    match &object.spec {
        Spec::VirtualService(spec) => &spec.http,
        other => panic!("{:?}", other.kind()),
    }
}

#[test]
fn an_unknown_field_is_named_with_place_path_and_likely_meaning() {
    let yaml = virtual_service(
        "
- route:
  - destination: {host: reviews, subset: v1}
    weight: 90
  - destination:
      hst: reviews
    weight: 10
",
    );
    assert_eq!(
        report(&yaml),
        ["11:9: error: VirtualService default/a: spec.http[0].route[1].destination.hst: unknown field `hst`\
          \n  fix: did you mean `host`?"]
    );
}

#[test]
fn a_field_at_the_wrong_level_is_sent_to_the_right_one() {
    let too_deep = virtual_service("- route: [{destination: {host: a, weight: 10}}]");
    assert!(report(&too_deep)[0].contains("`weight` belongs one level further out"));
    let too_high = virtual_service("- route: [{host: a}]");
    assert!(report(&too_high)[0].contains("`host` belongs inside `destination`"));
    let outside_spec =
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: a}\nservers: []\n";
    assert!(report(outside_spec)[0].contains("`servers` belongs inside `spec`"));
}

#[test]
fn camel_case_and_snake_case_name_the_same_field() {
    let yaml = virtual_service("- {route: [{destination: {host: a}}], mirror_percentage: {value: 5}}");
    let object = accepted(&yaml);
    assert_eq!(http(&object)[0].mirror_percentage.as_ref().map(|percent| percent.value), Some(5.0));
    let both = virtual_service("- {mirror_percentage: {value: 5}, mirrorPercentage: {value: 6}}");
    assert!(report(&both)[0].contains("are the same field"));
}

#[test]
fn all_three_api_versions_give_the_same_spec() {
    let v1 = virtual_service("- {route: [{destination: {host: a}}]}");
    let spec = accepted(&v1).spec;
    for version in ["v1beta1", "v1alpha3"] {
        assert_eq!(accepted(&v1.replace("/v1\n", &format!("/{version}\n"))).spec, spec);
    }
    assert!(report(&v1.replace("/v1\n", "/v2\n"))[0].contains("use networking.istio.io/v1 or"));
}

#[test]
fn durations_wrappers_and_oneofs_are_read_as_protobuf_json() {
    let yaml = virtual_service(
        "
- match: [{uri: {prefix: /x}, headers: {end-user: {exact: jason}}}]
  timeout: 1m0.5s
  retries: {attempts: 2, retryRemoteLocalities: true}
  directResponse: {status: 200, body: {bytes: aGk=}}
",
    );
    let object = accepted(&yaml);
    let route = &http(&object)[0];
    let timeout = route.timeout.as_ref().map(|timeout| (timeout.seconds, timeout.nanos));
    assert_eq!(timeout, Some((60, 500_000_000)));
    assert_eq!(route.retries.as_ref().and_then(|retries| retries.retry_remote_localities), Some(true));
    let uri = route.r#match[0].uri.as_ref().and_then(|uri| uri.match_type.clone());
    assert_eq!(uri, Some(MatchType::Prefix("/x".to_owned())));
}

#[test]
fn wrong_types_say_what_to_write() {
    for (http, message, fix) in [
        ("- {timeout: 5}", "not a duration: the number 5", "add a unit: `5s`"),
        ("- {timeout: '5'}", "a duration without a unit", "add a unit: `5s`"),
        ("- {name: 5}", "expected a string, found the number 5", "quote it: \"5\""),
        ("- {name: on}", "which YAML reads as the boolean true", "quote it: \"on\""),
        ("- {match: [{uri: /x}]}", "expected a mapping", "write `exact:`, `prefix:` or `regex:`"),
        ("- {match: {uri: {exact: /x}}}", "expected a list", "start each element with `- `"),
        ("- {headers: [{request: {}}]}", "expected a mapping, found a list", "remove the `- ` in front"),
        ("- {corsPolicy: {unmatchedPreflights: IGNOR}}", "is not one of the values", "did you mean IGNORE?"),
        ("- {match: [{headers: {a: }}]}", "`a` has no value (null)", "give it a value"),
        ("- {match: [{uri: {exact: a, prefix: b}}]}", "exclude each other", "keep one of the two"),
        ("- {match: [{port: -1}]}", "-1 is out of range", ""),
        ("- {match: [{port: 80.5}]}", "expected an integer", ""),
    ] {
        let lines = report(&virtual_service(http));
        assert!(lines[0].contains(message) && lines[0].contains(fix), "{http}: {lines:?}");
    }
}

#[test]
fn a_key_written_twice_is_an_error_where_the_second_stands() {
    let yaml = virtual_service("- {name: a}").replace("  hosts: [a]\n", "  hosts: [a]\n  hosts: [b]\n");
    assert!(report(&yaml)[0].starts_with("6:3: error: VirtualService default/a: `hosts` stands twice"));
}

#[test]
fn one_bad_document_leaves_the_others_alone() {
    let good = virtual_service("- {route: [{destination: {host: a}}]}");
    let other = good.replace("name: a", "name: b");
    let wrong = other.replace("hosts:", "hostz:");
    let text = format!("# comment\n---\n{good}---\nkind: [\n--- # third\n{wrong}---\n{other}");
    let decoded = decode(&text, "f");
    let names: Vec<&str> = decoded.objects.iter().map(|object| object.meta.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(
        decoded.refused.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["VirtualService default/b"]
    );
    assert!(decoded.unreadable);
    assert_eq!(decoded.objects[0].origin.line, 3);
    let lines: Vec<u32> = decoded.diagnostics.iter().map(|line| line.origin.line).collect();
    assert_eq!(lines, [12, 17]);
}

#[test]
fn lists_are_read_element_by_element() {
    let yaml = "\
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80, targetPort: http}]}}
- {apiVersion: v1, kind: Service, metadata: {name: b}, spec: {prots: []}}
- {apiVersion: v1, kind: Namespace, metadata: {name: c, namespace: ignored}}
";
    let decoded = decode(yaml, "f");
    let keys: Vec<String> = decoded.objects.iter().map(|object| object.key().to_string()).collect();
    assert_eq!(keys, ["Service default/a", "Namespace c"]);
    assert!(decoded.diagnostics[0].to_string().contains("did you mean `ports`?"));
    let Spec::Service(service) = &decoded.objects[0].spec else { panic!("a Service") };
    let port = service.spec.as_ref().and_then(|spec| spec.ports[0].target_port.clone());
    assert_eq!(port.map(|port| port.str_val), Some("http".to_owned()));
}

#[test]
fn unknown_kinds_are_noted_and_misspelt_ones_warned_about() {
    let severity = |api_version: &str, kind: &str| {
        let yaml = format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: a}}\n");
        decode(&yaml, "f").diagnostics[0].severity
    };
    assert_eq!(severity("batch/v1", "Job"), Severity::Note);
    assert_eq!(severity("networking.istio.io/v1", "VirtualServices"), Severity::Warning);
    assert_eq!(severity("v1", "Deployment"), Severity::Warning);
}

#[test]
fn parts_of_kubernetes_objects_that_are_not_read_may_hold_anything() {
    let yaml = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: a, creationTimestamp: null}
spec:
  replicas: 2
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      containers:
      - {name: a, image: a, command: [a], resources: {limits: {cpu: 1}}, volumeMounts: [{x: y}]}
      volumes: [{name: v, emptyDir: {}}]
status: {whatever: [1, 2]}
";
    assert_eq!(accepted(yaml).kind, Kind::Deployment);
}

#[test]
fn anchors_aliases_and_merge_keys_are_followed() {
    let yaml = virtual_service(
        "
- match: [{uri: {exact: /1}}]
  route: &to [{destination: &host {host: a, subset: v1}}]
- match: [{uri: {exact: /2}}]
  route: *to
- route: [{destination: {<<: *host, subset: v2}}]
",
    );
    let object = accepted(&yaml);
    let subset = |index: usize| {
        let destination = http(&object)[index].route[0].destination.as_ref();
        destination.map(|to| (to.host.clone(), to.subset.clone()))
    };
    assert_eq!(subset(1), Some(("a".to_owned(), "v1".to_owned())));
    assert_eq!(subset(2), Some(("a".to_owned(), "v2".to_owned())));
}

#[test]
fn a_closing_bracket_may_stand_under_the_key_that_opened_it() {
    let yaml = virtual_service(
        "- route:\n  - destination: {\n      \"host\": a,\n    }\n    weight: 1\n  timeout: 1s",
    );
    assert!(http(&accepted(&yaml))[0].timeout.is_some());
}

#[test]
fn documents_that_multiply_or_nest_without_end_are_refused() {
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        laughs += &format!("a{level}: &a{level} [{aliases}]\n");
    }
    assert!(report(&laughs)[0].contains("once aliases are expanded"));
    let deep = |levels: usize| format!("a: {}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(report(&deep(limits::NODE_DEPTH_MAX))[0].contains("levels deep"));
    assert!(report(&deep(limits::NODE_DEPTH_MAX - 2))[0].contains("neither `apiVersion` nor `kind`"));
    let mut chain = String::from("a0: &a0 [x]\n");
    for level in 1..200 {
        chain += &format!("a{level}: &a{level} [*a{}]\n", level - 1);
    }
    assert!(report(&chain)[0].contains("levels deep"));
    assert!(report("a: &a [*a]\n")[0].starts_with("1:8: error:"));
}

#[test]
fn every_truncation_of_a_document_is_read_or_refused_but_never_panics() {
    let yaml = virtual_service(
        "
- match: [{uri: {prefix: /x}, headers: {end-user: {exact: \"j\\u00e4son\"}}}]
  timeout: 1.5s
  directResponse: {status: 200, body: {string: |-
    text
    }}
",
    );
    for end in (0..=yaml.len()).filter(|end| yaml.is_char_boundary(*end)) {
        decode(&yaml[..end], "f");
    }
}

#[test]
fn a_mesh_configuration_is_read_by_its_own_names() {
    let config = decode_mesh_config(
        "accessLogFile: /dev/stdout\nmeshMTLS: {minProtocolVersion: TLSV1_3}\nconnectTimeout: 10s\n\
         defaultConfig: {proxyMetadata: {A: b}, tracing: {sampling: 5}}\n",
        "mesh",
    );
    let config = config.expect("accepted");
    assert_eq!(config.access_log_file, "/dev/stdout");
    assert!(config.mesh_m_tls.is_some());
    let errors = decode_mesh_config("accesslogfile: x\n", "mesh").expect_err("refused");
    assert!(errors[0].to_string().contains("did you mean `accessLogFile`?"));
    assert_eq!(decode_mesh_config("", "mesh").map(|config| config.access_log_file), Ok(String::new()));
}

#[test]
fn an_object_goes_back_to_the_json_it_came_from() {
    let text = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"a","namespace":"default","generation":3},
        "spec":{"ports":[{"name":"a","port":80,"targetPort":"http"},{"name":"b","port":81,"targetPort":8081}]}}"#;
    let json: serde_json::Value = serde_json::from_str(text).expect("JSON");
    assert_eq!(accepted(text).to_json(), json);
}
