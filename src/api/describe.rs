//! The API's description in OpenAPI 3.1, made from the routes, the types that are sent and the table of problems.

use std::collections::{BTreeMap, BTreeSet};

use utoipa::ToSchema;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathsBuilder,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayBuilder, Components, ComponentsBuilder, ObjectBuilder, Type,
};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Content, InfoBuilder, OpenApi, OpenApiBuilder, PathItem, Ref, RefOr, Required, ResponseBuilder, Schema,
};

use super::connection::Connection;
use super::create::CreateSession;
use super::health::Health;
use super::host::Status;
use super::refused::Trouble;
use super::routes::{Proof, ROUTES, Route, Target};
use super::sessions::{AmendSession, EndSession, SessionHealth};
use super::view::{Capacity, SessionList, SessionView};
use crate::auth::Refusal;

const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";
const TOKEN: &str = "operator_token";

const ABOUT: &str = "\
Sessions on one sandbox host: provision, terminate, health and connection info.

On TCP, `/v1` takes a token with the role `operator` in `Authorization: Bearer`. On the host's Unix socket \
(`/run/valetd/control.sock`) root and the group `valetd` need none. Requests with an `Origin` are refused: web pages do not \
drive this API.

Lengths of time are strings with a unit (`\"90s\"`, `\"15m\"`, `\"2h\"`), points in time are Unix times in seconds. A field or \
parameter that is not described is a mistake. Errors are problem details (RFC 9457): `type` and `title` are the same each \
time, `detail` says what is particular, `errors` lists every mistake with its place.";

/// An error (RFC 9457).
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `http::Problem` writes")]
struct Problem {
    /// `urn:valetd:problem:` and a name.
    #[schema(example = "urn:valetd:problem:over-capacity")]
    r#type: String,
    /// The same each time.
    title: String,
    status: u16,
    /// The name of the request in the host's log.
    request_id: String,
    /// What is particular to this time.
    #[schema(nullable = false)]
    detail: Option<String>,
    /// What is wrong with the request, all of it.
    #[schema(nullable = false)]
    errors: Option<Vec<Mistake>>,
}

/// One thing that is wrong with a request; one of the places is there.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `http::Mistake` writes")]
struct Mistake {
    /// A place in the body (RFC 6901).
    #[schema(nullable = false, example = "/display/width")]
    pointer: Option<String>,
    /// A parameter of the query.
    #[schema(nullable = false)]
    parameter: Option<String>,
    /// A header.
    #[schema(nullable = false)]
    header: Option<String>,
    detail: String,
}

/// The whole description.
pub(super) fn document() -> OpenApi {
    let mut items: BTreeMap<&str, PathItem> = BTreeMap::new();
    for route in &ROUTES {
        let item = PathItem::new(method(route.method), operation(route));
        match items.get_mut(route.pattern) {
            Some(known) => known.merge_operations(item),
            None => drop(items.insert(route.pattern, item)),
        }
    }
    let paths = items.into_iter().fold(PathsBuilder::new(), |paths, (path, item)| paths.path(path, item));
    let info = InfoBuilder::new()
        .title("valetd host API")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(format!("{ABOUT}\n\nTypes of problems, after `urn:valetd:problem:`: {}.", types())))
        .build();
    OpenApiBuilder::new().info(info).paths(paths).components(Some(components())).build()
}

fn types() -> String {
    let names: BTreeSet<_> = Trouble::ALL.iter().map(|trouble| trouble.outside().1).collect();
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Types of what is sent to the host.
const READ: [&str; 6] =
    ["CreateSession", "AmendSession", "EndSession", "DisplaySize", "ProxyServer", "LimitsAsked"];

fn components() -> Components {
    let mut schemas = Vec::new();
    add::<Problem>(&mut schemas);
    add::<SessionView>(&mut schemas);
    add::<SessionList>(&mut schemas);
    add::<CreateSession>(&mut schemas);
    add::<AmendSession>(&mut schemas);
    add::<EndSession>(&mut schemas);
    add::<SessionHealth>(&mut schemas);
    add::<Connection>(&mut schemas);
    add::<Capacity>(&mut schemas);
    add::<Health>(&mut schemas);
    add::<Status>(&mut schemas);
    // What is read knows its fields.
    for (name, schema) in &mut schemas {
        if let RefOr::T(Schema::Object(object)) = schema
            && READ.contains(&name.as_str())
        {
            object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
        }
    }
    ComponentsBuilder::new()
        .schemas_from_iter(schemas)
        .security_scheme(TOKEN, SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)))
        .build()
}

/// A type, and those that it is made of.
fn add<T: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) {
    T::schemas(schemas);
    schemas.push((T::name().into_owned(), T::schema()));
}

fn method(name: &str) -> HttpMethod {
    match name {
        "POST" => HttpMethod::Post,
        "PATCH" => HttpMethod::Patch,
        "DELETE" => HttpMethod::Delete,
        _ => HttpMethod::Get,
    }
}

