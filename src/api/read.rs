//! Reading requests: bodies field by field and queries parameter by parameter, with every mistake at its place.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use serde_json::{Map, Value};

use super::refused::{Refused, Trouble};
use crate::errors::chain;
use crate::http::body::{self, BodyError};
use crate::http::{Mistake, Place};

/// Longest body, in bytes. A session with every field filled in has some thousands.
pub(super) const MAX_BODY_BYTES: usize = 64 * 1024;
/// For the body to come.
const BODY_DEADLINE: Duration = Duration::from_secs(10);
/// Mistakes told at most; who sends more has not sent what they meant to.
const MAX_MISTAKES: usize = 64;

/// The JSON body of a request, and its bytes.
pub(super) async fn body(headers: &HeaderMap, incoming: Incoming) -> Result<(Bytes, Value), Box<Refused>> {
    let bytes = bytes(incoming).await?;
    let value = json(headers, &bytes)?;
    Ok((bytes, value))
}

/// The same where there need not be one.
pub(super) async fn optional_body(
    headers: &HeaderMap,
    incoming: Incoming,
) -> Result<Option<Value>, Box<Refused>> {
    let bytes = bytes(incoming).await?;
    if bytes.is_empty() { Ok(None) } else { json(headers, &bytes).map(Some) }
}

async fn bytes(incoming: Incoming) -> Result<Bytes, Box<Refused>> {
    body::read(incoming, MAX_BODY_BYTES, BODY_DEADLINE).await.map_err(|error| match error {
        BodyError::TooLarge => Trouble::TooLarge.into(),
        BodyError::Deadline => Trouble::BodyTimeout.into(),
        BodyError::Broken(_) => Refused::because(Trouble::NotJson, chain(&error)),
    })
}

fn json(headers: &HeaderMap, bytes: &Bytes) -> Result<Value, Box<Refused>> {
    if !is_json(headers) {
        return Err(Trouble::MediaType.into());
    }
    // The library's message names a line and a column, and nothing that was sent.
    serde_json::from_slice(bytes)
        .map_err(|error| Refused::because(Trouble::NotJson, format!("the body is not JSON: {error}")))
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(given), None) = (types.next().and_then(|value| value.to_str().ok()), types.next()) else {
        return false;
    };
    given.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

/// What is wrong with a request, as it is found.
#[derive(Debug, Default)]
pub(super) struct Mistakes(Vec<Mistake>);

impl Mistakes {
    pub(super) fn add(&mut self, place: Place, detail: impl Into<String>) {
        if self.0.len() < MAX_MISTAKES {
            self.0.push(Mistake { place, detail: detail.into() });
        }
    }

    /// Refuses if there was any.
    pub(super) fn check(self) -> Result<(), Box<Refused>> {
        if self.0.is_empty() { Ok(()) } else { Err(Refused::invalid(self.0)) }
    }
}

/// A JSON object whose fields are taken out one by one.
pub(super) struct Fields<'a> {
    object: Map<String, Value>,
    pointer: String,
    mistakes: &'a mut Mistakes,
}

impl<'a> Fields<'a> {
    /// The object at `pointer`; anything else is a mistake, and then has no fields.
    pub(super) fn of(value: Value, pointer: &str, mistakes: &'a mut Mistakes) -> Self {
        let object = match value {
            Value::Object(object) => object,
            _ => {
                mistakes.add(Place::Body(pointer.to_owned()), "must be an object");
                Map::new()
            }
        };
        Self { object, pointer: pointer.to_owned(), mistakes }
    }

    /// A field that `read` understands.
    pub(super) fn take<T>(&mut self, name: &str, read: impl FnOnce(Value) -> Result<T, String>) -> Option<T> {
        let value = self.object.remove(name)?;
        match read(value) {
            Ok(value) => Some(value),
            Err(detail) => {
                self.wrong(name, detail);
                None
            }
        }
    }

