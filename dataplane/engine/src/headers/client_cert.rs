//! `x-forwarded-client-cert`: what the next hop is told of the client's certificate.
//!
//! Source: Envoy's "x-forwarded-client-cert" page and `ConnectionManagerUtility::mutateXfccRequestHeader`.

use ringsail_http::{EditError, RequestHead};
use ringsail_tables::hcm::{ForwardClientCert, HttpConnectionManager};

use crate::tls::Facts;

const NAME: &str = "x-forwarded-client-cert";

/// Keeps, removes, replaces or extends the header as the connection manager asks. Only a client that has shown a
/// certificate may speak for others.
pub(super) fn settle(
    head: &mut RequestHead,
    manager: &HttpConnectionManager,
    tls: Option<&Facts>,
) -> Result<(), EditError> {
    let mode = manager.forward_client_cert;
    if mode == ForwardClientCert::AlwaysForwardOnly {
        return Ok(());
    }
    let shown = tls.and_then(|facts| Some((facts, facts.peer.as_deref()?)));
    let Some((facts, peer)) = shown.filter(|_| mode != ForwardClientCert::Sanitize) else {
        head.fields_mut().remove(NAME);
        return Ok(());
    };
    if mode == ForwardClientCert::ForwardOnly {
        return Ok(());
    }
    let mut value = Vec::new();
    if mode == ForwardClientCert::AppendForward && head.fields().get_joined(NAME, &mut value) {
        value.push(b',');
    }
    let mut elements: Vec<String> = Vec::new();
    let ours = facts.local.iter().flat_map(|local| &local.facts().uri_names);
    elements.extend(ours.map(|uri| format!("By={uri}")));
    elements.push(format!("Hash={}", peer.fingerprint()));
    let details = manager.client_cert_details;
    if details.subject {
        let subject = peer.subject.replace('\\', "\\\\").replace('"', "\\\"");
        elements.push(format!("Subject=\"{subject}\""));
    }
    if details.uri {
        // Compat: the key is there without a value when there is no such name.
        if peer.uri_names.is_empty() {
            elements.push("URI=".to_owned());
        }
        elements.extend(peer.uri_names.iter().map(|uri| format!("URI={uri}")));
    }
    if details.dns {
        elements.extend(peer.dns_names.iter().map(|name| format!("DNS={name}")));
    }
    value.extend_from_slice(elements.join(";").as_bytes());
    head.fields_mut().set(NAME, &value)
}
