use crate::validate::UNENFORCED;
use crate::{Severity, decode};

/// The errors and warnings of one object of that kind and spec, as `PATH: MESSAGE`.
fn findings(api_version: &str, kind: &str, spec: &str) -> Vec<(Severity, String)> {
    let yaml = format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: a}}\nspec: {spec}\n");
    let lines = decode(&yaml, "f").diagnostics;
    lines.into_iter().map(|line| (line.severity, format!("{}: {}", line.field_path, line.message))).collect()
}

fn check(kind: &str, spec: &str, expected: &[&str]) {
    let found = findings("networking.istio.io/v1", kind, spec);
    let errors: Vec<&str> = found
        .iter()
        .filter(|(severity, _)| *severity == Severity::Error)
        .map(|(_, line)| line.as_str())
        .collect();
    assert_eq!(errors, expected, "{kind} {spec}");
}

#[test]
fn a_route_that_does_nothing_or_two_things_is_refused() {
    check("VirtualService", "{hosts: [a], http: [{route: [{destination: {host: a}}]}]}", &[]);
    check(
        "VirtualService",
        "{hosts: [a], http: [{}]}",
        &["spec.http[0]: the route does nothing: it needs `route`, `redirect` or `directResponse`"],
    );
    check(
        "VirtualService",
        "{hosts: [a], http: [{route: [{destination: {host: a}}], redirect: {uri: /x}}]}",
        &["spec.http[0]: `redirect` and `route` exclude each other"],
    );
    check("VirtualService", "{hosts: [a]}", &["spec: one of `http`, `tls` and `tcp` is required"]);
}

#[test]
fn the_place_of_a_finding_is_the_nearest_written_value() {
    let yaml = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a}
spec:
  hosts: [a]
  http:
  - route:
    - destination:
        host: a
        port:
          number: 70000
    retries: {attempts: 1, retry_on: 5xx; reset}
";
    let diagnostics = decode(yaml, "f").diagnostics;
    let places: Vec<(u32, &str)> =
        diagnostics.iter().map(|line| (line.origin.line, line.field_path.as_str())).collect();
    assert_eq!(
        places,
        [(12, "spec.http[0].retries.retryOn"), (11, "spec.http[0].route[0].destination.port.number")]
    );
}

#[test]
fn header_values_take_operators_and_doubled_percent_signs() {
    let spec = |value: &str| {
        format!(
            "{{hosts: [a], http: [{{route: [{{destination: {{host: a}}}}], \
             headers: {{request: {{set: {{x: '{value}'}}}}}}}}]}}"
        )
    };
    for good in ["plain", "100%%", "%REQ(x-id)%", "a %START_TIME(%s)% b", "%DOWNSTREAM_REMOTE_ADDRESS%"] {
        check("VirtualService", &spec(good), &[]);
    }
    for bad in ["100%", "% x %", "%REQ(x"] {
        let expected = format!("spec.http[0].headers.request.set[x]: `%` starts no operator in `{bad}`");
        check("VirtualService", &spec(bad), &[&expected]);
    }
}

#[test]
fn rules_behind_a_catch_all_are_warned_about() {
    let spec = "{hosts: [a], http: [{route: [{destination: {host: a}}]}, {name: b, route: [{destination: {host: a}}]}]}";
    let found = findings("networking.istio.io/v1", "VirtualService", spec);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, Severity::Warning);
    assert!(found[0].1.contains("rule #1 not used"), "{found:?}");
}