    /// A text that `parse` understands.
    pub(super) fn text<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        self.take(name, |value| parse(value.as_str().ok_or("must be a string")?))
    }

    /// The same, where it must be there.
    pub(super) fn required<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if !self.object.contains_key(name) {
            self.wrong(name, "must be given".to_owned());
        }
        self.text(name, parse)
    }

    /// True or false.
    pub(super) fn flag(&mut self, name: &str) -> Option<bool> {
        self.take(name, |value| value.as_bool().ok_or_else(|| "must be true or false".to_owned()))
    }

    /// A whole number in a range.
    pub(super) fn number<N>(&mut self, name: &str, range: std::ops::RangeInclusive<N>) -> Option<N>
    where
        N: TryFrom<u64> + PartialOrd + std::fmt::Display,
    {
        self.take(name, |value| {
            let number = value.as_u64().and_then(|number| N::try_from(number).ok());
            let refusal = || format!("must be a whole number from {} to {}", range.start(), range.end());
            number.filter(|number| range.contains(number)).ok_or_else(refusal)
        })
    }

    /// The same, where it must be there.
    pub(super) fn required_number<N>(&mut self, name: &str, range: std::ops::RangeInclusive<N>) -> Option<N>
    where
        N: TryFrom<u64> + PartialOrd + std::fmt::Display,
    {
        if !self.object.contains_key(name) {
            self.wrong(name, "must be given".to_owned());
        }
        self.number(name, range)
    }

    /// An object within this one, if there is one.
    pub(super) fn object<T>(&mut self, name: &str, read: impl FnOnce(&mut Fields<'_>) -> T) -> Option<T> {
        let value = self.object.remove(name)?;
        let pointer = self.at(name);
        let mut fields = Fields::of(value, &pointer, self.mistakes);
        let read = read(&mut fields);
        fields.finish();
        Some(read)
    }

    /// An object of texts, of which there are `most` at most. `check` says what is wrong with a name and its text.
    pub(super) fn texts(
        &mut self,
        name: &str,
        most: usize,
        check: impl Fn(&str, &str) -> Result<(), String>,
    ) -> BTreeMap<String, String> {
        let mut good = BTreeMap::new();
        let Some(value) = self.object.remove(name) else { return good };
        let pointer = self.at(name);
        let Value::Object(texts) = value else {
            self.mistakes.add(Place::Body(pointer), "must be an object of strings");
            return good;
        };
        if texts.len() > most {
            self.mistakes.add(Place::Body(pointer.clone()), format!("must have {most} entries at most"));
        }
        for (key, value) in texts.into_iter().take(most) {
            let checked = match value {
                Value::String(text) => check(&key, &text).map(|()| text),
                _ => Err("must be a string".to_owned()),
            };
            match checked {
                Ok(text) => drop(good.insert(key, text)),
                Err(detail) => self.mistakes.add(Place::Body(format!("{pointer}/{}", escaped(&key))), detail),
            }
        }
        good
    }

    /// What nobody has asked for is a mistake: it may be a field that was meant to do something.
    pub(super) fn finish(self) {
        for name in self.object.keys() {
            let pointer = format!("{}/{}", self.pointer, escaped(name));
            self.mistakes.add(Place::Body(pointer), "there is no such field");
        }
    }

    fn wrong(&mut self, name: &str, detail: String) {
        let pointer = self.at(name);
        self.mistakes.add(Place::Body(pointer), detail);
    }

    fn at(&self, name: &str) -> String {
        format!("{}/{}", self.pointer, escaped(name))
    }
}

/// A name in a JSON pointer (RFC 6901 section 3).
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// The parameters of a query.
pub(super) struct Query<'a> {
    pairs: Vec<(String, String)>,
    mistakes: &'a mut Mistakes,
}

