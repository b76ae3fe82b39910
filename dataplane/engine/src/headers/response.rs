//! Response heads on their way to the client.

use ringsail_http::{EditError, ResponseHead};
use ringsail_tables::hcm::{HttpConnectionManager, ServerHeader};

/// The connection manager's own additions, after the route's operations. The upstream's `date` is kept.
pub fn settle_fields(
    head: &mut ResponseHead,
    manager: &HttpConnectionManager,
    date: &[u8],
    request_id: Option<&[u8]>,
) -> Result<(), EditError> {
    let fields = head.fields_mut();
    if !fields.contains("date") {
        fields.append("date", date)?;
    }
    match manager.server_header {
        ServerHeader::Overwrite => fields.set("server", manager.server_name.as_bytes())?,
        ServerHeader::AppendIfAbsent => {
            if !fields.contains("server") {
                fields.append("server", manager.server_name.as_bytes())?;
            }
        }
        ServerHeader::PassThrough => {}
    }
    if manager.always_set_request_id_in_response
        && let Some(id) = request_id
    {
        fields.set("x-request-id", id)?;
    }
    if !manager.via.is_empty() {
        fields.append("via", manager.via.as_bytes())?;
    }
    Ok(())
}

/// Value of `server` in our own answers; `None` leaves it out.
pub fn server_of_local_reply(manager: &HttpConnectionManager) -> Option<&[u8]> {
    match manager.server_header {
        ServerHeader::PassThrough => None,
        ServerHeader::Overwrite | ServerHeader::AppendIfAbsent => Some(manager.server_name.as_bytes()),
    }
}
