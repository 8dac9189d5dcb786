//! A stand-in for EC2's metadata service, version 2 only, which can fail in the ways that the real one does.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Between looks at whether it is time to go.
const TICK: Duration = Duration::from_millis(5);
/// What a flood sends.
const FLOOD_BYTES: usize = 10 << 20;

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As it should.
    Well,
    /// Takes the question and says nothing.
    Hangs,
    /// With bytes that are no text, and a page where words belong.
    Garbage,
    /// With 10 MB to each question.
    Floods,
    /// Somewhere else.
    Redirects,
}

struct State {
    mode: Mode,
    items: BTreeMap<String, String>,
    tokens: usize,
    good_tokens: Vec<String>,
    ttl_seconds: u64,
    asked: Vec<String>,
}

/// The service, on loopback.
pub(crate) struct Imds {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    over: Arc<AtomicBool>,
    task: Option<JoinHandle<()>>,
}

impl Imds {
    /// A spot machine in Frankfurt, with two tags.
    pub(crate) fn start() -> Self {
        let items = [
            ("instance-id", "i-0123456789abcdef0"),
            ("instance-type", "m7i.large"),
            ("instance-life-cycle", "spot"),
            ("placement/region", "eu-central-1"),
            ("placement/availability-zone", "eu-central-1a"),
            ("local-ipv4", "10.0.0.5"),
            ("tags/instance", "Name\nteam:owner"),
            ("tags/instance/Name", "sandbox 7"),
            ("tags/instance/team:owner", "canary-team"),
        ];
        let items = items.map(|(path, text)| (path.to_owned(), text.to_owned())).into();
        let state = State {
            mode: Mode::Well,
            items,
            tokens: 0,
            good_tokens: Vec::new(),
            ttl_seconds: 21_600,
            asked: Vec::new(),
        };
        let mut imds = Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            state: Arc::new(Mutex::new(state)),
            over: Arc::default(),
            task: None,
        };
        imds.revive();
        imds
    }

    /// Listens, after [`Self::die`] at the same address.
    pub(crate) fn revive(&mut self) {
        let listener = TcpListener::bind(self.address).unwrap();
        listener.set_nonblocking(true).unwrap();
        self.address = listener.local_addr().unwrap();
        self.over = Arc::default();
        let (state, over) = (Arc::clone(&self.state), Arc::clone(&self.over));
        let serve = move || {
            std::thread::scope(|scope| {
                while !over.load(Ordering::Relaxed) {
                    match listener.accept() {
                        Ok((stream, _from)) => {
                            let (state, over) = (&state, &over);
                            Builder::new()
                                .spawn_scoped(scope, move || serve_one(stream, state, over))
                                .unwrap();
                        }
                        Err(_none_yet) => std::thread::park_timeout(TICK),
                    }
                }
            });
        };
        self.task = Some(Builder::new().name("metadata service".into()).spawn(serve).unwrap());
    }

    /// Nobody is at the address any more.
    pub(crate) fn die(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(task) = self.task.take() {
            let _panicked = task.join();
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }

    pub(crate) fn answer(&self, mode: Mode) {
        self.change(|state| state.mode = mode);
    }

    pub(crate) fn set(&self, path: &str, text: &str) {
        self.change(|state| drop(state.items.insert(path.to_owned(), text.to_owned())));
    }

    pub(crate) fn remove(&self, path: &str) {
        self.change(|state| drop(state.items.remove(path)));
    }

    /// Announces an interruption in so many seconds.
    pub(crate) fn interrupt(&self, action: &str, seconds: u64) {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + seconds;
        self.set("spot/instance-action", &format!("{{\"action\": \"{action}\", \"time\": \"{}\"}}", iso(at)));
    }

    /// The tokens that were given are good no more.
    pub(crate) fn expire_tokens(&self) {
        self.change(|state| state.good_tokens.clear());
    }

    /// Tokens from now on are good for so long.
    pub(crate) fn grant(&self, ttl_seconds: u64) {
        self.change(|state| state.ttl_seconds = ttl_seconds);
    }

    /// How many tokens were given.
    pub(crate) fn tokens(&self) -> usize {
        self.state.lock().unwrap().tokens
    }

    /// What was asked for, `401` and the path where the token was no good.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.state.lock().unwrap().asked.clone()
    }

    /// The configuration that asks here.
    pub(crate) fn config(&self, provider: &str) -> String {
        format!("[identity]\nprovider = \"{provider}\"\nec2_endpoint = \"http://{}\"\n", self.address)
    }
}

