//! A network of the test's own: namespaces of two threads, one with the host under test, one with "the internet" and the
//! services that a cloud puts beside a host. Both go with their threads.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};

use super::wait_for;

/// A public address, in namespaces that lead nowhere: reserved ones are no "public" to a browser.
pub(crate) const INTERNET: &str = "11.22.33.44";
/// Where clouds keep their metadata service, EC2 its IPv6 one, Fly its private network, and companies their own.
pub(crate) const BESIDE: [&str; 4] = ["169.254.169.254", "fd00:ec2::254", "fdaa::3", "10.9.9.9"];
/// Between looks at whether it is time to go.
const TICK: Duration = Duration::from_millis(5);

/// Runs `ip` and its kin in the caller's network.
#[expect(clippy::disallowed_methods, reason = "the test sets up what an administrator would")]
pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {text}");
    String::from_utf8(output.stdout).unwrap()
}

fn ip(line: &str) {
    run("ip", &line.split(' ').collect::<Vec<_>>());
}

/// What listens, and how often it was reached.
pub(crate) struct Listener {
    pub(crate) address: SocketAddr,
    /// From where it was connected to.
    accepted: Shared<Vec<SocketAddr>>,
    over: Arc<AtomicBool>,
    task: Option<JoinHandle<()>>,
}

/// What an HTTP listener answers: the head's first line and the body, to the body.
pub(crate) type Answer = Box<dyn Fn(&str, &str) -> String + Send + Sync>;

impl Listener {
    /// Counts connections, and answers each with an empty page that anybody may read.
    pub(crate) fn counting(ip: &str, port: u16) -> Self {
        Self::answering(ip, port, Box::new(|_line, _body| String::new()))
    }

    pub(crate) fn answering(ip: &str, port: u16, answer: Answer) -> Self {
        let listener = TcpListener::bind((ip.parse::<IpAddr>().unwrap(), port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, over) = (Shared::<Vec<SocketAddr>>::default(), Arc::new(AtomicBool::new(false)));
        let (seen, end) = (Arc::clone(&accepted), Arc::clone(&over));
        let serve = move || {
            // One that says nothing must not hold up those after it.
            std::thread::scope(|scope| {
                while !end.load(Ordering::Relaxed) {
                    match listener.accept() {
                        Ok((stream, from)) => {
                            seen.lock().unwrap().push(from);
                            let answer = &answer;
                            let one = move || serve_one(stream, answer);
                            Builder::new().spawn_scoped(scope, one).unwrap();
                        }
                        Err(_none_yet) => std::thread::park_timeout(TICK),
                    }
                }
            });
        };
        let task = Builder::new().name(format!("listener {address}")).spawn(serve).unwrap();
        Self { address, accepted, over, task: Some(task) }
    }

    /// How often it was connected to, those included that still waited to be accepted.
    pub(crate) fn settled(&self) -> usize {
        let own = TcpStream::connect(self.address).unwrap();
        let from = own.local_addr().unwrap();
        wait_for("our own connection, behind all others", Duration::from_secs(10), || {
            let mut accepted = self.accepted.lock().unwrap();
            let at = accepted.iter().position(|address| *address == from)?;
            accepted.remove(at);
            Some(accepted.len())
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(task) = self.task.take() {
            let _panicked = task.join();
        }
    }
}

fn serve_one(mut stream: TcpStream, answer: &Answer) {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    let whole = |request: &[u8]| {
        let text = String::from_utf8_lossy(request);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        });
        (body.len() >= length.unwrap_or(0)).then(|| (head.to_owned(), body.to_owned()))
    };
    // Who says nothing, or hangs up, was counted all the same.
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        request.extend_from_slice(&buffer[..read]);
        if let Some((head, body)) = whole(&request) {
            let text = answer(head.lines().next().unwrap_or_default(), &body);
            let head = "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Type: text/html\r\nConnection: close";
            let _gone = write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{text}", text.len());
            return;
        }
    }
}

/// "The internet", in a thread of its own.
pub(crate) struct World {
    jobs: Option<SyncSender<Box<dyn FnOnce() + Send>>>,
    task: Option<JoinHandle<()>>,
}

impl World {
    /// Does `job` out there.
    pub(crate) fn with<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (reply, answer) = sync_channel(1);
        let job = Box::new(move || reply.send(job()).unwrap());
        self.jobs.as_ref().unwrap().send(job).unwrap();
        answer.recv().unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.jobs = None;
        let _panicked = self.task.take().unwrap().join();
    }
}

/// Runs `test` in a thread whose network holds nothing but what is made here; `None` where that takes more rights than the
/// caller has.
pub(crate) fn in_own_network<T: Send>(test: impl FnOnce(&World) -> T + Send) -> Option<T> {
    if !nix::unistd::geteuid().is_root() {
        println!("not root: nothing was tested");
        return None;
    }
    std::thread::scope(|scope| {
        let inside = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ip("link set lo up");
            let world = World::start();
            test(&world)
        };
        let thread = Builder::new().name("host under test".into()).spawn_scoped(scope, inside).unwrap();
        match thread.join() {
            Ok(value) => Some(value),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

impl World {
    fn start() -> Self {
        let (jobs, inbox): (SyncSender<Box<dyn FnOnce() + Send>>, Receiver<_>) = sync_channel(1);
        let (ready, tid) = sync_channel(1);
        let serve = move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ready.send(nix::unistd::gettid()).unwrap();
            while let Ok(job) = inbox.recv() {
                job();
            }
        };
        let task = Builder::new().name("internet".into()).spawn(serve).unwrap();
        let world = Self { jobs: Some(jobs), task: Some(task) };
        let tid = tid.recv().unwrap();
        ip("link add out type veth peer name in");
        ip(&format!("link set in netns {tid}"));
        world.with(|| {
            ip("link set lo up");
            ip("link set in up");
            ip(&format!("addr add {INTERNET}/24 dev in"));
            ip("-6 addr add fd99::2/64 dev in nodad");
            for address in BESIDE {
                let prefix = if address.contains(':') { "128 dev in nodad" } else { "32 dev in" };
                ip(&format!("addr add {address}/{prefix}"));
            }
        });
        ip("addr add 11.22.33.1/24 dev out");
        ip("-6 addr add fd99::1/64 dev out nodad");
        ip("link set out up");
        ip(&format!("route add default via {INTERNET}"));
        ip("-6 route add default via fd99::2");
        world
    }
}

/// Something that several threads write and one reads.
pub(crate) type Shared<T> = Arc<Mutex<T>>;
