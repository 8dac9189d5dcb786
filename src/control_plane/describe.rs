//! What a control plane has to answer, in OpenAPI 3.1, from the types that are sent. `docs/control-plane.openapi.yaml` is this.

use utoipa::ToSchema;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, PathsBuilder};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{Components, ComponentsBuilder};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Content, InfoBuilder, OpenApi, OpenApiBuilder, PathItem, Ref, RefOr, Required, ResponseBuilder, Schema,
};

use super::payload::{Events, Heartbeat, Receipt, Registration, Taken};

const JSON: &str = "application/json";
const TOKEN: &str = "host_credential";

const ABOUT: &str = "\
What a valetd host sends to its control plane, as `control_plane.url` names it. The host asks for nothing: commands go to its own \
API. Everything that is here can also be pulled from there (`/health`, `/v1/sessions?state=all`, `/v1/capacity`).

**Who speaks.** With `auth = \"bearer\"` the host's own credential, with `\"fly_oidc\"` a token signed by Fly for the audience that \
is configured, both in `Authorization: Bearer`; with `\"mtls\"` the certificate of the handshake.

**Bodies** are JSON. Those of 8 KiB and more come with `Content-Encoding: gzip`, unless one was answered with 415. Times are Unix \
times in seconds by the host's clock; `sent_at` beside the receiver's own clock tells how far that is off. Fields are added, never \
changed: leave alone what you do not know.

**Answers.** Any 2xx with the JSON that is described takes a report; a 2xx without it does not. A problem is JSON as in RFC 9457 with \
a `type` or a `title`. 401, 403 with a problem, and 404 with one whose `type` ends in `unknown-host`, refuse the host when they answer a \
registration or a heartbeat: it takes no new sessions, keeps those that it has, and registers again and again, at first after \
half a second and at last once a minute, with its credential read anew. When they answer events, the host registers so and sends a \
heartbeat; if one of them is taken and the events are refused again, they count as not understood. 400, 413 and 422 with a problem \
say that a report will never be understood: events are halved until the one is found, which the host sets aside. From the fifth in \
a row on none is set aside, and the same is sent again until one is taken. Everything else is tried again, events and the rest each \
in their own time, after `Retry-After` where there is one: up to 10 min for events, up to 60 s for the rest. Events \
that failed come in half as many. Redirects are not followed, 64 KiB of an answer are read, and 10 s are waited.";

/// The whole description.
pub fn document() -> OpenApi {
    let paths = PathsBuilder::new()
        .path(
            "/v1/hosts/register",
            post::<Registration, Taken>(
                "register",
                "The first that is heard of a daemon, each time that one starts. The same `boot_id` and `run_id` again is no \
                 other registration.",
                "The host is known",
            ),
        )
        .path(
            "/v1/hosts/heartbeat",
            post::<Heartbeat, Taken>(
                "heartbeat",
                "All that there is to know of a host: every `control_plane.heartbeat`, and at most once in a second when \
                 something changes. A host that falls silent tells nothing by that: its sessions go on.",
                "It is heard",
            ),
        )
        .path(
            "/v1/hosts/events",
            post::<Events, Receipt>(
                "events",
                "What has happened to sessions, at least once and of each session in order. At most 100 in one request, and \
                 one request at a time.",
                "So many, from the first on, are taken for good",
            ),
        )
        .build();
    let info = InfoBuilder::new()
        .title("valetd control plane")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .build();
    OpenApiBuilder::new().info(info).paths(paths).components(Some(components())).build()
}

fn post<B: ToSchema, A: ToSchema>(id: &str, about: &str, taken: &str) -> PathItem {
    let content = |name: &str| Content::new(Some(Ref::from_schema_name(name)));
    let body = RequestBodyBuilder::new().required(Some(Required::True)).content(JSON, content(&B::name()));
    let plain = |about: &str| ResponseBuilder::new().description(about).build();
    let operation = OperationBuilder::new()
        .operation_id(Some(id))
        .description(Some(about))
        .security(SecurityRequirement::new(TOKEN, Vec::<String>::new()))
        .request_body(Some(body.build()))
        .response("200", ResponseBuilder::new().description(taken).content(JSON, content(&A::name())).build())
        .response("400", plain("With a problem: not understood, and never will be; likewise 413 and 422"))
        .response("401", plain("The host is not wanted; likewise 403 with a problem"))
        .response("404", plain("With a problem of type `unknown-host`: the host is not known"))
        .response("415", plain("Send it again without compression"))
        .response("429", plain("Later; likewise any 5xx"))
        .build();
    PathItem::new(HttpMethod::Post, operation)
}

fn components() -> Components {
    let mut schemas: Vec<(String, RefOr<Schema>)> = Vec::new();
    add::<Registration>(&mut schemas);
    add::<Heartbeat>(&mut schemas);
    add::<Events>(&mut schemas);
    add::<Receipt>(&mut schemas);
    add::<Taken>(&mut schemas);
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

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::path::Path;

    use serde_json::Value;

    use super::*;

    /// Set, the test writes the file that it would compare.
    const WRITE: &str = "VALETD_WRITE_DESCRIPTION";

    /// JSON as YAML in blocks. Texts stay in the quotes that JSON gives them, which YAML reads alike.
    fn yaml(value: &Value, depth: usize, text: &mut String) {
        let indent = "  ".repeat(depth);
        let nested = |value: &Value| match value {
            Value::Object(map) => !map.is_empty(),
            Value::Array(items) => !items.is_empty(),
            _ => false,
        };
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (key, value) in map {
                    let plain = key.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
                    let key = if plain { key.clone() } else { Value::from(key.as_str()).to_string() };
                    match nested(value) {
                        true => {
                            writeln!(text, "{indent}{key}:").unwrap();
                            yaml(value, depth + 1, text);
                        }
                        false => writeln!(text, "{indent}{key}: {value}").unwrap(),
                    }
                }
            }
            Value::Array(items) if !items.is_empty() => {
                for item in items {
                    match nested(item) {
                        true => {
                            writeln!(text, "{indent}-").unwrap();
                            yaml(item, depth + 1, text);
                        }
                        false => writeln!(text, "{indent}- {item}").unwrap(),
                    }
                }
            }
            other => writeln!(text, "{indent}{other}").unwrap(),
        }
    }

    #[test]
    fn the_document_is_what_is_sent() {
        let document = serde_json::to_value(document()).unwrap();
        let mut text =
            "# Made from the types in src/control_plane/payload.rs; a test compares the two.\n".to_owned();
        yaml(&document, 0, &mut text);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/control-plane.openapi.yaml");
        if std::env::var_os(WRITE).is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(written == text, "{} is of another time: run this test with {WRITE}=1", path.display());
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_field_is_explained() {
        let document = serde_json::to_value(document()).unwrap();
        let text = document.to_string();
        let mut seen = 0;
        for found in text.split("\"$ref\":\"#").skip(1) {
            let pointer = found.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
            seen += 1;
        }
        assert!(seen > 15, "{seen}");
        for name in ["Registration", "Heartbeat", "ReportedSession", "Events", "Event", "Backlog", "Origin"] {
            let fields = document["components"]["schemas"][name]["properties"].as_object().unwrap();
            assert!(fields.len() >= 3, "{name}");
            for (field, schema) in fields {
                let explained = schema.get("description").is_some() || schema.to_string().contains("$ref");
                assert!(explained, "{name}.{field}");
            }
        }
    }
}
