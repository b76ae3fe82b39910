//! What one request asks of the answer, beside what the command line says.
//!
//! Query parameters `delay`, `status` and `size`, or the header fields `x-upstream-delay`, `x-upstream-status`
//! and `x-upstream-size`, change one answer. Query parameters of other names are no control: they travel on
//! with the calls this request causes, so that a route deeper in the mesh can match them.

use std::time::Duration;

use crate::latency::Latency;
use crate::limits::ANSWER_BYTES_MAX;
use crate::message::Fields;

/// Wishes of one request; `None` leaves the command line's choice.
#[derive(Debug, Default, PartialEq)]
pub struct Control {
    /// Hold the answer back this long.
    pub delay: Option<Duration>,
    /// Answer with this status.
    pub status: Option<u16>,
    /// Answer with this many bytes instead of JSON.
    pub size: Option<u64>,
    /// The query without the parameters above, ready to be appended to a call; empty or without the `?`.
    pub forwarded_query: String,
}

impl Control {
    /// Reads a request's wishes, or says which of them makes no sense.
    pub fn read(target: &str, fields: &Fields<'_>) -> Result<Self, String> {
        let mut control = Self::default();
        for (field, name) in
            [("x-upstream-delay", "delay"), ("x-upstream-status", "status"), ("x-upstream-size", "size")]
        {
            if let Some(value) = fields.get(field) {
                control.set(name, value)?;
            }
        }
        let query = target.split_once('?').map_or("", |(_, query)| query);
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            if !control.set(name, value)? {
                if !control.forwarded_query.is_empty() {
                    control.forwarded_query.push('&');
                }
                control.forwarded_query.push_str(parameter);
            }
        }
        Ok(control)
    }

    /// Sets one wish; `false` when the name is no control.
    fn set(&mut self, name: &str, value: &str) -> Result<bool, String> {
        match name {
            "delay" => {
                let latency: Latency = value.parse().map_err(|error| format!("{error}"))?;
                self.delay = Some(latency.draw());
            }
            "status" => {
                let status = value.parse().ok().filter(|status| (200..=599).contains(status));
                self.status = Some(status.ok_or_else(|| format!("status `{value}` is not in 200..=599"))?);
            }
            "size" => {
                let size = value.parse().ok().filter(|size| *size <= ANSWER_BYTES_MAX);
                self.size =
                    Some(size.ok_or_else(|| format!("size `{value}` is not in 0..={ANSWER_BYTES_MAX}"))?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(target: &str, head: &str) -> Result<Control, String> {
        let mut storage = [httparse::EMPTY_HEADER; 8];
        let mut request = httparse::Request::new(&mut storage);
        request.parse(head.as_bytes()).expect("a valid head");
        Control::read(target, &Fields(request.headers))
    }

    const BARE: &str = "GET / HTTP/1.1\r\n\r\n";

    #[test]
    fn query_parameters_control_the_answer_and_the_rest_travels_on() {
        let control = read("/reviews/0?delay=3s&color=red&status=503&size=7&flag", BARE).expect("valid");
        assert_eq!(control.delay, Some(Duration::from_secs(3)));
        assert_eq!((control.status, control.size), (Some(503), Some(7)));
        assert_eq!(control.forwarded_query, "color=red&flag");
    }

    #[test]
    fn header_fields_control_the_answer_too() {
        let control = read("/", "GET / HTTP/1.1\r\nX-Upstream-Status: 404\r\n\r\n").expect("valid");
        assert_eq!(control.status, Some(404));
    }

    #[test]
    fn senseless_wishes_are_refused() {
        for target in ["/?delay=soon", "/?status=99", "/?status=", "/?size=-1"] {
            assert!(read(target, BARE).is_err(), "{target}");
        }
    }
}
