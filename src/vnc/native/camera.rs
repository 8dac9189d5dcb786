//! Single pictures of a display, for those who do not watch it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::server::NO_PICTURE;
use crate::display::screen::Screen;
use crate::rfb::still::{self, StillFormat, still};
use crate::tasks::Blocking;

/// Between the end of one picture and the beginning of the next.
const PAUSE: Duration = Duration::from_millis(250);

/// Takes pictures of one display, one at a time and with a pause between, so that they cost a bounded share of a core.
/// Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Camera(Arc<Mutex<Turn>>);

/// Whose turn it is. The mutex is held for a look and never across an await.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Turn {
    #[default]
    Free,
    Taken,
    FreeFrom(Instant),
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum CameraError {
    /// Another one is being taken, or was a moment ago.
    #[error("another picture is being taken, or was {} ms ago", PAUSE.as_millis())]
    Busy,
    /// The display has none yet, or the encoder is late.
    #[error("the display has no picture yet")]
    NoPicture,
    /// It cannot be encoded.
    #[error("cannot encode the picture")]
    Encoding(#[from] still::Error),
    /// The thread that did it panicked, which would be a bug.
    #[error("the encoder's thread panicked")]
    Worker(#[source] std::io::Error),
}

impl Camera {
    /// The screen as it is now, as a file, within `deadline`. Where nobody looks on, the screen is looked at for this.
    ///
    /// # Errors
    /// See [`CameraError`].
    pub async fn take(
        &self,
        screen: &Screen,
        format: StillFormat,
        deadline: Duration,
    ) -> Result<Bytes, CameraError> {
        let turn = self.turn().ok_or(CameraError::Busy)?;
        let end = Instant::now() + deadline;
        let look = screen.look();
        let newest = async {
            look.newer(NO_PICTURE).await;
            look.fresh().await;
            look.frame()
        };
        let frame = timeout(deadline, newest).await.map_err(|_| CameraError::NoPicture)?;
        drop(look);
        // The turn is over when the work is, also where nobody waits for it any more.
        let work = Blocking::start(move || {
            let file = still(&frame, format);
            drop(turn);
            file
        });
        match work.within(end.saturating_duration_since(Instant::now())).await {
            Ok(done) => Ok(done.map_err(CameraError::Worker)??.into()),
            Err(_late) => Err(CameraError::NoPicture),
        }
    }

    fn turn(&self) -> Option<MyTurn> {
        let mut turn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = match *turn {
            Turn::Free => true,
            Turn::Taken => false,
            Turn::FreeFrom(moment) => moment <= Instant::now(),
        };
        is_free.then(|| {
            *turn = Turn::Taken;
            MyTurn(Arc::clone(&self.0))
        })
    }
}

/// The turn of one picture; given on when dropped.
#[derive(Debug)]
struct MyTurn(Arc<Mutex<Turn>>);

impl Drop for MyTurn {
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Turn::FreeFrom(Instant::now() + PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_picture_at_a_time_and_then_a_pause() {
        let camera = Camera::default();
        let first = camera.turn().unwrap();
        assert!(camera.clone().turn().is_none(), "while one is being taken");
        tokio::time::advance(PAUSE * 2).await;
        assert!(camera.turn().is_none(), "however long that takes");
        drop(first);
        assert!(camera.turn().is_none(), "right behind it");
        tokio::time::advance(PAUSE).await;
        assert!(camera.turn().is_some());
    }
}
