//! What outlives the daemon: sessions, the identities of their processes, the requests that made them, profiles, and what the
//! control plane has not heard yet, in one SQLite file.
//!
//! A session's manager puts the latest row of a thing whenever it changes; [`pending`] holds the rows until a thread of the
//! store's own ([`writer`]) has them on disk, however long a full or failing disk takes. Nobody waits for the disk but who
//! asks to ([`Store::flush`], and reading). [`file`] opens the file, and sets one aside that cannot be used: starting never
//! depends on what an earlier life of the daemon, or a failing disk, has left.
//!
//! The file is one process's: it is opened with SQLite's exclusive lock, so that there is no shared memory file, which on a
//! full or failing disk would be a SIGBUS.

mod file;
mod handle;
mod metrics;
mod outbox;
mod pending;
mod profiles;
mod rows;
mod schema;
mod writer;

pub use file::{Damage, SetAside};
pub use handle::{Flushed, Opened, Store, StoreError, StoreHealth};
pub use metrics::Metrics;
pub use rows::{
    EventRow, IdempotencyRow, Outbox, ProcessRow, ProfileRow, ProfileRows, SessionKey, SessionRow, Waiting,
};

#[cfg(test)]
mod tests;