impl Drop for Imds {
    fn drop(&mut self) {
        self.die();
    }
}

fn serve_one(mut stream: TcpStream, state: &Mutex<State>, over: &AtomicBool) {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(read @ 1..) => head.extend_from_slice(&buffer[..read]),
            _gone => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let mode = state.lock().unwrap().mode;
    // Whoever asked may have hung up, which is what some of these are for.
    let _gone = match mode {
        Mode::Hangs => {
            while !over.load(Ordering::Relaxed) && state.lock().unwrap().mode == Mode::Hangs {
                std::thread::park_timeout(TICK);
            }
            Ok(())
        }
        Mode::Garbage if !head.starts_with("PUT ") => {
            respond(&mut stream, 200, "", b"<html>\x00\x1b[31m\xff\xfe</html>")
        }
        Mode::Floods => respond(&mut stream, 200, "", &vec![b'x'; FLOOD_BYTES]),
        Mode::Redirects => {
            respond(&mut stream, 302, "Location: http://127.0.0.1:9/latest/meta-data/instance-id\r\n", b"")
        }
        Mode::Well | Mode::Garbage => {
            let (status, headers, body) = judge(&head, &mut state.lock().unwrap());
            respond(&mut stream, status, &headers, body.as_bytes())
        }
    };
}

fn respond(stream: &mut TcpStream, status: u16, headers: &str, body: &[u8]) -> std::io::Result<()> {
    let length = body.len();
    write!(stream, "HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n")?;
    stream.write_all(body)
}

fn judge(head: &str, state: &mut State) -> (u16, String, String) {
    let mut lines = head.lines();
    let mut request = lines.next().unwrap_or_default().split(' ');
    let (method, path) = (request.next().unwrap_or_default(), request.next().unwrap_or_default());
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
        .collect();
    let plain = |status| (status, String::new(), String::new());
    if (method, path) == ("PUT", "/latest/api/token") {
        let ttl =
            headers.get("x-aws-ec2-metadata-token-ttl-seconds").and_then(|text| text.parse::<u64>().ok());
        return match ttl {
            _ if headers.contains_key("x-forwarded-for") => plain(403),
            Some(ttl @ 1..=21_600) => {
                state.tokens += 1;
                let token = format!("AQAEA{}==", state.tokens);
                state.good_tokens.push(token.clone());
                let granted = ttl.min(state.ttl_seconds);
                (200, format!("X-Aws-Ec2-Metadata-Token-Ttl-Seconds: {granted}\r\n"), token)
            }
            _ => plain(400),
        };
    }
    let shown = headers.get("x-aws-ec2-metadata-token");
    if shown.is_none_or(|shown| state.good_tokens.iter().all(|good| good != shown)) {
        state.asked.push(format!("401 {path}"));
        return plain(401);
    }
    state.asked.push(path.to_owned());
    let item = path.strip_prefix("/latest/meta-data/").and_then(|path| state.items.get(path));
    match item {
        Some(text) if method == "GET" => (200, String::new(), text.clone()),
        _ => plain(404),
    }
}

/// As `date -u` writes it; the other way than the daemon goes.
fn iso(unix: u64) -> String {
    let (days, rest) = (unix / 86_400, unix % 86_400);
    // Howard Hinnant's days_to_civil.
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}
