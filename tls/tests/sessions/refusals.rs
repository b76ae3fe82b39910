//! What is refused, each with its own words.

use std::sync::Arc;

use ringsail_tls::Fault;
use ringsail_tls::certificate::Certificate;
use ringsail_tls::context::{ClientContext, ServerContext};
use ringsail_tls::issue::{Issued, Request};
use ringsail_tls::settings::{ClientSettings, Parameters, ServerSettings, Version};
use ringsail_tls::validation::{NameKind, Rules, Validation};

use crate::bench::*;

/// What a client that follows `rules` says of a server with this certificate.
fn client_says(rules: Rules, shown: &Issued) -> String {
    let ca = authority("unused");
    let failed =
        joined(ClientSettings { validation: validation(rules), ..client(&ca) }, &server(shown)).err();
    let error = failed.expect("the handshake fails").client.expect("the client says why");
    assert_eq!(error.fault(), Fault::Peer);
    error.to_string()
}

#[test]
fn bad_server_certificates_are_refused_each_with_its_own_words() {
    let (ca, other) = (authority("root"), authority("other root"));
    let expired = ca.issue(&Request { not_after: from_now(-60), ..request() }).unwrap();
    let early = ca.issue(&Request { not_before: from_now(600), ..request() }).unwrap();
    let for_clients = ca.issue(&Request { for_servers: false, ..request() }).unwrap();
    let web = workload(&ca, "web");
    for (shown, words) in [
        (&expired, format!("it expired on {}", from_now(-60)).rsplit_once(':').unwrap().0.to_owned()),
        (&early, "it is valid only from 20".to_owned()),
        (&for_clients, "its extended key usage does not allow servers".to_owned()),
        (&workload(&other, "web"), "its issuer is not trusted here".to_owned()),
        (
            &Issued::self_signed(&Request { common_name: "lonely".to_owned(), ..request() }).unwrap(),
            "it is signed by itself and is not trusted here".to_owned(),
        ),
    ] {
        let text = client_says(trusting(&ca), shown);
        assert!(text.starts_with("the server's certificate is refused: ") && text.contains(&words), "{text}");
        assert!(text.contains("valid 20"), "dates are named: {text}");
    }
    let names = vec![exact(NameKind::Uri, "spiffe://cluster.local/ns/shop/sa/db")];
    let text = client_says(Rules { names, ..trusting(&ca) }, &web);
    assert!(text.contains("none of its names is \"spiffe://cluster.local/ns/shop/sa/db\""), "{text}");
    assert!(text.contains("[spiffe://cluster.local/ns/shop/sa/web]"), "{text}");
    let text = client_says(Rules { key_pins: vec![[7; 32]], ..trusting(&ca) }, &web);
    assert!(text.contains("is one of the pinned ones"), "{text}");
}

#[test]
fn expired_and_untrusted_certificates_pass_only_where_settings_say_so() {
    let (ca, other) = (authority("root"), authority("other root"));
    let expired = ca.issue(&Request { not_after: from_now(-60), ..request() }).unwrap();
    let rules = Rules { allow_expired: true, ..trusting(&ca) };
    let pair =
        joined(ClientSettings { validation: validation(rules), ..client(&ca) }, &server(&expired)).unwrap();
    assert!(pair.client.is_peer_validated());
    let rules = Rules { accept_untrusted: true, ..trusting(&ca) };
    let settings = ClientSettings { validation: validation(rules), ..client(&ca) };
    let pair = joined(settings, &server(&workload(&other, "web"))).unwrap();
    assert!(!pair.client.is_peer_validated());
}

#[test]
fn the_failure_reads_as_envoys_does() {
    let (ca, other) = (authority("root"), authority("other root"));
    let failed = joined(client(&ca), &server(&workload(&other, "web"))).err().unwrap();
    assert_eq!(
        failed.client.unwrap().compat(),
        "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify cert failed: \
         X509_verify_cert: certificate verification error at depth 0: unable to get local issuer certificate:TLS_error_end"
    );
    // The server is told, in an alert.
    let told = failed.server.unwrap();
    assert_eq!(told.fault(), Fault::PeerBlamesUs);
    assert_eq!(told.to_string(), "the peer does not trust the authority that signed our certificate");
    let names = vec![exact(NameKind::Uri, "spiffe://x")];
    let rules = Rules { names, ..trusting(&ca) };
    let failed = joined(
        ClientSettings { validation: validation(rules), ..client(&ca) },
        &server(&workload(&ca, "web")),
    );
    assert_eq!(
        failed.err().unwrap().client.unwrap().compat(),
        "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify cert failed: SAN matcher, \
         certificate SANs are [spiffe://cluster.local/ns/shop/sa/web]:TLS_error_end"
    );
}

#[test]
fn a_client_without_the_certificate_that_is_required_is_refused_in_both_versions() {
    let ca = authority("root");
    for (version_max, client_reads) in [
        (
            Version::Tls12,
            "TLS_error:|268436496:SSL routines:OPENSSL_internal:SSLV3_ALERT_HANDSHAKE_FAILURE:TLS_error_end",
        ),
        (Version::Tls13, "TLSV1_ALERT_CERTIFICATE_REQUIRED"),
    ] {
        let parameters = Parameters { version_max, ..Parameters::default() };
        let server = ServerSettings { parameters, ..mutual_server(&workload(&ca, "web"), &ca) };
        let failed = joined(client(&ca), &server).err().unwrap();
        let error = failed.server.unwrap();
        assert_eq!(error.to_string(), "a client certificate is required and the client has sent none");
        assert!(failed.client.unwrap().compat().contains(client_reads), "{version_max:?}");
    }
}

