//! Where pictures of one display are encoded, each rectangle once for all viewers of a class.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use crate::rfb::Frame;
use crate::rfb::client_message::Area;
use crate::rfb::encode::{Class, Encoded, Encoder, Error, pieces};
use crate::tasks::Blocking;

/// Encoded bytes that are kept for the next viewer; a picture of 1920×1080 in JPEG has a tenth of it.
const KEPT: usize = 8 << 20;
/// Pixels that are encoded where they are needed, since that takes less time than asking somebody else.
const AT_ONCE: u32 = 16 << 10;

/// The encoder of a display. Cheap to clone.
#[derive(Clone, Default)]
pub struct Studio(Arc<Mutex<Work>>);

#[derive(Default)]
struct Work {
    /// Made when it is first needed: it has tables of some hundred KiB.
    encoder: Option<Encoder>,
    kept: HashMap<(Class, Area), (u64, Encoded)>,
    bytes: usize,
}

impl Studio {
    /// The rectangles of `frame` that make up `areas`. `shared`: whether somebody else may want them too.
    ///
    /// # Errors
    /// When they cannot be encoded, for lack of memory.
    pub(super) async fn encode(
        &self,
        frame: &Arc<Frame>,
        class: Class,
        areas: Vec<Area>,
        shared: bool,
    ) -> Result<Vec<Encoded>, Error> {
        let pixels = |area: &Area| u32::from(area.width) * u32::from(area.height);
        if areas.iter().map(pixels).fold(0, u32::saturating_add) <= AT_ONCE {
            // Somebody else at work may take longer.
            match self.0.try_lock() {
                Ok(mut work) => return work.encode(frame, class, &areas, shared),
                Err(TryLockError::Poisoned(poisoned)) => {
                    return poisoned.into_inner().encode(frame, class, &areas, shared);
                }
                Err(TryLockError::WouldBlock) => {}
            }
        }
        let (studio, frame) = (self.clone(), Arc::clone(frame));
        let work = Blocking::start(move || studio.work().encode(&frame, class, &areas, shared));
        work.done().await.unwrap_or_else(|panic| Err(Error::Worker(panic)))
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Work {
    fn encode(
        &mut self,
        frame: &Frame,
        class: Class,
        areas: &[Area],
        shared: bool,
    ) -> Result<Vec<Encoded>, Error> {
        pieces(areas).map(|piece| self.piece(frame, class, piece, shared)).collect()
    }

    fn piece(&mut self, frame: &Frame, class: Class, piece: Area, shared: bool) -> Result<Encoded, Error> {
        let version = frame.version(piece);
        if shared
            && let Some((known, encoded)) = self.kept.get(&(class, piece))
            && *known == version
        {
            return Ok(encoded.clone());
        }
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            none => none.insert(Encoder::new()?),
        };
        let encoded = encoder.encode(frame, piece, class)?;
        if shared {
            if self.bytes > KEPT {
                self.kept.clear();
                self.bytes = 0;
            }
            self.bytes += encoded.bytes.len();
            if let Some((_, old)) = self.kept.insert((class, piece), (version, encoded.clone())) {
                self.bytes = self.bytes.saturating_sub(old.bytes.len());
            }
        } else if !self.kept.is_empty() {
            (self.kept, self.bytes) = (HashMap::new(), 0);
        }
        Ok(encoded)
    }
}
