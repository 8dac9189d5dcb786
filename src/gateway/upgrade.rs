//! Whether a request opens a WebSocket (RFC 6455 section 4.2.1). Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    TRANSFER_ENCODING, UPGRADE,
};
use hyper::{Method, Version};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// What a request's head asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// A WebSocket; `accept` is the value of `Sec-WebSocket-Accept`.
    Open {
        /// Base64 of the key's digest.
        accept: String,
    },
    /// No WebSocket at all: 426.
    NotAnUpgrade,
    /// A version other than 13: 426.
    WrongVersion,
    /// One that breaks the rules: 400.
    Bad(&'static str),
}

/// Judges a head. Lists may be spread over several headers; what must be one value may be there only once.
pub fn decide(method: &Method, version: Version, headers: &HeaderMap) -> Decision {
    if !has_token(headers, &UPGRADE, "websocket") {
        return Decision::NotAnUpgrade;
    }
    if *method != Method::GET || version != Version::HTTP_11 {
        return Decision::Bad("a WebSocket is opened with GET and HTTP/1.1");
    }
    if !has_token(headers, &CONNECTION, "upgrade") {
        return Decision::Bad("Connection does not name Upgrade");
    }
    if single(headers, &HOST).is_none() {
        return Decision::Bad("there is not one Host");
    }
    // Bytes of a body would be taken for frames.
    let has_body = headers.contains_key(TRANSFER_ENCODING)
        || headers.get_all(CONTENT_LENGTH).iter().any(|length| length.as_bytes() != b"0");
    if has_body {
        return Decision::Bad("the request has a body");
    }
    if single(headers, &SEC_WEBSOCKET_VERSION) != Some(b"13") {
        return Decision::WrongVersion;
    }
    match single(headers, &SEC_WEBSOCKET_KEY) {
        Some(key) if STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16) => {
            Decision::Open { accept: derive_accept_key(key) }
        }
        _ => Decision::Bad("Sec-WebSocket-Key is not 16 bytes in base64"),
    }
}

fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h [u8]> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value.as_bytes()),
        _ => None,
    }
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers.get_all(name).iter().any(|value| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|part| part.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    })
}

/// The judge of [`decide`] for fuzzing and property tests: a head as lines, read by a second, slower implementation.
pub mod oracle {
    use super::{Decision, decide};
    use hyper::header::{HeaderMap, HeaderName, HeaderValue};
    use hyper::{Method, Version};

    /// Reads `input` as `name: value` lines, the first byte choosing method and version, and compares both judgements.
    /// Heads that hyper would not pass on are left out. Gives whether it was a head.
    ///
    /// # Panics
    /// When the two disagree.
    pub fn check(input: &[u8]) -> bool {
        let Some((first, rest)) = input.split_first() else { return false };
        let method = if first & 1 == 0 { Method::GET } else { Method::POST };
        let version = if first & 2 == 0 { Version::HTTP_11 } else { Version::HTTP_10 };
        let mut headers = HeaderMap::new();
        let mut lines = Vec::new();
        for line in rest.split(|byte| *byte == b'\n').take(64) {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { return false };
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) else {
                return false;
            };
            lines.push((name.as_str().to_owned(), value.as_bytes().to_vec()));
            headers.append(name, value);
        }
        let opens = matches!(decide(&method, version, &headers), Decision::Open { .. });
        assert_eq!(opens, reference(first & 3 == 0, &lines), "{method} {version:?} {lines:?}");
        true
    }

    /// RFC 6455 section 4.2.1 as a list of conditions over all lines.
    fn reference(get_11: bool, lines: &[(String, Vec<u8>)]) -> bool {
        let values = |name: &str| -> Vec<String> {
            let of_name = lines.iter().filter(|(other, _)| other == name);
            of_name.map(|(_, value)| value.iter().map(|byte| char::from(*byte)).collect()).collect()
        };
        let lists = |name: &str, wanted: &str| {
            let all = values(name).join(",").to_ascii_lowercase();
            all.split(',').any(|part| part.trim_matches([' ', '\t']) == wanted)
        };
        let key = values("sec-websocket-key");
        let key_is_16_bytes = key.len() == 1 && {
            let key: Vec<char> = key[0].chars().collect();
            // 16 bytes are 22 digits and "==", and the last digit carries two bits only.
            key.len() == 24
                && key[22..] == ['=', '=']
                && key[..22].iter().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '/'))
                && matches!(key[21], 'A' | 'Q' | 'g' | 'w')
        };
        get_11
            && lists("upgrade", "websocket")
            && lists("connection", "upgrade")
            && values("host").len() == 1
            && values("transfer-encoding").is_empty()
            && values("content-length").iter().all(|length| length == "0")
            && values("sec-websocket-version") == ["13"]
            && key_is_16_bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "\0host: h\nconnection: keep-alive, Upgrade\nupgrade: WebSocket\nsec-websocket-version: 13\n\
                        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";

    #[test]
    fn the_rfcs_own_example_gets_the_rfcs_own_answer() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (HOST, "server.example.com"),
            (UPGRADE, "websocket"),
            (CONNECTION, "Upgrade"),
            (SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="),
            (SEC_WEBSOCKET_VERSION, "13"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned();
        assert_eq!(decide(&Method::GET, Version::HTTP_11, &headers), Decision::Open { accept });
        headers.insert(SEC_WEBSOCKET_VERSION, "8".parse().unwrap());
        assert_eq!(decide(&Method::GET, Version::HTTP_11, &headers), Decision::WrongVersion);
        headers.remove(UPGRADE);
        assert_eq!(decide(&Method::GET, Version::HTTP_11, &headers), Decision::NotAnUpgrade);
    }

    proptest! {
        #[test]
        fn a_changed_head_is_judged_as_the_reference_does(
            changes in prop::collection::vec((0..GOOD.len(), any::<u8>()), 0..3),
            dropped in prop::option::of(1_usize..6),
            doubled in prop::option::of(1_usize..6),
        ) {
            let mut bytes = GOOD.as_bytes().to_vec();
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            let mut lines: Vec<_> = bytes[1..].split(|byte| *byte == b'\n').collect();
            if let Some(line) = doubled.and_then(|at| lines.get(at - 1).copied()) {
                lines.push(line);
            }
            if let Some(at) = dropped.filter(|at| *at <= lines.len()) {
                lines.remove(at - 1);
            }
            oracle::check(&[&bytes[..1], lines.join(&b'\n').as_slice()].concat());
        }
    }

    #[test]
    fn the_oracle_judges_real_heads() {
        assert!(oracle::check(GOOD.as_bytes()));
        for (from, to) in [
            ("Upgrade", "Upgrad"),
            ("Q==", "R=="),
            ("Q==", "Q="),
            ("13", "13, 13"),
            ("host: h", "host: h\nhost: h"),
            ("host: h", "host: h\ncontent-length: 4"),
            ("\0", "\u{1}"),
        ] {
            assert!(oracle::check(GOOD.replace(from, to).as_bytes()), "{to}");
        }
    }

    #[test]
    fn the_seeds_of_the_fuzz_target_are_heads() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/ws_upgrade");
        let judged = std::fs::read_dir(seeds)
            .unwrap()
            .filter(|seed| oracle::check(&std::fs::read(seed.as_ref().unwrap().path()).unwrap()));
        assert_eq!(judged.count(), 7);
    }
}
