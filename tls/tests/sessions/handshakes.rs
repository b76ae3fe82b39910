//! Handshakes that succeed.

use std::sync::Arc;

use ringsail_tls::certificate::Certificate;
use ringsail_tls::session::{Io, Read};
use ringsail_tls::settings::{Alpn, ClientSettings, Parameters, ServerSettings, Version};
use ringsail_tls::validation::{Expression, NameKind, NameMatcher, Rules, TextMatch};

use crate::bench::*;

#[test]
fn mutual_tls_names_both_peers_and_carries_bytes_both_ways() {
    let ca = authority("root");
    let (web, cart) = (workload(&ca, "web"), workload(&ca, "cart"));
    let client = ClientSettings {
        certificate: Some(certificate(&cart)),
        server_name: Some("outbound_.80_._.web.shop.svc".to_owned()),
        ..client(&ca)
    };
    let mut pair = joined(client, &mutual_server(&web, &ca)).unwrap();
    pair.talk();
    assert_eq!(pair.server.peer().unwrap().uri_names, ["spiffe://cluster.local/ns/shop/sa/cart"]);
    assert_eq!(pair.client.peer().unwrap().uri_names, ["spiffe://cluster.local/ns/shop/sa/web"]);
    assert!(pair.server.is_peer_validated() && pair.client.is_peer_validated());
    assert_eq!(pair.server.server_name(), Some("outbound_.80_._.web.shop.svc"));
    assert_eq!(pair.client.version(), Some(Version::Tls13));
    assert_eq!(pair.server.peer_chain_pem().len(), 1);
}

#[test]
fn the_hybrid_with_ml_kem_is_agreed_on_by_default() {
    let ca = authority("root");
    let pair = joined(client(&ca), &server(&workload(&ca, "web"))).unwrap();
    assert_eq!(pair.client.group(), Some("X25519MLKEM768"));
}

#[test]
fn versions_ciphers_and_groups_are_those_of_the_settings() {
    let ca = authority("root");
    let parameters = Parameters {
        version_max: Version::Tls12,
        ciphers: vec!["ECDHE-ECDSA-AES256-GCM-SHA384".to_owned()],
        groups: vec!["P-256".to_owned()],
        ..Parameters::default()
    };
    let server = ServerSettings { parameters, ..server(&workload(&ca, "web")) };
    let mut pair = joined(client(&ca), &server).unwrap();
    assert_eq!(pair.client.version(), Some(Version::Tls12));
    assert_eq!(pair.client.cipher(), Some("ECDHE-ECDSA-AES256-GCM-SHA384"));
    assert_eq!(pair.client.group(), Some("P-256"));
    pair.talk();
}

#[test]
fn the_servers_order_of_application_protocols_decides_and_none_in_common_is_none() {
    let ca = authority("root");
    let web = workload(&ca, "web");
    let agreed = |ours: &[&str], offered: &[&str]| {
        let server = ServerSettings { alpn: Alpn::new(ours.iter().copied()).unwrap(), ..server(&web) };
        let client = ClientSettings { alpn: Alpn::new(offered.iter().copied()).unwrap(), ..client(&ca) };
        let pair = joined(client, &server).unwrap();
        pair.client.alpn().map(|name| String::from_utf8_lossy(name).into_owned())
    };
    assert_eq!(agreed(&["h2", "http/1.1"], &["http/1.1", "h2"]).as_deref(), Some("h2"));
    assert_eq!(
        agreed(&["h2", "http/1.1"], &["istio-http/1.1", "istio", "http/1.1"]).as_deref(),
        Some("http/1.1")
    );
    assert_eq!(agreed(&["h2"], &["istio"]), None);
}

#[test]
fn a_client_is_shown_the_certificate_whose_key_it_understands() {
    let ca = authority("root");
    let (rsa, ecdsa) = (ca.issue(&rsa(2048)).unwrap(), ca.issue(&request()).unwrap());
    let server =
        ServerSettings { certificates: vec![certificate(&ecdsa), certificate(&rsa)], ..server(&ecdsa) };
    for (cipher, shown) in [("ECDHE-RSA-AES128-GCM-SHA256", &rsa), ("ECDHE-ECDSA-AES128-GCM-SHA256", &ecdsa)]
    {
        let parameters = Parameters {
            version_max: Version::Tls12,
            ciphers: vec![cipher.to_owned()],
            ..Parameters::default()
        };
        let pair = joined(ClientSettings { parameters, ..client(&ca) }, &server).unwrap();
        assert_eq!(&pair.client.peer().unwrap(), certificate(shown).facts(), "{cipher}");
    }
}

#[test]
fn a_client_certificate_that_is_optional_may_be_missing() {
    let ca = authority("root");
    let server =
        ServerSettings { client_certificate_required: false, ..mutual_server(&workload(&ca, "web"), &ca) };
    let pair = joined(client(&ca), &server).unwrap();
    assert_eq!(pair.server.peer(), None);
    assert!(!pair.server.is_peer_validated());
    let with = ClientSettings { certificate: Some(certificate(&workload(&ca, "cart"))), ..client(&ca) };
    assert!(joined(with, &server).unwrap().server.is_peer_validated());
}

