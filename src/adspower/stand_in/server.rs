//! Its Local API.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, SERVER};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use super::answer::{Answer, opened};
use super::behaviour::Behaviour;
use super::browser;
use super::program::Args;
use super::routes::{Ask, ask};
use super::state::{Places, State};
use crate::http::body;
use crate::tasks::Scope;

/// What it says it is, in every answer.
const NAME: &str = "valetd-adspower-stand-in (not AdsPower)";
const MAX_BODY_BYTES: usize = 1 << 20;
const BODY_DEADLINE: Duration = Duration::from_secs(10);
/// Calls that it takes in a second: what AdsPower gives to an account with few profiles.
const CALLS: usize = 2;
const SECOND: Duration = Duration::from_secs(1);
/// For answers that are on their way when it ends.
const LAST_SHARE: Duration = Duration::from_millis(300);

/// Why it stopped serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Stop,
    Respawn { elsewhere: bool },
}

/// The app. Calls are carried out one after the other, as AdsPower does.
pub(super) struct Server {
    args: Args,
    places: Places,
    state: Mutex<State>,
    behaviour: watch::Sender<Behaviour>,
    /// When the calls of the last second came.
    calls: Mutex<VecDeque<Instant>>,
    ends: watch::Sender<Option<End>>,
    term: Mutex<Signal>,
}

impl Server {
    pub(super) fn new(args: Args, places: Places, state: State) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            behaviour: watch::Sender::new(args.behaviour),
            args,
            places,
            state: Mutex::new(state),
            calls: Mutex::default(),
            ends: watch::Sender::new(None),
            term: Mutex::new(signal(SignalKind::terminate())?),
        }))
    }

    pub(super) async fn serve(self: Arc<Self>, listener: TcpListener) -> End {
        let mut scope = Scope::new();
        let (mut ends, mut term) = (self.ends.subscribe(), self.term.lock().await);
        let end = loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let Ok((stream, _peer)) = accepted else { continue };
                    let server = Arc::clone(&self);
                    scope.spawn("connection", async move {
                        let service = service_fn(|request| Arc::clone(&server).answer(request));
                        let served = hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service);
                        if let Err(error) = served.await {
                            tracing::debug!(%error, "a connection broke");
                        }
                    });
                }
                Some(_) = scope.join_next() => {}
                _term = term.recv() => break End::Stop,
                Ok(end) = ends.wait_for(Option::is_some) => break end.unwrap_or(End::Stop),
            }
        };
        drop(listener);
        if end == End::Stop {
            self.stop_all().await;
        }
        scope.shutdown(LAST_SHARE).await;
        end
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let behaviour = *self.behaviour.borrow();
        let is_told = request.uri().path().starts_with("/stand-in/");
        let behaviour = if is_told { Behaviour::Well } else { behaviour };
        if behaviour == Behaviour::Hang {
            std::future::pending::<()>().await;
        }
        let (status, mut text) = self.outcome(request, behaviour).await.write();
        let mut kind = "application/json";
        match behaviour {
            Behaviour::Html => {
                (text, kind) = ("<html><body>Bad Gateway</body></html>".to_owned(), "text/html")
            }
            Behaviour::Truncated => text.truncate(text.len() / 2),
            _ => {}
        }
        let response = Response::builder()
            .status(StatusCode::from_u16(status).unwrap_or_default())
            .header(SERVER, NAME)
            .header(CONTENT_TYPE, kind)
            .body(Full::new(Bytes::from(text)));
        Ok(response.unwrap_or_default())
    }

    async fn outcome(&self, request: Request<Incoming>, behaviour: Behaviour) -> Answer {
        let (head, incoming) = request.into_parts();
        let shown = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        if shown.and_then(|value| value.strip_prefix("Bearer ")) != Some(self.args.api_key.expose()) {
            return Answer::failed("require api-key");
        }
        let Ok(bytes) = body::read(incoming, MAX_BODY_BYTES, BODY_DEADLINE).await else {
            return Answer::failed("the body cannot be read");
        };
        let only_v1 = behaviour == Behaviour::OnlyV1;
        let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
        let ask = match ask(head.method.as_str(), path, query, &bytes, only_v1) {
            Ok(Some(ask)) => ask,
            Ok(None) => return Answer::NotFound,
            Err(problem) => return Answer::Failure(problem),
        };
        let is_told = matches!(ask, Ask::Behave { .. });
        if behaviour == Behaviour::TooMany || (!is_told && !self.is_within_pace().await) {
            return Answer::failed("Too many request per second, please check");
        }
        tracing::debug!(?ask, "asked");
        self.carry_out(ask, behaviour).await
    }

    async fn is_within_pace(&self) -> bool {
        let (mut calls, now) = (self.calls.lock().await, Instant::now());
        calls.retain(|at| now.duration_since(*at) < SECOND);
        if calls.len() >= CALLS {
            return false;
        }
        calls.push_back(now);
        true
    }

    async fn carry_out(&self, ask: Ask, behaviour: Behaviour) -> Answer {
        let mut state = self.state.lock().await;
        state.open.retain(|_, open| browser::lives(open.pid, Some(open.start_time)));
        let answer = match ask {
            Ask::Status => Answer::done(),
            Ask::Kernels => {
                Answer::Success(json!({ "list": [{ "kernel_type": "Chrome", "kernel_version": "141" }] }))
            }
            Ask::Start { profile, launch_args } => {
                self.start(&mut state, &profile, launch_args, behaviour).await
            }
            Ask::Stop { profile } => match state.open.remove(&profile) {
                Some(open) => closed(browser::close(&open).await),
                None => Answer::failed("the profile is not open"),
            },
            Ask::StopAll => {
                close_all(&mut state).await;
                Answer::done()
            }
            Ask::Active { profile, with_port } => match state.open.get(&profile) {
                Some(open) => {
                    let mut data = opened(open.port, &open.path, with_port);
                    data.insert("status".to_owned(), json!("Active"));
                    Answer::Success(data.into())
                }
                None => Answer::Success(json!({ "status": "Inactive" })),
            },
            Ask::LocalActive => {
                let list: Vec<Value> = state
                    .open
                    .iter()
                    .map(|(id, open)| listed(id, opened(open.port, &open.path, true)))
                    .collect();
                Answer::Success(json!({ "list": list }))
            }
            Ask::Create { fields, v1 } => {
                let Ok(id) = new_id() else { return Answer::failed("no random bytes") };
                let serial = state.create(&id, fields).to_string();
                Answer::Success(match v1 {
                    true => json!({ "id": id, "serial_number": serial }),
                    false => json!({ "profile_id": id, "profile_no": serial }),
                })
            }
            Ask::Update { profile, fields } => match state.profiles.get_mut(&profile) {
                Some(known) => {
                    known.fields.extend(fields);
                    Answer::done()
                }
                None => Answer::failed("the profile does not exist"),
            },
            Ask::Delete { profiles } => {
                if profiles.iter().any(|id| state.open.contains_key(id)) {
                    Answer::failed("the profile is open")
                } else {
                    state.profiles.retain(|id, _| !profiles.contains(id));
                    Answer::done()
                }
            }
            Ask::List { page, size, v1 } => list(&state.profiles, page, size, v1),
            Ask::Behave { how } => self.behave(&how),
        };
        if let Err(error) = self.places.write(&state) {
            tracing::warn!(%error, "the stand-in cannot save its state");
        }
        answer
    }

    async fn start(
        &self,
        state: &mut State,
        id: &str,
        launch_args: Vec<String>,
        behaviour: Behaviour,
    ) -> Answer {
        if !state.profiles.contains_key(id) {
            return Answer::failed("profile does not exist");
        }
        if !state.open.contains_key(id) {
            let further: Vec<String> = self.args.chromium_args.iter().cloned().chain(launch_args).collect();
            match browser::open(&self.args.chromium, self.places.profile(id), &further).await {
                Ok(open) => drop(state.open.insert(id.to_owned(), open)),
                Err(error) => return Answer::Failure(error.to_string()),
            }
        }
        let Some(open) = state.open.get(id) else { return Answer::failed("the browser has ended") };
        let port = if let Behaviour::WrongPort(port) = behaviour { port } else { open.port };
        Answer::Success(opened(port, &open.path, true).into())
    }

    fn behave(&self, how: &str) -> Answer {
        let end = match how {
            "exit" => Some(End::Stop),
            "respawn" => Some(End::Respawn { elsewhere: false }),
            "respawn-elsewhere" => Some(End::Respawn { elsewhere: true }),
            _ => None,
        };
        match (end, Behaviour::parse(how)) {
            (Some(end), _) => drop(self.ends.send_replace(Some(end))),
            (None, Some(behaviour)) => drop(self.behaviour.send_replace(behaviour)),
            (None, None) => return Answer::failed("no such behaviour"),
        }
        Answer::done()
    }

    async fn stop_all(&self) {
        let mut state = self.state.lock().await;
        close_all(&mut state).await;
        if let Err(error) = self.places.write(&state) {
            tracing::warn!(%error, "the stand-in cannot save its state");
        }
    }
}

