//! One pass over JSON text that finds the members of an object without copying or building anything.
//!
//! It is laxer than JSON inside values that are skipped. That is safe: Chromium takes well-formed JSON only, and in
//! well-formed JSON both see the same members.

use memchr::memchr2;

/// Chromium's own parser gives up at this depth (`kStackLimit` of its `json.cc`).
const MAX_DEPTH: usize = 300;

/// The text is no JSON that both sides would read alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not JSON at byte {0}")]
pub(super) struct Malformed(pub(super) usize);

/// One member of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Member<'a> {
    /// The key with its quotes.
    pub(super) key: &'a [u8],
    /// The value, without the space around it.
    pub(super) value: &'a [u8],
    /// Where the value begins in the text.
    pub(super) start: usize,
}

impl Member<'_> {
    /// Whether the key is `name`, however it is escaped.
    pub(super) fn is(&self, name: &str) -> bool {
        string(self.key).is_some_and(|key| key == name)
    }
}

/// The members of an object, or the items of an array, in their order. Ends after the first error.
pub(super) struct Members<'a> {
    text: &'a [u8],
    at: usize,
    close: u8,
    state: State,
}

#[derive(PartialEq, Eq)]
enum State {
    First,
    Further,
    Over,
}

/// The members of the object that is the whole of `text`; `None` when it begins as something else.
pub(super) fn object(text: &[u8]) -> Option<Members<'_>> {
    open(text, b'{', b'}')
}

/// The items of the array that is the whole of `text`, with empty keys; `None` when it begins as something else.
pub(super) fn array(text: &[u8]) -> Option<Members<'_>> {
    open(text, b'[', b']')
}

fn open(text: &[u8], first: u8, close: u8) -> Option<Members<'_>> {
    let at = past_space(text, 0);
    (text.get(at) == Some(&first)).then_some(Members { text, at: at + 1, close, state: State::First })
}

impl<'a> Members<'a> {
    fn advance(&mut self) -> Result<Option<Member<'a>>, Malformed> {
        self.space();
        let next = self.peek();
        match (&self.state, next) {
            (_, Some(byte)) if byte == self.close => {
                self.at += 1;
                self.space();
                self.state = State::Over;
                // Something behind the end would be read by nobody, or by somebody else.
                return if self.at == self.text.len() { Ok(None) } else { Err(Malformed(self.at)) };
            }
            (State::First, _) => {}
            (State::Further, Some(b',')) => {
                self.at += 1;
                self.space();
            }
            _ => return Err(Malformed(self.at)),
        }
        self.state = State::Further;
        let key = if self.close == b'}' { self.key()? } else { &[] };
        let start = self.at;
        self.at = past_value(self.text, start)?;
        let value = self.text.get(start..self.at).unwrap_or_default();
        Ok(Some(Member { key, value, start }))
    }

    fn key(&mut self) -> Result<&'a [u8], Malformed> {
        let start = self.at;
        if self.peek() != Some(b'"') {
            return Err(Malformed(start));
        }
        self.at = past_string(self.text, start)?;
        let key = self.text.get(start..self.at).unwrap_or_default();
        self.space();
        if self.peek() != Some(b':') {
            return Err(Malformed(self.at));
        }
        self.at += 1;
        self.space();
        Ok(key)
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        self.at = past_space(self.text, self.at);
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = Result<Member<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == State::Over {
            return None;
        }
        let member = self.advance().transpose();
        if !matches!(member, Some(Ok(_))) {
            self.state = State::Over;
        }
        member
    }
}

/// The text of a string literal; `None` for anything else, and for strings that have no meaning in Unicode.
pub(super) fn string(literal: &[u8]) -> Option<std::borrow::Cow<'_, str>> {
    let inner = literal.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if inner.iter().any(|byte| matches!(byte, b'\\' | b'"') || *byte < b' ') {
        return serde_json::from_slice::<String>(literal).ok().map(Into::into);
    }
    std::str::from_utf8(inner).ok().map(Into::into)
}

fn past_space(text: &[u8], from: usize) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    let other = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    from + other.unwrap_or(rest.len())
}

/// Past the string that begins at `start`.
fn past_string(text: &[u8], start: usize) -> Result<usize, Malformed> {
    let mut at = start + 1;
    loop {
        let rest = text.get(at..).ok_or(Malformed(start))?;
        let hit = memchr2(b'"', b'\\', rest).ok_or(Malformed(start))?;
        if rest.get(hit) == Some(&b'"') {
            return Ok(at + hit + 1);
        }
        at += hit + 2;
    }
}