#[test]
fn names_match_exactly_by_prefix_suffix_part_and_expression_in_each_kind() {
    let ca = authority("root");
    let request = ringsail_tls::issue::Request {
        uri_names: vec!["spiffe://a/ns/b/sa/c".to_owned()],
        dns_names: vec!["*.a.example".to_owned(), "b.example".to_owned()],
        ip_names: vec!["10.0.0.1".parse().unwrap()],
        ..request()
    };
    let facts = certificate(&ca.issue(&request).unwrap()).facts().clone();
    let matches = |kind: NameKind, text: TextMatch| {
        NameMatcher { kind: Some(kind), text, ignore_case: false }.matches(&facts)
    };
    let text = str::to_owned;
    let expression = |source: &str, matches: fn(&str) -> bool| {
        TextMatch::Expression(Expression { source: source.to_owned(), matches: Arc::new(matches) })
    };
    for (kind, yes, no) in [
        (
            NameKind::Uri,
            TextMatch::Exact(text("spiffe://a/ns/b/sa/c")),
            TextMatch::Exact(text("spiffe://a/ns/b/sa")),
        ),
        (NameKind::Uri, TextMatch::Prefix(text("spiffe://a/")), TextMatch::Prefix(text("spiffe://b/"))),
        (NameKind::Uri, TextMatch::Suffix(text("/sa/c")), TextMatch::Suffix(text("/sa/d"))),
        (NameKind::Uri, TextMatch::Contains(text("/ns/b/")), TextMatch::Contains(text("/ns/c/"))),
        (
            NameKind::Uri,
            expression("a/…", |text| text.starts_with("spiffe://a/")),
            expression("spiffe", |text| text == "spiffe"),
        ),
        (NameKind::Dns, TextMatch::Exact(text("x.A.example")), TextMatch::Exact(text("x.y.a.example"))),
        (NameKind::Dns, TextMatch::Exact(text("b.example")), TextMatch::Exact(text("a.example"))),
        (NameKind::Ip, TextMatch::Exact(text("10.0.0.1")), TextMatch::Exact(text("10.0.0.10"))),
        (NameKind::Dns, TextMatch::Suffix(text(".example")), TextMatch::Exact(text("spiffe://a/ns/b/sa/c"))),
    ] {
        assert!(matches(kind, yes.clone()), "{kind:?} {yes:?}");
        assert!(!matches(kind, no.clone()), "{kind:?} {no:?}");
    }
    let ignoring =
        NameMatcher { kind: None, text: TextMatch::Exact(text("SPIFFE://a/ns/b/sa/C")), ignore_case: true };
    assert!(ignoring.matches(&facts));
}

#[test]
fn an_ocsp_staple_goes_with_its_certificate() {
    let ca = authority("root");
    let web = workload(&ca, "web");
    let staple = b"not looked into";
    let with =
        Certificate::from_pem(&web.certificate_pem().unwrap(), &web.key_pem().unwrap(), None, Some(staple));
    let server = ServerSettings { certificates: vec![Arc::new(with.unwrap())], ..server(&web) };
    // The staple is on its way in the clear with TLS 1.2, to a client that asked for one.
    assert!(joined(client(&ca), &server).is_ok());
}

#[test]
fn pins_alone_are_enough_and_either_pin_fits() {
    let ca = authority("root");
    let web = workload(&ca, "web");
    let facts = certificate(&web).facts().clone();
    for rules in [
        Rules { certificate_pins: vec![facts.sha256], ..Rules::default() },
        Rules { key_pins: vec![web.key_sha256().unwrap()], ..Rules::default() },
        Rules {
            certificate_pins: vec![[0; 32]],
            key_pins: vec![web.key_sha256().unwrap()],
            ..Rules::default()
        },
    ] {
        let client = ClientSettings { validation: validation(rules), ..client(&ca) };
        assert!(joined(client, &server(&web)).unwrap().client.is_peer_validated());
    }
}

#[test]
fn large_data_in_small_pieces_arrives_whole_and_the_end_is_told() {
    let ca = authority("root");
    let mut pair = joined(client(&ca), &server(&workload(&ca, "web"))).unwrap();
    let sent: Vec<u8> = (0..100_000_u32).map(|number| number as u8).collect();
    let mut wire = Vec::new();
    let mut rest = &sent[..];
    while !rest.is_empty() {
        let mut io = Io { input: &[], input_ended: false, output: &mut wire };
        let count = pair.client.write(&mut io, rest).unwrap();
        rest = &rest[count..];
    }
    pair.client.close(&mut Io { input: &[], input_ended: false, output: &mut wire });
    let (mut received, mut answer, mut room) = (Vec::new(), Vec::new(), [0; 777]);
    let mut pieces = wire.chunks(333);
    let mut piece: &[u8] = &[];
    loop {
        let mut io = Io { input: piece, input_ended: false, output: &mut answer };
        let read = pair.server.read(&mut io, &mut room).unwrap();
        let left = io.input.len();
        piece = &piece[piece.len() - left..];
        match read {
            Read::Bytes(count) => received.extend_from_slice(&room[..count]),
            Read::NeedInput => piece = pieces.next().expect("the end was told"),
            Read::End => break,
        }
    }
    assert_eq!(received, sent);
}
