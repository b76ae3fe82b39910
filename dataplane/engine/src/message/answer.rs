//! An answer that an upstream has not begun yet.

use ringsail_http::{ResponseDecoder, ResponseHead};

use super::{Incoming, Outgoing};
use crate::failure::Failure;
use crate::forward;
use crate::http2::{self, Receive};
use crate::inflow::Inflow;
use crate::progress::Progress;
use crate::stream::Stream;

/// Where the answer to a request comes from.
#[derive(Debug)]
pub enum Answer<'a> {
    /// An HTTP/1 connection.
    H1 {
        /// Its socket.
        stream: &'a Stream,
        /// What was received of it.
        inflow: &'a mut Inflow,
        /// Decodes the heads.
        decoder: ResponseDecoder,
    },
    /// An HTTP/2 stream, with its body once the head is here.
    H2(http2::Answer, Option<Receive>),
}

impl<'a> Answer<'a> {
    /// Receives the final head into `head`. A 100 goes to `interim`, where there is one, before going on.
    pub async fn head(
        &mut self,
        head: &mut ResponseHead,
        interim: Option<&mut Outgoing<'_>>,
        progress: &Progress,
    ) -> Result<(), Failure> {
        match self {
            Answer::H1 { stream, inflow, decoder } => {
                forward::response_head(stream, inflow, decoder, head, interim, progress).await
            }
            Answer::H2(answer, body) => {
                *body = Some(answer.head(head, interim, progress).await?);
                Ok(())
            }
        }
    }

    /// Whether the message is over with its head. On HTTP/1 the head's framing says that.
    pub fn ends_with_head(&self) -> bool {
        match self {
            Answer::H1 { .. } | Answer::H2(_, None) => true,
            Answer::H2(_, Some(body)) => body.is_end(),
        }
    }

    /// The body after the head.
    pub fn body(self, length: ringsail_http::BodyLength) -> Option<Incoming<'a>> {
        match self {
            Answer::H1 { stream, inflow, .. } => Some(Incoming::h1(stream, inflow, length)),
            Answer::H2(_, body) => body.map(Incoming::H2),
        }
    }
}
