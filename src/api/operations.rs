//! What each operation of the API is, in words and types: the part of the description that is not in code already.

use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Required, Schema};

use super::refused::Trouble;
use super::routes::{Route, Target};

pub(super) const JSON: &str = "application/json";

/// What one operation is, in words and types.
pub(super) struct Words {
    pub(super) tag: &'static str,
    pub(super) summary: &'static str,
    pub(super) parameters: Vec<Parameter>,
    /// Schema of the body, and whether there must be one.
    pub(super) body: Option<(&'static str, bool)>,
    pub(super) answers: Vec<(u16, &'static str, Answer)>,
    pub(super) troubles: Vec<Trouble>,
}

pub(super) enum Answer {
    Json(&'static str),
    Text(&'static str),
    /// A session, and where it is.
    Created,
}

fn words(tag: &'static str, summary: &'static str) -> Words {
    Words { tag, summary, parameters: vec![], body: None, answers: vec![], troubles: vec![] }
}

impl Words {
    fn takes(mut self, parameters: impl IntoIterator<Item = Parameter>) -> Self {
        self.parameters.extend(parameters);
        self
    }

    fn body(self, schema: &'static str, required: bool) -> Self {
        Self { body: Some((schema, required)), ..self }
    }

    fn gives(mut self, status: u16, about: &'static str, answer: Answer) -> Self {
        self.answers.push((status, about, answer));
        self
    }

    fn fails(mut self, troubles: impl IntoIterator<Item = Trouble>) -> Self {
        self.troubles.extend(troubles);
        self
    }
}

pub(super) fn of_target(target: Target) -> Words {
    use Answer::{Created, Json, Text};
    const PLAIN: &str = "text/plain";
    const BODY: [Trouble; 4] =
        [Trouble::NotJson, Trouble::TooLarge, Trouble::MediaType, Trouble::BodyTimeout];
    match target {
        Target::Alive => words("host", "Whether the daemon answers at all")
            .gives(200, "`alive`", Text(PLAIN))
            .gives(503, "`dead`", Text(PLAIN)),
        Target::Ready => words("host", "Whether sessions can be asked for, and the host's own is up")
            .gives(200, "`ready`", Text(PLAIN))
            .gives(503, "`unready`", Text(PLAIN)),
        Target::Health => words("host", "How the host and its sessions are, part by part")
            .gives(200, "`ok` or `degraded`", Json("Health"))
            .gives(503, "`failing`", Json("Health")),
        Target::Metrics => words("host", "Metrics in the Prometheus text format")
            .gives(200, "Metrics", Text(PLAIN)),
        Target::Description => words("description", "This description").gives(200, "OpenAPI 3.1", Text(JSON)),
        Target::Docs => words("description", "A page that shows this description, and its files")
            .gives(200, "The page, or a file of it", Text("*/*")),
        Target::Status => words("host", "Everything about the host, on its Unix socket alone")
            .gives(200, "What runs", Json("Status"))
            .fails([Trouble::NotFound]),
        Target::Capacity => words("host", "How full the host is").gives(200, "Occupancy", Json("Capacity")),
        Target::Events => words("events", "What happens to sessions, as server-sent events")
            .takes([
                query("session_id", "Of this session only", id()),
                parameter(ParameterIn::Header, "Last-Event-ID", "The last event that was seen", text()),
            ])
            .gives(
                200,
                "Events `session.created`, `session.state`, `service.failed`, `tab.crashed`, `profile.reset`, \
                 `human.requested`, `human.resolved`, `human.approved`, `human.rejected`, `human.expired`, \
                 `human.cancelled`, `session.ended`; and `gap`, where some were missed. The stream ends from time to time: come back \
                 with `Last-Event-ID`.",
                Text("text/event-stream"),
            )
            .fails([Trouble::Invalid, Trouble::TooManyListeners]),
        Target::Create => words("sessions", "Create a session")
            .takes([
                parameter(
                    ParameterIn::Header,
                    "Idempotency-Key",
                    "Makes the request safe to send again for a day",
                    ObjectBuilder::new()
                        .schema_type(Type::String)
                        .min_length(Some(1))
                        .max_length(Some(255))
                        .pattern(Some("^[!-~]+$")),
                ),
                query("wait", "Answer when it is ready", one_of(&["ready"])),
                timeout(),
            ])
            .body("CreateSession", true)
            .gives(201, "It was created", Created)
            .gives(200, "The same request had created it before", Created)
            .fails(BODY)
            .fails([
                Trouble::Invalid,
                Trouble::BadProxy,
                Trouble::KindUnavailable,
                Trouble::VariableNotAllowed,
                Trouble::OverLimit,
                Trouble::KeyReused,
                Trouble::SessionExists,
                Trouble::ProfileBusy,
                Trouble::UnknownProfile,
                Trouble::ProfilesCooling,
                Trouble::ProfilesInUse,
                Trouble::ProfileQuarantined,
                Trouble::TooManyProfiles,
                Trouble::SessionOver,
                Trouble::OverCapacity,
                Trouble::Draining,
                Trouble::HostRefused,
                Trouble::SingleSession,
                Trouble::StartFailed,
                Trouble::Unresponsive,
            ]),
        Target::List => words("sessions", "Sessions that are there, the newest first")
            .takes([
                query(
                    "state",
                    "In this state; several times: in one of these. `stopped` ones are remembered for a while",
                    ArrayBuilder::new().items(one_of(&[
                        "all", "starting", "ready", "degraded", "draining", "stopped",
                    ])),
                ),
                query("user_id", "Of this user", text().min_length(Some(1)).max_length(Some(256))),
                query("kind", "With this browser", one_of(&["chromium", "adspower"])),
                query(
                    "label",
                    "With this label, as `name:value`; several times: with all of these",
                    ArrayBuilder::new().items(text().pattern(Some("^[A-Za-z0-9_.-]{1,64}:[ -~]{0,256}$"))),
                ),
                query("limit", "So many at most; 100 when left out", integer(1, 1000)),
            ])
            .gives(200, "Sessions", Json("SessionList"))
            .fails([Trouble::Invalid]),
        Target::Show => words("sessions", "A session as it is, or as it was when it ended lately")
            .gives(200, "The session", Json("Session")),
        Target::Amend => words("sessions", "Change the terms of a session that runs")
            .body("AmendSession", true)
            .gives(200, "As it is now", Json("Session"))
            .fails(BODY)
            .fails([
                Trouble::Invalid,
                Trouble::OverLimit,
                Trouble::SessionEnding,
                Trouble::SessionOver,
                Trouble::Unresponsive,
            ]),
        Target::End => words("sessions", "End a session that is there, or that waits for a place")
            .takes([
                query("reason", "Why; the body may say it as well", text().min_length(Some(1)).max_length(Some(256))),
                query("wait", "Answer when nothing of it is left", one_of(&["ended"])),
                timeout(),
            ])
            .body("EndSession", false)
            .gives(202, "It is ending", Json("Session"))
            .gives(200, "It has ended", Json("Session"))
            .fails(BODY)
            .fails([Trouble::Invalid, Trouble::Unresponsive]),
        Target::SessionHealth => words("sessions", "How a session is, part by part")
            .gives(200, "`ok` or `degraded`", Json("SessionHealth"))
            .gives(503, "`failing`", Json("SessionHealth"))
            .fails([Trouble::SessionOver]),
        Target::Connection => words("sessions", "How to get to a session, and tokens to get in with")
            .takes([
                query(
                    "tokens",
                    "Make tokens for these roles: `spectator`, `controller`, `automation`, with commas between",
                    text().pattern(Some("^(spectator|controller|automation)(,(spectator|controller|automation))*$")),
                ),
                query("ttl", "How long they are good, `1s` to `24h`; `15m` when left out", duration()),
            ])
            .gives(200, "Links", Json("Connection"))
            .fails([Trouble::Invalid, Trouble::SessionOver, Trouble::NoSigningKey]),
        Target::Profiles => words("profiles", "Profiles of the pool, by their names")
            .takes([
                query("user_id", "Of this user", text().min_length(Some(1)).max_length(Some(256))),
                query(
                    "state",
                    "In this state; several times: in one of these",
                    ArrayBuilder::new().items(one_of(&["idle", "active", "cooldown", "quarantined"])),
                ),
                query("limit", "So many at most; 100 when left out", integer(1, 1000)),
            ])
            .gives(200, "Profiles", Json("ProfileList"))
            .fails([Trouble::Invalid, Trouble::Unresponsive]),
        Target::AddProfile => words("profiles", "Add a profile to the pool")
            .body("AddProfile", true)
            .gives(201, "It was added", Json("Profile"))
            .fails(BODY)
            .fails([
                Trouble::Invalid,
                Trouble::BadProxy,
                Trouble::ProfileExists,
                Trouble::ProfileBusy,
                Trouble::TooManyProfiles,
                Trouble::Unresponsive,
            ]),
        Target::Profile => words("profiles", "A profile of the pool")
            .gives(200, "As it is", Json("Profile"))
            .fails([Trouble::Unresponsive]),
        Target::RemoveProfile => words("profiles", "Take a profile out of the pool, and remove what it holds on this host")
            .gives(200, "It is gone; as it was last", Json("Profile"))
            .fails([
                Trouble::ProfileBusy,
                Trouble::ProfileLeaving,
                Trouble::ProfileNotRemoved,
                Trouble::Unresponsive,
            ]),
        Target::ReleaseProfile => words("profiles", "End a profile's quarantine, or its rest")
            .gives(200, "As it is now", Json("Profile"))
            .fails(BODY)
            .fails([Trouble::Invalid, Trouble::ProfileLeaving, Trouble::Unresponsive]),
        Target::QuarantineProfile => {
            words("profiles", "Keep a profile from being used, once the session that has it is over")
                .body("QuarantineProfile", true)
                .gives(200, "As it is now", Json("Profile"))
                .fails(BODY)
                .fails([Trouble::Invalid, Trouble::ProfileLeaving, Trouble::Unresponsive])
        }
        Target::AskForHuman => words("handoffs", "Ask for a human at a session")
            .body("AskForHuman", true)
            .gives(201, "A human is wanted", Json("Handoff"))
            .gives(200, "The same had been asked for before; as it is by now", Json("Handoff"))
            .fails(BODY)
            .fails([
                Trouble::Invalid,
                Trouble::HandoffExists,
                Trouble::TooManyHandoffs,
                Trouble::SessionEnding,
                Trouble::SessionOver,
                Trouble::NotKept,
                Trouble::Unresponsive,
            ]),
        Target::Handoffs => words("handoffs", "A session's requests for a human, the oldest first")
            .gives(200, "They, as far as they are remembered", Json("HandoffList")),
        Target::Handoff => words("handoffs", "A request for a human, and what came of it")
            .takes([query("wait", "Answer when it is over", one_of(&["closed"])), timeout()])
            .gives(200, "As it is", Json("Handoff"))
            .fails([Trouble::Invalid]),
        Target::Resolve => words("handoffs", "Say what came of a request for a human")
            .body("AnswerHandoff", true)
            .gives(200, "It is over so, now or since before", Json("Handoff"))
            .fails(BODY)
            .fails([
                Trouble::Invalid,
                Trouble::HandoffOver,
                Trouble::SessionEnding,
                Trouble::SessionOver,
                Trouble::NotKept,
                Trouble::Unresponsive,
            ]),
    }
}

/// `create_session`, `list_sessions`, `show_session_health`: unique, and stable for those who generate clients.
pub(super) fn operation_id(route: &Route) -> String {
    let id = match route.target {
        Target::Create => "create_session",
        Target::List => "list_sessions",
        Target::Show => "show_session",
        Target::Amend => "amend_session",
        Target::End => "end_session",
        Target::SessionHealth => "session_health",
        Target::Connection => "session_connection",
        Target::Events => "listen_to_events",
        Target::AskForHuman => "ask_for_human",
        Target::Handoffs => "list_handoffs",
        Target::Handoff => "show_handoff",
        Target::Resolve => "resolve_handoff",
        Target::Profiles => "list_profiles",
        Target::AddProfile => "add_profile",
        Target::Profile => "show_profile",
        Target::RemoveProfile => "remove_profile",
        Target::ReleaseProfile => "release_profile",
        Target::QuarantineProfile => "quarantine_profile",
        _host => {
            return route
                .pattern
                .trim_start_matches("/v1")
                .replace(['/', '.'], "_")
                .trim_start_matches('_')
                .to_owned();
        }
    };
    id.to_owned()
}

fn parameter(
    place: ParameterIn,
    name: &'static str,
    about: &'static str,
    schema: impl Into<RefOr<Schema>>,
) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(Required::False)
        .description(Some(about))
        .schema(Some(schema))
        .build()
}

fn query(name: &'static str, about: &'static str, schema: impl Into<RefOr<Schema>>) -> Parameter {
    parameter(ParameterIn::Query, name, about, schema)
}

fn timeout() -> Parameter {
    query("timeout", "How long to wait, `1s` to `120s`; `30s` when left out", duration())
}

pub(super) fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

pub(super) fn id() -> ObjectBuilder {
    text().pattern(Some("^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"))
}

fn duration() -> ObjectBuilder {
    text().pattern(Some("^[0-9]+(ms|s|m|h)$")).examples(["30s"])
}

fn integer(least: i64, most: i64) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(least)).maximum(Some(most))
}

fn one_of(words: &[&str]) -> ObjectBuilder {
    text().enum_values(Some(words.iter().map(|word| (*word).to_owned())))
}
