//! `/certs`: the certificates of the secrets in use, in the form of `envoy.admin.v3.Certificates`.

use std::time::{SystemTime, UNIX_EPOCH};

use ringsail_tables::tls::{Given, Secret};
use ringsail_tls::Utc;
use ringsail_tls::certificate::Facts;
use ringsail_xds::envoy::admin::v3::subject_alternate_name::Name;
use ringsail_xds::envoy::admin::v3::{Certificate, CertificateDetails, Certificates, SubjectAlternateName};
use ringsail_xds::json::{Print, Schema};

use super::{Admin, Page, Query};

pub(super) fn page(admin: &Admin, _: &Query) -> Page {
    let tables = admin.state.borrow().tables.clone();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
    let mut certificates = Vec::new();
    let mut secrets: Vec<_> = tables.secrets().iter().collect();
    secrets.sort_by_key(|(name, _)| *name);
    for (name, secret) in secrets {
        certificates.extend(match secret {
            Secret::Certificate(certificate) => Some(chain(name, &certificate.chain_facts(), now)),
            Secret::Validation(rules) => {
                let anchors = ringsail_tls::certificate::facts_of_pem(&rules.trusted);
                (!anchors.is_empty()).then(|| authorities(name, &anchors, now))
            }
            Secret::TicketKeys(_) | Secret::Other => None,
        });
    }
    // Those written in place, once each.
    let chains = tables.listeners().flat_map(|listener| &*listener.filter_chains);
    let servers = chains.filter_map(|chain| chain.tls.as_ref()).map(|tls| &tls.common);
    let clusters: Vec<_> =
        tables.clusters().map(|cluster| cluster.cluster.connection.transports.clone()).collect();
    let clients = clusters.iter().flat_map(|transports| transports.all()).map(|tls| &tls.common);
    for common in servers.chain(clients) {
        for given in &common.certificates {
            if let Given::Here(certificate) = given {
                let shown = chain("<inline>", &certificate.chain_facts(), now);
                if !certificates.contains(&shown) {
                    certificates.push(shown);
                }
            }
        }
    }
    Page::json(&Schema::shared().to_json(&Certificates { certificates }, Print::WithDefaults))
}

fn chain(path: &str, facts: &[Facts], now: i64) -> Certificate {
    Certificate {
        cert_chain: facts.iter().map(|facts| details(path, facts, now)).collect(),
        ..Certificate::default()
    }
}

fn authorities(path: &str, facts: &[Facts], now: i64) -> Certificate {
    Certificate {
        ca_cert: facts.iter().map(|facts| details(path, facts, now)).collect(),
        ..Certificate::default()
    }
}

fn details(path: &str, facts: &Facts, now: i64) -> CertificateDetails {
    let uris = facts.uri_names.iter().cloned().map(Name::Uri);
    let names = facts.dns_names.iter().cloned().map(Name::Dns).chain(uris);
    let names = names.chain(facts.ip_names.iter().map(|address| Name::IpAddress(address.to_string())));
    let left = facts.not_after.0.saturating_sub(now).max(0) / 86_400;
    CertificateDetails {
        path: path.to_owned(),
        serial_number: facts.serial.clone(),
        subject_alt_names: names.map(|name| SubjectAlternateName { name: Some(name) }).collect(),
        days_until_expiration: left as u64,
        valid_from: Some(timestamp(facts.not_before)),
        expiration_time: Some(timestamp(facts.not_after)),
        ocsp_details: None,
    }
}

fn timestamp(at: Utc) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.0, nanos: 0 }
}