async fn close_all(state: &mut State) {
    for open in std::mem::take(&mut state.open).values() {
        if let Err(error) = browser::close(open).await {
            tracing::warn!(%error, "a browser cannot be closed");
        }
    }
}

fn closed(outcome: io::Result<()>) -> Answer {
    outcome.map_or_else(|error| Answer::Failure(error.to_string()), |()| Answer::done())
}

fn listed(id: &str, mut data: Map<String, Value>) -> Value {
    data.insert("user_id".to_owned(), json!(id));
    data.into()
}

fn list(profiles: &BTreeMap<String, super::state::Profile>, page: usize, size: usize, v1: bool) -> Answer {
    let (id_name, serial_name) = if v1 { ("user_id", "serial_number") } else { ("profile_id", "profile_no") };
    let shown = profiles.iter().skip(page.saturating_sub(1).saturating_mul(size)).take(size.clamp(1, 100));
    let list: Vec<Value> = shown
        .map(|(id, profile)| {
            let mut fields = Map::new();
            fields.insert(id_name.to_owned(), json!(id));
            fields.insert(serial_name.to_owned(), json!(profile.serial.to_string()));
            for name in ["name", "group_id", "remark"] {
                fields.insert(name.to_owned(), profile.fields.get(name).cloned().unwrap_or(json!("")));
            }
            fields.into()
        })
        .collect();
    Answer::Success(json!({ "list": list, "page": page, "page_size": size }))
}

/// As AdsPower's look.
fn new_id() -> Result<String, aws_lc_rs::error::Unspecified> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut random = [0; 7];
    aws_lc_rs::rand::fill(&mut random)?;
    let letters = random.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)]));
    Ok(std::iter::once('k').chain(letters).collect())
}
