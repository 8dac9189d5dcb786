//! One picture of a session's screen, as a file.

use std::time::Duration;

use bytes::Bytes;

use super::viewer::{Backend, NotReady, Session};
use crate::rfb::Access;
use crate::rfb::still::StillFormat;
use crate::vnc::native::CameraError;

/// For the screen to be looked at and encoded.
const DEADLINE: Duration = Duration::from_secs(5);
/// When to ask again where another picture is being taken.
const BUSY_RETRY: Duration = Duration::from_secs(1);

/// Why there is no screenshot.
#[derive(Debug, thiserror::Error)]
pub enum ScreenshotError {
    /// The screen is another RFB server's.
    #[error("the display is not served natively")]
    NotNative,
    /// There is no picture at the moment.
    #[error("not ready: {}", .0.reason)]
    NotReady(NotReady),
    /// Another one is being made, or was a moment ago.
    #[error("another screenshot is being made")]
    Busy {
        /// When to ask again.
        retry_after: Duration,
    },
    /// It cannot be made, which somebody has to look into.
    #[error("cannot make a screenshot")]
    Failed(#[source] CameraError),
}

impl Session {
    /// The screen as it is now, without the pointer.
    ///
    /// # Errors
    /// See [`ScreenshotError`].
    pub async fn screenshot(&self, format: StillFormat) -> Result<Bytes, ScreenshotError> {
        let Backend::Native { screen, camera, .. } = &self.inner.backend else {
            return Err(ScreenshotError::NotNative);
        };
        // Where a viewer would be turned away, so is this.
        let _place = self.viewer(Access::ViewOnly).await.map_err(ScreenshotError::NotReady)?;
        camera.take(screen, format, DEADLINE).await.map_err(|error| match error {
            CameraError::Busy => ScreenshotError::Busy { retry_after: BUSY_RETRY },
            CameraError::NoPicture => ScreenshotError::NotReady(NotReady {
                retry_after: BUSY_RETRY,
                reason: "the display has no picture yet",
            }),
            error @ (CameraError::Encoding(_) | CameraError::Worker(_)) => ScreenshotError::Failed(error),
        })
    }
}