#[test]
fn a_client_with_a_bad_certificate_is_refused_by_the_server() {
    let (ca, other) = (authority("root"), authority("other root"));
    let for_servers = ca.issue(&Request { for_clients: false, ..request() }).unwrap();
    for (shown, words) in [
        (workload(&other, "cart"), "the client's certificate is refused: its issuer is not trusted here"),
        (for_servers, "the client's certificate is refused: its extended key usage does not allow clients"),
    ] {
        let client = ClientSettings { certificate: Some(certificate(&shown)), ..client(&ca) };
        let failed = joined(client, &mutual_server(&workload(&ca, "web"), &ca)).err().unwrap();
        let text = failed.server.unwrap().to_string();
        assert!(text.starts_with(words), "{text}");
    }
}

#[test]
fn a_peer_that_speaks_http_is_told_apart() {
    let ca = authority("root");
    let server = ServerContext::new(&server(&workload(&ca, "web"))).unwrap();
    let mut session = server.accept().unwrap();
    let mut output = Vec::new();
    let mut io = ringsail_tls::session::Io {
        input: b"GET / HTTP/1.1\r\n\r\n",
        input_ended: false,
        output: &mut output,
    };
    let error = session.handshake(&mut io).unwrap_err();
    assert_eq!(error.to_string(), "the client speaks plain HTTP to a TLS port");
    assert_eq!(
        error.compat(),
        "TLS_error:|268435612:SSL routines:OPENSSL_internal:HTTP_REQUEST:TLS_error_end"
    );
}

#[test]
fn settings_that_would_let_anyone_in_or_name_the_unknown_are_refused() {
    let ca = authority("root");
    let web = workload(&ca, "web");
    let refused =
        |settings: ServerSettings| ServerContext::new(&settings).err().expect("refused").to_string();
    let parameters = |change: fn(&mut Parameters)| {
        let mut parameters = Parameters::default();
        change(&mut parameters);
        parameters
    };
    assert_eq!(refused(ServerSettings { certificates: vec![], ..server(&web) }), "has no certificate");
    assert_eq!(
        refused(ServerSettings { client_certificate_required: true, ..server(&web) }),
        "requires client certificates without a trusted certificate or pin to judge them by"
    );
    let ciphers = parameters(|parameters| parameters.ciphers = vec!["NO-SUCH-CIPHER".to_owned()]);
    assert_eq!(
        refused(ServerSettings { parameters: ciphers, ..server(&web) }),
        "the cipher suites \"NO-SUCH-CIPHER\" hold one that is not known"
    );
    let groups = parameters(|parameters| parameters.groups = vec!["P-255".to_owned()]);
    assert!(refused(ServerSettings { parameters: groups, ..server(&web) }).contains("key exchange groups"));
    let names = vec![exact(NameKind::Uri, "spiffe://x")];
    let error = Validation::new(Rules { names, ..Rules::default() }).unwrap_err().to_string();
    assert!(error.contains("anyone can write any name"), "{error}");
    assert!(Validation::new(Rules { trusted: b"nothing"[..].into(), ..Rules::default() }).is_err());
}

#[test]
fn keys_that_do_not_fit_or_are_weak_are_refused() {
    let ca = authority("root");
    let (web, cart) = (workload(&ca, "web"), workload(&ca, "cart"));
    let read = |certificate: &Issued, key: &Issued| {
        let (chain, key) = (certificate.certificate_pem().unwrap(), key.key_pem().unwrap());
        Certificate::from_pem(&chain, &key, None, None).expect_err("refused").to_string()
    };
    assert!(
        read(&web, &cart).starts_with("the private key does not belong to the certificate"),
        "{}",
        read(&web, &cart)
    );
    let weak = ca.issue(&rsa(1024)).unwrap();
    assert!(read(&weak, &weak).contains("has 1024 bits; at least 2048 are needed"), "{}", read(&weak, &weak));
    assert!(Certificate::from_pem(b"nothing", b"", None, None).is_err());
}

#[test]
fn a_certificate_on_the_revocation_list_is_refused() {
    let ca = authority("root");
    let (web, cart) = (workload(&ca, "web"), workload(&ca, "cart"));
    let list = ca.revocation_list(&[&cart], from_now(-60), from_now(HOUR)).unwrap();
    let rules = Rules { revocation_lists: Some(list.into()), ..trusting(&ca) };
    let client = |shown: &Issued| ClientSettings { certificate: Some(certificate(shown)), ..client(&ca) };
    let server = ServerSettings { validation: validation(rules), ..mutual_server(&web, &ca) };
    let text = joined(client(&cart), &server).err().unwrap().server.unwrap().to_string();
    assert!(text.starts_with("the client's certificate is refused: it is revoked"), "{text}");
    assert!(joined(client(&web), &server).is_ok());
}

#[test]
fn a_resumed_session_whose_certificate_has_expired_meanwhile_is_judged_again() {
    let ca = authority("root");
    let cart = ca.issue(&Request { not_after: from_now(2), ..request() }).unwrap();
    let settings = ClientSettings { certificate: Some(certificate(&cart)), ..client(&ca) };
    let client = ClientContext::new(&Arc::new(settings)).unwrap();
    let server = ServerContext::new(&mutual_server(&workload(&ca, "web"), &ca)).unwrap();
    let mut first = Pair::new(&client, &server);
    first.handshake().unwrap();
    first.talk();
    // The library looks at the clock: wait until the date is past.
    while from_now(0) <= certificate(&cart).facts().not_after {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let failed = Pair::new(&client, &server).handshake().unwrap_err();
    let text = failed.server.expect("the server judges it again").to_string();
    assert!(text.contains("it expired on"), "{text}");
}
