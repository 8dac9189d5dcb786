//! Looking up the host that a client asks, where the configuration names it and does not give its address.
//!
//! The system's resolver is asked: it knows what `/etc/hosts`, Fly and the cloud say. It blocks, for half a minute where
//! its servers are silent, so that it has a thread to itself, and there is one at most for each [`Names`]. Who asks waits
//! for [`PATIENCE`], and then takes the addresses that were right last: TLS decides whether somebody else has them by now.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::tasks::Blocking;

/// For the system's resolver.
const PATIENCE: Duration = Duration::from_secs(2);

type Lookup = Arc<dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync>;
/// None while it is under way.
type Answer = Option<Result<Vec<SocketAddr>, String>>;

/// Why there is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum LookupError {
    /// The system's resolver has none.
    #[error("its name is not known: {0}")]
    Unknown(String),
    /// The system's resolver takes its time.
    #[error("its name was not looked up within {} s", PATIENCE.as_secs())]
    Slow,
}

/// Looks up the name of one host at a time, and remembers it. Cheap to clone.
#[derive(Clone)]
pub struct Names {
    lookup: Lookup,
    patience: Duration,
    book: Arc<Mutex<Book>>,
}

/// A lock, since the resolver's thread writes here; held for a look.
#[derive(Default)]
struct Book {
    name: String,
    /// What was right last.
    known: Vec<SocketAddr>,
    /// The last that was begun, and when. Its sender is gone where it panicked.
    last: Option<(watch::Receiver<Answer>, Instant)>,
}

impl Default for Names {
    /// Those of the system's resolver.
    fn default() -> Self {
        Self::by(Arc::new(|name| (name, 0).to_socket_addrs().map(Iterator::collect)), PATIENCE)
    }
}

impl Names {
    fn by(lookup: Lookup, patience: Duration) -> Self {
        Self { lookup, patience, book: Arc::default() }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The addresses of `name`, with port 0.
    ///
    /// # Errors
    /// See [`LookupError`]; never where there was an answer before.
    async fn find(&self, name: &str) -> Result<Vec<SocketAddr>, LookupError> {
        let (mut answer, began) = self.begin(name);
        // One that was too slow for somebody else is not waited for again.
        let left = self.patience.saturating_sub(began.elapsed());
        let error = match timeout(left, answer.wait_for(Option::is_some)).await {
            Ok(Ok(found)) => match &*found {
                Some(Ok(addresses)) => return Ok(addresses.clone()),
                Some(Err(error)) => LookupError::Unknown(error.clone()),
                None => LookupError::Slow,
            },
            // It panicked.
            Ok(Err(_)) => LookupError::Unknown("the lookup failed".to_owned()),
            Err(_) => LookupError::Slow,
        };
        let book = self.book();
        if book.name != name || book.known.is_empty() {
            return Err(error);
        }
        tracing::debug!(name, %error, "the addresses that were known last are taken");
        Ok(book.known.clone())
    }

    /// Begins to look up `name`, where that is not under way.
    fn begin(&self, name: &str) -> (watch::Receiver<Answer>, Instant) {
        let mut book = self.book();
        if book.name != name {
            *book = Book { name: name.to_owned(), ..Book::default() };
        }
        if let Some((answer, began)) = &book.last
            && answer.borrow().is_none()
            && answer.has_changed().is_ok()
        {
            return (answer.clone(), *began);
        }
        let (found, answer) = watch::channel(None);
        let began = Instant::now();
        book.last = Some((answer.clone(), began));
        drop(book);
        let (names, name) = (self.clone(), name.to_owned());
        // It goes on alone: an answer that comes late is one for the next who asks.
        let _unwatched = Blocking::start(move || {
            let outcome = match (names.lookup)(&name) {
                Ok(addresses) if addresses.is_empty() => Err("it has no address".to_owned()),
                outcome => outcome.map_err(|error| error.to_string()),
            };
            if let (Ok(addresses), mut book) = (&outcome, names.book())
                && book.name == name
            {
                book.known.clone_from(addresses);
            }
            found.send_replace(Some(outcome));
        });
        (answer, began)
    }
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let names = self.clone();
        Box::pin(async move {
            let addresses = names.find(name.as_str()).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(60);

    /// A resolver that answers what it is given, one for each time that it is asked, and hangs until then.
    fn resolver() -> (SyncSender<io::Result<Vec<SocketAddr>>>, Receiver<String>, Lookup) {
        let (answers, given) = sync_channel::<io::Result<Vec<SocketAddr>>>(8);
        let (asked, questions) = sync_channel(8);
        let given = Mutex::new(given);
        let lookup = move |name: &str| {
            asked.send(name.to_owned()).unwrap();
            given.lock().unwrap().recv().unwrap()
        };
        (answers, questions, Arc::new(lookup))
    }

    fn address(text: &str) -> Vec<SocketAddr> {
        vec![SocketAddr::new(text.parse().unwrap(), 0)]
    }

    #[tokio::test]
    async fn f32_a_name_that_cannot_be_looked_up_leads_where_it_led_last() {
        let (answers, questions, lookup) = resolver();
        let unknown = || Err(io::Error::other("no such name"));
        let names = Names::by(lookup, LONG);
        answers.send(unknown()).unwrap();
        let first = names.find("control.test").await;
        assert_eq!(first, Err(LookupError::Unknown("no such name".to_owned())));
        answers.send(Ok(address("192.0.2.1"))).unwrap();
        assert_eq!(names.find("control.test").await, Ok(address("192.0.2.1")));
        for bad in [unknown(), Ok(Vec::new())] {
            answers.send(bad).unwrap();
            assert_eq!(names.find("control.test").await, Ok(address("192.0.2.1")));
        }
        // It moves when it is said to, to a private address as well: TLS says whether it is the right one.
        answers.send(Ok(address("10.0.0.1"))).unwrap();
        assert_eq!(names.find("control.test").await, Ok(address("10.0.0.1")));
        // Another name has nothing of it.
        answers.send(unknown()).unwrap();
        assert!(names.find("keys.test").await.is_err());
        assert_eq!(questions.try_iter().count(), 6);
    }

    #[tokio::test]
    async fn f32_a_resolver_that_hangs_has_one_thread_and_nobody_waits_longer_than_they_may() {
        let (answers, questions, lookup) = resolver();
        let names = Names::by(lookup, SHORT);
        for _ in 0..20 {
            assert_eq!(names.find("control.test").await, Err(LookupError::Slow));
        }
        assert_eq!(questions.recv_timeout(LONG).unwrap(), "control.test");
        assert!(questions.try_recv().is_err(), "it is asked once");
        // What comes late is there for the next.
        let (late, _) = names.begin("control.test");
        answers.send(Ok(address("192.0.2.1"))).unwrap();
        let mut over = late.clone();
        timeout(LONG, over.wait_for(Option::is_some)).await.unwrap().unwrap();
        drop((late, over));
        // The resolver hangs again.
        for _ in 0..20 {
            assert_eq!(names.find("control.test").await, Ok(address("192.0.2.1")));
        }
        assert_eq!(questions.recv_timeout(LONG).unwrap(), "control.test");
        assert!(questions.try_recv().is_err());
        answers.send(Ok(Vec::new())).unwrap();
    }
}
