//! The screen as one file.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode};

use super::refused::Refused;
use crate::errors::chain;
use crate::http::body::uncached;
use crate::rfb::still::{JpegQuality, StillFormat};
use crate::session::{ScreenshotError, Session};

/// Why there is none, beside what holds for every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoScreenshot {
    /// A quality off its scale, or of a picture that has none.
    Quality,
    /// The session's screen is another RFB server's.
    NotNative,
    /// Another one of the session is being made, or was a moment ago.
    Busy(Duration),
    /// What should work did not.
    Failed,
}

impl NoScreenshot {
    /// Status, problem, sentence, metric label.
    pub(super) fn outside(self) -> (StatusCode, &'static str, &'static str, &'static str) {
        match self {
            Self::Quality => (
                StatusCode::BAD_REQUEST,
                "invalid-request",
                "The quality is a number from 1 to 100, and a JPEG's.",
                "quality",
            ),
            Self::NotNative => (
                StatusCode::NOT_FOUND,
                "no-screenshots",
                "Only a display with rfb = \"native\" has screenshots.",
                "no_screenshots",
            ),
            Self::Busy(_) => (
                StatusCode::TOO_MANY_REQUESTS,
                "too-many-screenshots",
                "Another screenshot of the session is being made, or was a moment ago.",
                "screenshots",
            ),
            Self::Failed => {
                (StatusCode::INTERNAL_SERVER_ERROR, "internal", "The picture cannot be made.", "failed")
            }
        }
    }
}

impl From<NoScreenshot> for Refused {
    fn from(why: NoScreenshot) -> Self {
        Self::Screenshot(why)
    }
}

/// What a request asks for: `pattern` is its route's. Credentials may be in the query as well, and are somebody else's.
pub(super) fn wanted(pattern: &str, query: Option<&str>) -> Result<StillFormat, Refused> {
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let mut quality = None;
    for pair in pairs {
        match pair.split_once('=') {
            Some(("ticket" | "token", _)) => {}
            Some(("quality", number)) if quality.is_none() => {
                let number = number.parse().ok().and_then(JpegQuality::new);
                quality = Some(number.ok_or(NoScreenshot::Quality)?);
            }
            Some(("quality", _)) => return Err(NoScreenshot::Quality.into()),
            _ => return Err(Refused::BadQuery),
        }
    }
    match quality {
        _ if pattern.ends_with(".jpg") => Ok(StillFormat::Jpeg(quality.unwrap_or_default())),
        Some(_) => Err(NoScreenshot::Quality.into()),
        None => Ok(StillFormat::Png),
    }
}

/// Takes it.
pub(super) async fn take(session: &Session, format: StillFormat) -> Result<Bytes, Refused> {
    session.screenshot(format).await.map_err(|error| match error {
        ScreenshotError::NotNative => NoScreenshot::NotNative.into(),
        ScreenshotError::NotReady(why) => {
            tracing::debug!(session = %session.id(), reason = why.reason, "not ready for a screenshot");
            Refused::NotReady(why.retry_after)
        }
        ScreenshotError::Busy { retry_after } => NoScreenshot::Busy(retry_after).into(),
        error @ ScreenshotError::Failed(_) => {
            tracing::error!(session = %session.id(), error = %chain(&error), %format, "no screenshot");
            NoScreenshot::Failed.into()
        }
    })
}

/// As it is sent.
pub(super) fn response(format: StillFormat, file: Bytes) -> Response<Full<Bytes>> {
    uncached(StatusCode::OK, format.media_type(), file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quality_is_a_number_from_1_to_100_and_a_jpeg_s() {
        let of =
            |kind: &str, query: &str| wanted(&format!("/sessions/{{id}}/screenshot.{kind}"), Some(query));
        let jpeg = |quality| Ok(StillFormat::Jpeg(JpegQuality::new(quality).unwrap()));
        assert_eq!(of("png", ""), Ok(StillFormat::Png));
        assert_eq!(of("png", "ticket=abc"), Ok(StillFormat::Png));
        assert_eq!(of("jpg", ""), jpeg(80));
        assert_eq!(of("jpg", "quality=1&token=abc"), jpeg(1));
        assert_eq!(of("jpg", "ticket=abc&quality=100"), jpeg(100));
        for query in ["quality=0", "quality=101", "quality=", "quality=best", "quality=5&quality=5"] {
            assert_eq!(of("jpg", query), Err(NoScreenshot::Quality.into()), "{query}");
        }
        assert_eq!(of("png", "quality=80"), Err(NoScreenshot::Quality.into()));
        assert_eq!(of("jpg", "quality"), Err(Refused::BadQuery));
        assert_eq!(of("jpg", "width=100"), Err(Refused::BadQuery));
    }
}
