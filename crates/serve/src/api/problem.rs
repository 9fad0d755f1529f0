//! Answers that say what is wrong: a status and `{"error": "…"}`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use convnet::Error;
use convnet::data::PictureError;
use serde_json::json;

/// Why a request is not answered.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    message: String,
    /// Seconds after which it may be tried again.
    retry_after: Option<u64>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Problem {
        Problem { status, message: message.into(), retry_after: None }
    }

    /// Something in the request.
    pub(crate) fn request(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, message)
    }

    /// Something that there is not.
    pub(crate) fn missing(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, message)
    }

    /// Too much is under way.
    pub(crate) fn busy(message: impl Into<String>, retry_after: u64) -> Problem {
        Problem { retry_after: Some(retry_after), ..Problem::new(StatusCode::SERVICE_UNAVAILABLE, message) }
    }

    /// The files of the model have changed.
    pub(crate) fn changed() -> Problem {
        let message = "the model's files have changed since it was loaded: load it again, as POST \
                       /v2/repository/models/{model}/load does";
        Problem::new(StatusCode::CONFLICT, message)
    }

    /// Whether it is [`Problem::changed`].
    pub(crate) fn is_changed(&self) -> bool {
        self.status == StatusCode::CONFLICT
    }

    /// Whether the request may be answered another time, or in more time: nothing is wrong with its pictures.
    pub(crate) fn is_of_time(&self) -> bool {
        matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::REQUEST_TIMEOUT)
    }

    /// What is wrong.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }
}

/// An error of the library that a request has caused, unless it is plainly of the server's own files or threads.
impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        let status = match &error {
            Error::File { .. } | Error::Io { .. } | Error::Weights { .. } | Error::Metadata { .. } => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Error::Thread { .. } | Error::Locked { .. } | Error::Feature { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            Error::Picture { problem: PictureError::Pixels { .. } | PictureError::Bytes { .. }, .. } => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            // The rest is about what was asked for: a picture, a layer, a class, a setting.
            _ => StatusCode::BAD_REQUEST,
        };
        Problem::new(status, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "error": self.message }))).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