impl<'a> Query<'a> {
    pub(super) fn of(query: Option<&str>, mistakes: &'a mut Mistakes) -> Self {
        // The parser wants a whole URL. What is before the query does not matter.
        let url = reqwest::Url::parse(&format!("http://host/?{}", query.unwrap_or_default()));
        let pairs = url.map(|url| url.query_pairs().into_owned().collect());
        Self { pairs: pairs.unwrap_or_default(), mistakes }
    }

    /// All values of a parameter.
    pub(super) fn all<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let (found, rest) = std::mem::take(&mut self.pairs).into_iter().partition(|(key, _)| key == name);
        self.pairs = rest;
        let found: Vec<(String, String)> = found;
        let mut good = Vec::new();
        for (_name, text) in found {
            match parse(&text) {
                Ok(value) => good.push(value),
                Err(detail) => self.mistakes.add(Place::Query(name.to_owned()), detail),
            }
        }
        good
    }

    /// A parameter that may be there once.
    pub(super) fn one<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        if self.pairs.iter().filter(|(key, _)| key == name).count() > 1 {
            self.mistakes.add(Place::Query(name.to_owned()), "must be given once");
        }
        self.all(name, parse).pop()
    }

    /// What nobody has asked for is a mistake.
    pub(super) fn finish(self) {
        for (name, _value) in self.pairs {
            self.mistakes.add(Place::Query(name), "there is no such parameter");
        }
    }
}

/// For what parses by itself and says in words what is wrong.
pub(super) fn parsed<T>(text: &str) -> Result<T, String>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn places(mistakes: &Mistakes) -> Vec<String> {
        let text = |place: &Place| match place {
            Place::Body(at) => at.clone(),
            Place::Query(name) => format!("?{name}"),
            Place::Header(name) => (*name).to_owned(),
        };
        mistakes.0.iter().map(|mistake| format!("{} {}", text(&mistake.place), mistake.detail)).collect()
    }

    #[test]
    fn every_mistake_is_told_at_its_place() {
        let mut mistakes = Mistakes::default();
        let body = json!({ "a": 5, "b": { "c": 70000, "x/y~": 1 }, "t": { "k": 1, "bad": "v" }, "zz": null });
        let mut fields = Fields::of(body, "", &mut mistakes);
        assert_eq!(fields.text("a", |text| Ok(text.to_owned())), None);
        assert_eq!(fields.object("b", |b| b.number("c", 1..=9_u16)), Some(None));
        let texts = fields.texts("t", 9, |key, _| if key == "bad" { Err("no".into()) } else { Ok(()) });
        assert!(texts.is_empty());
        assert_eq!(fields.required("r", |_| Ok(())), None);
        fields.finish();
        let expected = [
            "/a must be a string",
            "/b/c must be a whole number from 1 to 9",
            "/b/x~1y~0 there is no such field",
            "/t/bad no",
            "/t/k must be a string",
            "/r must be given",
            "/zz there is no such field",
        ];
        assert_eq!(places(&mistakes), expected);
    }

    #[test]
    fn a_query_is_decoded_and_knows_its_names() {
        let mut mistakes = Mistakes::default();
        let mut query = Query::of(Some("label=a%3Ab+c&label=d:e&n=1&n=2&x"), &mut mistakes);
        assert_eq!(query.all("label", |text| Ok(text.to_owned())), ["a:b c", "d:e"]);
        assert_eq!(query.one("n", parsed::<u8>), Some(2));
        assert_eq!(query.one("none", parsed::<u8>), None);
        query.finish();
        assert_eq!(places(&mistakes), ["?n must be given once", "?x there is no such parameter"]);
    }

    #[test]
    fn a_body_of_another_type_is_not_read_as_json() {
        let is = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.append(CONTENT_TYPE, value.parse().unwrap());
            is_json(&headers)
        };
        assert!(is("application/json") && is("Application/JSON; charset=utf-8"));
        assert!(!is("text/plain") && !is("application/json-patch+json") && !is_json(&HeaderMap::new()));
    }
}
