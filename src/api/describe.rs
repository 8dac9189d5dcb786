//! The API's description in OpenAPI 3.1, made from the routes, the types that are sent and the table of problems.

use std::collections::{BTreeMap, BTreeSet};

use utoipa::ToSchema;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, ParameterBuilder, ParameterIn, PathsBuilder,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{AdditionalProperties, Components, ComponentsBuilder};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Content, InfoBuilder, OpenApi, OpenApiBuilder, PathItem, Ref, RefOr, Required, ResponseBuilder, Schema,
};

use super::connection::Connection;
use super::create::CreateSession;
use super::handoffs::{AnswerHandoff, AskForHuman, HandoffList, HandoffView};
use super::host::Status;
use super::operations::{Answer, JSON, Words, id, of_target, operation_id, text};
use super::profiles::{AddProfile, ProfileList, ProfileView, QuarantineProfile};
use super::refused::Trouble;
use super::routes::{Proof, ROUTES, Route};
use super::sessions::{AmendSession, EndSession, SessionHealth};
use super::view::{Capacity, SessionList, SessionView};
use crate::auth::Refusal;
use crate::health::Health;

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
const READ: [&str; 10] = [
    "CreateSession",
    "AmendSession",
    "EndSession",
    "DisplaySize",
    "ProxyServer",
    "LimitsAsked",
    "AskForHuman",
    "AnswerHandoff",
    "AddProfile",
    "QuarantineProfile",
];

fn components() -> Components {
    let mut schemas = Vec::new();
    add::<Problem>(&mut schemas);
    add::<SessionView>(&mut schemas);
    add::<SessionList>(&mut schemas);
    add::<CreateSession>(&mut schemas);
    add::<AmendSession>(&mut schemas);
    add::<EndSession>(&mut schemas);
    add::<SessionHealth>(&mut schemas);
    add::<AskForHuman>(&mut schemas);
    add::<AnswerHandoff>(&mut schemas);
    add::<HandoffView>(&mut schemas);
    add::<HandoffList>(&mut schemas);
    add::<AddProfile>(&mut schemas);
    add::<QuarantineProfile>(&mut schemas);
    add::<ProfileView>(&mut schemas);
    add::<ProfileList>(&mut schemas);
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

fn operation(route: &Route) -> Operation {
    let Words { tag, summary, mut parameters, body, answers, mut troubles } = of_target(route.target);
    for (name, about, trouble) in [
        ("id", "The session", Trouble::UnknownSession),
        ("handoff", "The handoff", Trouble::UnknownHandoff),
        ("name", "The profile", Trouble::UnknownProfile),
    ] {
        if route.pattern.contains(&format!("{{{name}}}")) {
            parameters.push(
                ParameterBuilder::new()
                    .name(name)
                    .parameter_in(ParameterIn::Path)
                    .required(Required::True)
                    .description(Some(about))
                    .schema(Some(id()))
                    .build(),
            );
            troubles.push(trouble);
        }
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