fn past_value(text: &[u8], start: usize) -> Result<usize, Malformed> {
    let mut depth = 0_usize;
    let mut at = start;
    loop {
        match text.get(at).copied().ok_or(Malformed(at))? {
            b'"' => at = past_string(text, at)?,
            b'{' | b'[' if depth == MAX_DEPTH => return Err(Malformed(at)),
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' if depth == 0 => return Err(Malformed(at)),
            b'}' | b']' => {
                depth -= 1;
                at += 1;
            }
            _ if depth == 0 => return past_scalar(text, at),
            _ => at += 1,
        }
        if depth == 0 {
            return Ok(at);
        }
    }
}

fn past_scalar(text: &[u8], start: usize) -> Result<usize, Malformed> {
    let rest = text.get(start..).unwrap_or_default();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    let length = rest.iter().position(|byte| !plain(byte)).unwrap_or(rest.len());
    if length == 0 { Err(Malformed(start)) } else { Ok(start + length) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn members(text: &str) -> Result<Vec<(String, String)>, Malformed> {
        let text_of = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        object(text.as_bytes())
            .unwrap()
            .map(|member| member.map(|member| (text_of(member.key), text_of(member.value))))
            .collect()
    }

    #[test]
    fn members_are_found_whatever_is_in_the_values() {
        let found =
            members("{\"a\" : \"}\\\"{\" ,\n\"b\":[{\"c\":\"]\"},1e5],\"\":null, \"d\":{}}\r\n").unwrap();
        let expected =
            [("\"a\"", "\"}\\\"{\""), ("\"b\"", "[{\"c\":\"]\"},1e5]"), ("\"\"", "null"), ("\"d\"", "{}")];
        assert_eq!(found, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert_eq!(members(" {} "), Ok(vec![]));
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_malformed() {
        for bad in [
            "{",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1",
            "{\"a\":1,}",
            "{,}",
            "{\"a\":1 \"b\":2}",
            "{\"a\":}",
            "{a:1}",
            "{'a':1}",
            "{\"a\":1}x",
            "{\"a\":1}\0",
            "{\"a\":1}{}",
            "{/**/\"a\":1}",
            "{\"a\":/**/1}",
            "{\"a\":\"x}",
            "{\"a\":\"x\\",
            "{\u{b}\"a\":1}",
            "{\"a\":1]",
        ] {
            assert!(members(bad).is_err(), "{bad}");
        }
        let nested = |depth| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(members(&nested(300)).is_ok());
        assert!(members(&nested(301)).is_err());
        assert!(object(b"[]").is_none() && object(b"").is_none() && object(b"\xef\xbb\xbf{}").is_none());
    }

    #[test]
    fn strings_are_read_as_unicode_or_not_at_all() {
        for (literal, text) in
            [(r#""a""#, "a"), (r#""\u0042\ud83d\ude00\/""#, "B😀/"), ("\"ä\"", "ä"), (r#""""#, "")]
        {
            assert_eq!(string(literal.as_bytes()).unwrap(), text);
        }
        for bad in ["a", "\"", "5", r#""\ud800""#, r#""\x41""#, "\"\n\"", "\"\0\"", r#""a"b""#, r#""\""#] {
            assert_eq!(string(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(string(b"\"\xff\""), None);
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(|number| serde_json::json!(number)),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
                prop::collection::btree_map(any::<String>(), inner, 0..8)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_object_is_read_as_another_parser_does(
            map in prop::collection::btree_map(any::<String>(), json(), 0..8), pretty: bool,
        ) {
            let value = serde_json::Value::Object(map.into_iter().collect());
            let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
            let mut found = serde_json::Map::new();
            for member in object(&text).unwrap() {
                let member = member.unwrap();
                let key = string(member.key).unwrap().into_owned();
                prop_assert_eq!(&text[member.start..member.start + member.value.len()], member.value);
                found.insert(key, serde_json::from_slice(member.value).unwrap());
            }
            // Numbers were printed and read once more on both ways.
            let again: serde_json::Value = serde_json::from_slice(&text).unwrap();
            prop_assert_eq!(serde_json::Value::Object(found), again);
        }
    }
}
