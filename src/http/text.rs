//! What servers elsewhere answer, as text of a bounded size.

use reqwest::Response;

/// Why an answer's body is not taken.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// It did not come whole.
    #[error("the answer broke off")]
    Http(#[from] reqwest::Error),
    /// It is larger than it may be.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// It is no text.
    #[error("the answer is not UTF-8")]
    NotText,
}

/// The body of an answer, of at most `limit` bytes. One that says that it is larger is not read at all.
///
/// # Errors
/// See [`TextError`].
pub async fn text(mut response: Response, limit: usize) -> Result<String, TextError> {
    let announced = response.content_length().and_then(|length| usize::try_from(length).ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(TextError::TooLarge(limit));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > limit {
            return Err(TextError::TooLarge(limit));
        }
        body.extend_from_slice(&chunk);
    }
    String::from_utf8(body).map_err(|_| TextError::NotText)
}