/// What one operation is, in words and types.
struct Words {
    tag: &'static str,
    summary: &'static str,
    parameters: Vec<Parameter>,
    /// Schema of the body, and whether there must be one.
    body: Option<(&'static str, bool)>,
    answers: Vec<(u16, &'static str, Answer)>,
    troubles: Vec<Trouble>,
}

enum Answer {
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

fn of_target(target: Target) -> Words {
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
                 `session.ended`; and `gap`, where some were missed. The stream ends from time to time: come back \
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
                Trouble::SessionOver,
                Trouble::OverCapacity,
                Trouble::Draining,
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
        Target::End => words("sessions", "End a session")
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
    }
}

fn operation(route: &Route) -> Operation {
    let Words { tag, summary, mut parameters, body, answers, mut troubles } = of_target(route.target);
    if route.pattern.contains("{id}") {
        parameters.push(
            ParameterBuilder::new()
                .name("id")
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .description(Some("The session"))
                .schema(Some(id()))
                .build(),
        );
        troubles.push(Trouble::UnknownSession);
    }
    let mut operation = OperationBuilder::new()
        .tag(tag)
        .summary(Some(summary))
        .operation_id(Some(operation_id(route)))
        .parameters(Some(parameters));
    if route.proof == Proof::Operator {
        let refusals = [Refusal::Missing, Refusal::Malformed, Refusal::Expired, Refusal::NotYetValid];
        let others = [Refusal::Replayed, Refusal::WrongRole, Refusal::Exhausted];
        troubles.extend(refusals.into_iter().chain(others).map(Trouble::Credential));
        troubles.extend([Trouble::Origin, Trouble::Forbidden]);
        operation = operation.security(SecurityRequirement::new(TOKEN, Vec::<String>::new()));
    }
    if let Some((schema, required)) = body {
        let required = if required { Required::True } else { Required::False };
        let content = Content::new(Some(Ref::from_schema_name(schema)));
        let body = RequestBodyBuilder::new().required(Some(required)).content(JSON, content).build();
        operation = operation.request_body(Some(body));
    }
    let mut by_status: BTreeMap<u16, (String, ResponseBuilder)> = BTreeMap::new();
    for (status, about, answer) in answers {
        by_status.insert(status, (about.to_owned(), response(answer)));
    }
    for (status, names) in named(&troubles) {
        let (about, known) = by_status.remove(&status).unwrap_or_default();
        let gap = if about.is_empty() { "" } else { "; or " };
        let content = Content::new(Some(Ref::from_schema_name("Problem")));
        by_status.insert(status, (format!("{about}{gap}{names}"), known.content(PROBLEM, content)));
    }
    for (status, (about, response)) in by_status {
        operation = operation.response(status.to_string(), response.description(about).build());
    }
    operation.build()
}

/// Troubles by their status, as names in a sentence. Any connection may be one too many.
fn named(troubles: &[Trouble]) -> BTreeMap<u16, String> {
    let mut names: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    let own = troubles.iter().map(|trouble| {
        let (status, name, _title) = trouble.outside();
        (status.as_u16(), name)
    });
    for (status, name) in own.chain([(429, "too-many-from-address"), (503, "too-many-connections")]) {
        let (named, name) = (names.entry(status).or_default(), format!("`{name}`"));
        if !named.contains(&name) {
            named.push(name);
        }
    }
    names.into_iter().map(|(status, names)| (status, names.join(", "))).collect()
}

fn response(answer: Answer) -> ResponseBuilder {
    let json = |schema| Content::new(Some(Ref::from_schema_name(schema)));
    match answer {
        Answer::Json(schema) => ResponseBuilder::new().content(JSON, json(schema)),
        Answer::Text(media_type) => {
            ResponseBuilder::new().content(media_type, Content::new(None::<RefOr<Schema>>))
        }
        Answer::Created => {
            let header = HeaderBuilder::new().schema(Some(text())).description(Some("Where it is")).build();
            ResponseBuilder::new().content(JSON, json("Session")).header("Location", header)
        }
    }
}

/// `create_session`, `list_sessions`, `show_session_health`: unique, and stable for those who generate clients.
fn operation_id(route: &Route) -> String {
    let id = match route.target {
        Target::Create => "create_session",
        Target::List => "list_sessions",
        Target::Show => "show_session",
        Target::Amend => "amend_session",
        Target::End => "end_session",
        Target::SessionHealth => "session_health",
        Target::Connection => "session_connection",
        Target::Events => "listen_to_events",
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

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn id() -> ObjectBuilder {
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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn described() -> Value {
        serde_json::to_value(document()).unwrap()
    }

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let document = described();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1."), "{}", document["openapi"]);
        let mut shown = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                shown.insert((method.to_uppercase(), path.clone()));
                assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{operation}");
                let secured = operation.get("security").is_some();
                assert_eq!(secured, path.starts_with("/v1/") && path != "/v1/status", "{path}");
            }
        }
        let routes: BTreeSet<_> =
            ROUTES.iter().map(|route| (route.method.to_owned(), route.pattern.to_owned())).collect();
        assert_eq!(shown, routes);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = described();
        let text = document.to_string();
        let mut seen = 0;
        for found in text.split("\"$ref\":\"#").skip(1) {
            let pointer = found.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
            seen += 1;
        }
        assert!(seen > 20, "{seen}");
    }

    #[test]
    fn what_is_read_takes_no_field_that_is_not_described() {
        let document = described();
        for name in READ {
            let schema = &document["components"]["schemas"][name];
            assert_eq!(schema["additionalProperties"], false, "{name}");
        }
        assert!(document["components"]["schemas"]["Session"].get("additionalProperties").is_none());
    }

    #[test]
    fn every_problem_is_told_of_somewhere() {
        let text = described()["paths"].to_string();
        // A path that is not there and a method are nobody's own.
        let nowhere = ["method-not-allowed"];
        for trouble in Trouble::ALL {
            let (_status, name, _title) = trouble.outside();
            assert!(nowhere.contains(&name) || text.contains(&format!("`{name}`")), "{name}");
        }
    }
}
