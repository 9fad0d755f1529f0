//! The pictures of a request's body: one, as it is, or several as `multipart/form-data`.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use multer::Multipart;

use super::problem::Problem;

/// A picture's bytes under a name.
pub(crate) struct Picture {
    pub(crate) name: String,
    pub(crate) bytes: Bytes,
}

/// Whether the body has several parts, by the headers alone.
///
/// # Errors
/// A type that no picture has.
pub(crate) fn boundary(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return Ok(None) };
    let kind = kind.to_str().unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "multipart/form-data" => {
            let boundary = multer::parse_boundary(kind);
            boundary.map(Some).map_err(|error| Problem::request(format!("Content-Type: {error}")))
        }
        // What curl says of --data-binary unless it is told.
        "" | "application/octet-stream" | "application/x-www-form-urlencoded" => Ok(None),
        image if image.starts_with("image/") => Ok(None),
        other => {
            let found = other.escape_debug();
            let message = format!(
                "Content-Type: expected a picture (image/…, application/octet-stream) or several as multipart/form-data, got '{found}'"
            );
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
        }
    }
}

/// The pictures of a body, at most so many; at least one.
pub(crate) async fn of(body: Bytes, boundary: Option<String>, most: usize) -> Result<Vec<Picture>, Problem> {
    let Some(boundary) = boundary else {
        return match body.is_empty() {
            true => Err(Problem::request("the body is empty: expected a picture's bytes")),
            false => Ok(vec![Picture { name: "picture 0".to_owned(), bytes: body }]),
        };
    };
    let broken = |error: multer::Error| Problem::request(format!("the body is no multipart/form-data: {error}"));
    let mut parts = Multipart::new(Body::from(body).into_data_stream(), boundary);
    let mut pictures = Vec::new();
    while let Some(part) = parts.next_field().await.map_err(broken)? {
        if pictures.len() == most {
            let message = format!("the request has more than {most} pictures (--max-queue)");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        let name = part.file_name().or(part.name()).map(str::to_owned);
        let name = name.unwrap_or_else(|| format!("picture {}", pictures.len()));
        pictures.push(Picture { name, bytes: part.bytes().await.map_err(broken)? });
    }
    if pictures.is_empty() {
        return Err(Problem::request(
            "the body has no part: expected pictures, such as curl -F picture=@cat.jpg sends them",
        ));
    }
    Ok(pictures)
}