#[test]
fn what_is_not_enforced_is_refused_and_says_so() {
    let refused = |api_version: &str, kind: &str, spec: &str| {
        let yaml = format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: a}}\nspec: {spec}\n");
        let decoded = decode(&yaml, "f");
        let codes: Vec<_> = decoded.diagnostics.iter().filter_map(|line| line.code).collect();
        let unenforced = codes.contains(&UNENFORCED);
        assert_eq!(unenforced, decoded.objects.is_empty(), "{:?}", decoded.diagnostics);
        unenforced
    };
    let security = "security.istio.io/v1";
    assert!(refused(security, "PeerAuthentication", "{mtls: {mode: STRICT}}"));
    assert!(!refused(security, "PeerAuthentication", "{mtls: {mode: PERMISSIVE}}"));
    assert!(!refused(security, "PeerAuthentication", "{mtls: {mode: DISABLE}}"));
    let port_level = "{selector: {matchLabels: {a: b}}, portLevelMtls: {80: {mode: STRICT}}}";
    assert!(refused(security, "PeerAuthentication", port_level));
    assert!(refused(security, "AuthorizationPolicy", "{}"));
    assert!(refused(security, "RequestAuthentication", "{}"));
    let networking = "networking.istio.io/v1";
    let tls = |mode: &str| format!("{{host: a, trafficPolicy: {{tls: {{mode: {mode}}}}}}}");
    assert!(refused(networking, "DestinationRule", &tls("ISTIO_MUTUAL")));
    assert!(refused(networking, "DestinationRule", &tls("SIMPLE")));
    assert!(!refused(networking, "DestinationRule", &tls("DISABLE")));
    let server = |port: &str, tls: &str| format!("{{servers: [{{port: {port}, hosts: ['*'], tls: {tls}}}]}}");
    let https = "{number: 443, name: https, protocol: HTTPS}";
    assert!(refused(networking, "Gateway", &server(https, "{mode: SIMPLE, credentialName: a}")));
    let http = "{number: 80, name: http, protocol: HTTP}";
    assert!(!refused(networking, "Gateway", &server(http, "{httpsRedirect: true}")));
}

#[test]
fn ports_and_addresses_of_kubernetes_objects_are_real() {
    let report = |yaml: &str| -> Vec<String> {
        decode(yaml, "f")
            .diagnostics
            .into_iter()
            .map(|line| format!("{}: {}", line.field_path, line.message))
            .collect()
    };
    let service =
        |spec: &str| format!("apiVersion: v1\nkind: Service\nmetadata: {{name: a}}\nspec: {spec}\n");
    for (spec, expected) in [
        ("{clusterIP: None, ports: [{port: 80, targetPort: http}]}", None),
        ("{ports: [{port: 70000}]}", Some("spec.ports[0].port: port 70000 is not between 1 and 65535")),
        (
            "{ports: [{port: 80, protocol: HTTP}]}",
            Some("spec.ports[0].protocol: `HTTP` is not a protocol of a service"),
        ),
        ("{ports: [{port: 80}, {port: 81}]}", Some("spec.ports[1]: several ports need names")),
        ("{clusterIP: x}", Some("spec.clusterIP: `x` is not an IP address")),
        ("{type: ExternalName}", Some("spec.externalName: an empty domain name")),
    ] {
        assert_eq!(report(&service(spec)).first().map(String::as_str), expected, "{spec}");
    }
    let slice = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a}\n\
                 addressType: IPv4\nendpoints: [{addresses: ['::1']}]\n";
    assert_eq!(report(slice), ["endpoints[0].addresses[0]: `::1` is not of type IPv4"]);
}

#[test]
fn a_mesh_configuration_that_cannot_be_followed_is_refused_where_it_stands() {
    let error = |yaml: &str| {
        let found = crate::decode_mesh_config(yaml, "mesh").expect_err("refused");
        found[0].to_string()
    };
    let dynamic = error("accessLogFile: a\noutboundTrafficPolicy:\n  mode: ALLOW_ANY_DYNAMIC_DNS\n");
    assert!(dynamic.starts_with("mesh:3:3: error [RINGSAIL-UNENFORCED]"), "{dynamic}");
    assert!(error("connectTimeout: 0s\n").contains("connectTimeout: the duration must be at least 1ms"));
    assert!(error("defaultHttpRetryPolicy: {retryOn: 5xx}\n").contains("turns retries off"));
}
