//! An answer that keeps its request's room until it has been sent. It goes out in pieces, each once there is room for it in the
//! connection's own buffer, so that answers that nobody reads are counted.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::response::Response;
use hyper::body::{Frame, SizeHint};

use crate::admission::Permit;

/// Bytes of a piece.
const PIECE: usize = 64 << 10;

struct Held {
    left: Bytes,
    _permit: Permit,
}

impl hyper::body::Body for Held {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let size = self.left.len().min(PIECE);
        Poll::Ready((size > 0).then(|| Ok(Frame::data(self.left.split_to(size)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}

/// The same answer, which keeps what a request has under way until it has been sent.
pub(crate) async fn held(response: Response, mut permit: Permit) -> Response {
    permit.computed();
    let (parts, body) = response.into_parts();
    match axum::body::to_bytes(body, usize::MAX).await {
        Ok(left) => Response::from_parts(parts, Body::new(Held { left, _permit: permit })),
        // Answers are made of bytes that there are already.
        Err(_) => Response::from_parts(parts, Body::empty()),
    }
}
