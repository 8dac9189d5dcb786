//! The verifier against attackers, clocks and tokens of others.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Claims, Config, Grant, KeyError, MAX_TOKEN_BYTES, Refusal, Role, Verifier};
use crate::auth::fixtures::{
    EC_PRIVATE, EC_PUBLIC, ED_PRIVATE, ED_PUBLIC, ED_TOKEN, ES_TOKEN, HS_TOKEN, JWK_SET, RS_TOKEN,
    RSA_1024_MODULUS, RSA_1024_PUBLIC, RSA_PUBLIC, SECRET,
};
use crate::auth::{Algorithm, Audience, KeyConfig, SigningKey, sign};
use crate::secret::Secret;

const NOW: u64 = 1_800_000_000;
const EXP: u64 = NOW + 900;

fn shared(kid: Option<&str>, secret: &[u8]) -> KeyConfig {
    KeyConfig::SharedSecret { kid: kid.map(str::to_owned), secret: Secret::new(secret.to_vec()) }
}

fn public(kid: &str, algorithm: Algorithm, pem: &str) -> KeyConfig {
    KeyConfig::PublicKey { kid: Some(kid.to_owned()), algorithm, pem: pem.to_owned() }
}

fn config(keys: Vec<KeyConfig>) -> Config {
    Config {
        keys,
        jwks_url: None,
        issuer: None,
        audience: None,
        leeway: Duration::from_secs(5),
        default_role: Role::Controller,
        single_use: false,
        allow_query_token: false,
    }
}

fn all_keys() -> Vec<KeyConfig> {
    vec![
        shared(Some("hs"), SECRET),
        public("es", Algorithm::Es256, EC_PUBLIC),
        public("ed", Algorithm::EdDsa, ED_PUBLIC),
        public("rs", Algorithm::Rs256, RSA_PUBLIC),
    ]
}

fn verifier(keys: Vec<KeyConfig>) -> Verifier {
    Verifier::new(&config(keys)).unwrap()
}

fn encode(part: &str) -> String {
    URL_SAFE_NO_PAD.encode(part)
}

/// A token signed with `secret` whatever its header and payload say, so that only they can be the reason of a refusal.
fn forge(header: &str, payload: &str, secret: &[u8]) -> String {
    let message = format!("{}.{}", encode(header), encode(payload));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
    let signature = aws_lc_rs::hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
}

fn good_payload() -> Value {
    json!({"session_id": "s1", "user_id": "u1", "exp": EXP})
}

fn with(name: &str, value: Value) -> String {
    let mut payload = good_payload();
    payload[name] = value;
    payload.to_string()
}

fn check(payload: &str) -> Result<Grant, Refusal> {
    verifier(vec![shared(None, SECRET)]).verify(&forge(r#"{"alg":"HS256"}"#, payload, SECRET), NOW)
}

#[test]
fn tokens_made_by_openssl_are_taken_for_every_algorithm() {
    let expected = Grant {
        session: "s1".parse().unwrap(),
        user: "u1".parse().unwrap(),
        role: Role::Spectator,
        expires_at: 4_102_444_800,
        token_id: None,
    };
    let from_pem = verifier(all_keys());
    let from_set = verifier(vec![shared(Some("hs"), SECRET), KeyConfig::JwkSet { json: JWK_SET.to_owned() }]);
    for token in [HS_TOKEN, ES_TOKEN, ED_TOKEN, RS_TOKEN] {
        assert_eq!(from_pem.verify(token, NOW), Ok(expected.clone()), "{token}");
        assert_eq!(from_set.verify(token, NOW), Ok(expected.clone()), "{token}");
    }
}

#[test]
fn headers_of_attackers_are_refused() {
    let payload = good_payload().to_string();
    let keys = verifier(all_keys());
    let cases = [
        (r#"{"alg":"none","kid":"hs"}"#, SECRET.as_slice(), Refusal::WrongAlgorithm),
        (r#"{"alg":"NONE","kid":"hs"}"#, SECRET, Refusal::WrongAlgorithm),
        (r#"{"alg":"hs256","kid":"hs"}"#, SECRET, Refusal::WrongAlgorithm),
        (r#"{"alg":"HS512","kid":"hs"}"#, SECRET, Refusal::WrongAlgorithm),
        // The classic swap: the RSA public key as the HMAC secret.
        (r#"{"alg":"HS256","kid":"rs"}"#, RSA_PUBLIC.as_bytes(), Refusal::WrongAlgorithm),
        (r#"{"alg":"RS256","kid":"hs"}"#, SECRET, Refusal::WrongAlgorithm),
        (r#"{"alg":"ES256","kid":"ed"}"#, SECRET, Refusal::WrongAlgorithm),
        (r#"{"alg":"HS256","kid":"other"}"#, SECRET, Refusal::UnknownKey),
        (r#"{"alg":"HS256"}"#, SECRET, Refusal::UnknownKey),
        (r#"{"alg":"HS256","kid":"../../dev/null"}"#, SECRET, Refusal::Malformed),
        (r#"{"alg":"HS256","kid":"hs' OR 1=1--"}"#, SECRET, Refusal::Malformed),
        (r#"{"alg":"HS256","kid":""}"#, SECRET, Refusal::Malformed),
        (r#"{"alg":"HS256","kid":null}"#, SECRET, Refusal::Malformed),
        (r#"{"alg":"HS256","kid":["hs"]}"#, SECRET, Refusal::Malformed),
        (r#"{"alg":"HS256","kid":"hs","crit":["exp"]}"#, SECRET, Refusal::Malformed),
        (r#"{"alg":"HS256","kid":"hs","crit":null}"#, SECRET, Refusal::Malformed),
        (r#"{"alg":"HS256","alg":"HS256","kid":"hs"}"#, SECRET, Refusal::Malformed),
        (r#"{"alg":"HS256","kid":"hs"} "x""#, SECRET, Refusal::Malformed),
        (r#"{"kid":"hs"}"#, SECRET, Refusal::Malformed),
        // A key that the token brings itself is not even read: the signature stays wrong.
        (r#"{"alg":"HS256","kid":"hs","jwk":{"kty":"oct","k":"AAAA"}}"#, &[0; 32], Refusal::BadSignature),
        (r#"{"alg":"HS256","kid":"hs","jku":"https://evil.example/jwks"}"#, &[0; 32], Refusal::BadSignature),
        (r#"{"alg":"HS256","kid":"hs"}"#, b"another secret of thirty-two bytes", Refusal::BadSignature),
    ];
    for (header, secret, refusal) in cases {
        assert_eq!(keys.verify(&forge(header, &payload, secret), NOW), Err(refusal), "{header}");
    }
    assert!(keys.verify(&forge(r#"{"alg":"HS256","kid":"hs"}"#, &payload, SECRET), NOW).is_ok());
}

#[test]
fn structures_that_are_no_token_are_refused() {
    let keys = verifier(all_keys());
    let (message, signature) = HS_TOKEN.rsplit_once('.').unwrap();
    let cases = [
        (String::new(), Refusal::Missing),
        ("x".to_owned(), Refusal::Malformed),
        ("a.b.c".to_owned(), Refusal::Malformed),
        (message.to_owned(), Refusal::Malformed),
        (format!("{message}."), Refusal::BadSignature),
        (format!("{HS_TOKEN}="), Refusal::Malformed),
        (format!("{HS_TOKEN}.{signature}"), Refusal::Malformed),
        (format!(" {HS_TOKEN}"), Refusal::Malformed),
        (format!("{HS_TOKEN}\n"), Refusal::Malformed),
        (format!("{HS_TOKEN}{}", "A".repeat(MAX_TOKEN_BYTES)), Refusal::Malformed),
    ];
    for (token, refusal) in cases {
        assert_eq!(keys.verify(&token, NOW), Err(refusal), "{token:.40}");
    }
}

#[test]
fn claims_of_the_wrong_type_refuse_the_token() {
    let wrong = [
        ("exp", json!("123")),
        ("exp", json!(-1)),
        ("exp", json!(1.8e9)),
        ("exp", json!(null)),
        ("exp", json!(u64::MAX)),
        ("exp", json!([EXP])),
        ("nbf", json!("abc")),
        ("nbf", json!(null)),
        ("iat", json!("1")),
        ("role", json!(null)),
        ("role", json!("admin")),
        ("role", json!("Controller")),
        ("role", json!(["controller"])),
        ("session_id", json!("../etc")),
        ("session_id", json!(7)),
        ("user_id", json!("")),
        ("user_id", json!({"name": "u1"})),
        ("iss", json!(1)),
        ("aud", json!({"a": 1})),
        ("aud", json!([1])),
        ("jti", json!(1)),
        ("jti", json!("")),
        ("jti", json!("x".repeat(257))),
    ];
    for (name, value) in wrong {
        assert_eq!(check(&with(name, value.clone())), Err(Refusal::Malformed), "{name}: {value}");
    }
    for name in ["session_id", "user_id", "exp"] {
        let mut payload = good_payload();
        payload.as_object_mut().unwrap().remove(name);
        assert_eq!(check(&payload.to_string()), Err(Refusal::Malformed), "without {name}");
    }
    let huge = r#"{"session_id":"s1","user_id":"u1","exp":1e400}"#;
    let twice = r#"{"session_id":"s1","session_id":"s2","user_id":"u1","exp":1800000900}"#;
    for payload in [huge, twice, "[]", "null", ""] {
        assert_eq!(check(payload), Err(Refusal::Malformed), "{payload}");
    }
    assert!(check(&good_payload().to_string()).is_ok());
}

#[test]
fn a_token_without_a_role_gets_the_default_one() {
    assert_eq!(check(&good_payload().to_string()).unwrap().role, Role::Controller);
    assert_eq!(check(&with("role", json!("operator"))).unwrap().role, Role::Operator);
    let mut strict = config(vec![shared(None, SECRET)]);
    strict.default_role = Role::Spectator;
    let token = forge(r#"{"alg":"HS256"}"#, &good_payload().to_string(), SECRET);
    assert_eq!(Verifier::new(&strict).unwrap().verify(&token, NOW).unwrap().role, Role::Spectator);
}

#[test]
fn time_has_five_seconds_of_leeway_at_the_start_and_none_at_the_end() {
    assert_eq!(check(&with("exp", json!(NOW))), Err(Refusal::Expired));
    assert!(check(&with("exp", json!(NOW + 1))).is_ok());
    for claim in ["nbf", "iat"] {
        assert_eq!(check(&with(claim, json!(NOW + 6))), Err(Refusal::NotYetValid), "{claim}");
        assert!(check(&with(claim, json!(NOW + 5))).is_ok(), "{claim}");
    }
    let mut lax = config(vec![shared(None, SECRET)]);
    lax.leeway = Duration::from_secs(3600);
    let token = forge(r#"{"alg":"HS256"}"#, &with("nbf", json!(NOW + 6)), SECRET);
    assert_eq!(Verifier::new(&lax).unwrap().verify(&token, NOW), Err(Refusal::NotYetValid));
}

#[test]
fn issuer_audience_and_single_use_are_demanded_where_configured() {
    let mut strict = config(vec![shared(None, SECRET)]);
    strict.issuer = Some("https://api".to_owned());
    strict.audience = Some("valetd".to_owned());
    strict.single_use = true;
    let strict = Verifier::new(&strict).unwrap();
    let full = json!({"session_id": "s1", "user_id": "u1", "exp": EXP, "iss": "https://api", "aud": ["x", "valetd"], "jti": "j"});
    let cases = [
        ("iss", json!("https://evil"), Some(Refusal::WrongIssuer)),
        ("aud", json!("other"), Some(Refusal::WrongAudience)),
        ("aud", json!([]), Some(Refusal::WrongAudience)),
        ("aud", json!("valetd"), None),
    ];
    for (name, value, refusal) in cases {
        let mut payload = full.clone();
        payload[name] = value;
        let result = strict.verify(&forge(r#"{"alg":"HS256"}"#, &payload.to_string(), SECRET), NOW);
        assert_eq!(result.err(), refusal, "{payload}");
    }
    for (name, refusal) in
        [("iss", Refusal::WrongIssuer), ("aud", Refusal::WrongAudience), ("jti", Refusal::Malformed)]
    {
        let mut payload = full.clone();
        payload.as_object_mut().unwrap().remove(name);
        let result = strict.verify(&forge(r#"{"alg":"HS256"}"#, &payload.to_string(), SECRET), NOW);
        assert_eq!(result, Err(refusal), "without {name}");
    }
}

#[test]
fn two_keys_are_live_during_rotation_and_the_retired_one_is_not() {
    let new = b"the next secret, also 32 bytes..";
    let payload = good_payload().to_string();
    let old_token = forge(r#"{"alg":"HS256","kid":"k1"}"#, &payload, SECRET);
    let new_token = forge(r#"{"alg":"HS256","kid":"k2"}"#, &payload, new);
    let both = verifier(vec![shared(Some("k1"), SECRET), shared(Some("k2"), new)]);
    assert!(both.verify(&old_token, NOW).is_ok());
    assert!(both.verify(&new_token, NOW).is_ok());
    let after = verifier(vec![shared(Some("k2"), new)]);
    assert_eq!(after.verify(&old_token, NOW), Err(Refusal::UnknownKey));
    let unnamed = verifier(vec![shared(None, SECRET), shared(None, new)]);
    for secret in [SECRET.as_slice(), new] {
        assert!(unnamed.verify(&forge(r#"{"alg":"HS256"}"#, &payload, secret), NOW).is_ok());
    }
}

#[test]
fn keys_that_are_too_weak_or_of_the_wrong_kind_are_refused_at_load() {
    let refused = |key: KeyConfig| Verifier::new(&config(vec![key])).unwrap_err();
    assert_eq!(refused(shared(None, &[0; 31])), KeyError::ShortSecret(31));
    assert_eq!(refused(public("a", Algorithm::Rs256, RSA_1024_PUBLIC)), KeyError::RsaSize(1024));
    assert_eq!(refused(public("a", Algorithm::Es256, RSA_PUBLIC)), KeyError::BadPem("ES256"));
    assert_eq!(refused(public("a", Algorithm::Rs256, EC_PUBLIC)), KeyError::BadPem("RS256"));
    assert_eq!(refused(public("a", Algorithm::Es256, EC_PRIVATE)), KeyError::BadPem("ES256"));
    assert_eq!(refused(public("a", Algorithm::Hs256, RSA_PUBLIC)), KeyError::NotPublic("HS256"));
    assert_eq!(refused(public("a/b", Algorithm::Es256, EC_PUBLIC)), KeyError::BadKeyId);
    let twice = vec![shared(Some("k"), SECRET), shared(Some("k"), SECRET)];
    assert_eq!(Verifier::new(&config(twice)).unwrap_err(), KeyError::DuplicateKeyId("k".into()));
}

#[test]
fn a_public_set_with_secrets_weak_keys_or_nothing_for_us_is_refused() {
    let refused = |json: String| verifier(vec![]).with_fetched(&json).unwrap_err();
    let key = |entry: Value| json!({"keys": [entry]}).to_string();
    assert_eq!(
        refused(key(json!({"kty": "oct", "kid": "a", "k": encode("0123456789abcdef0123456789abcdef")}))),
        KeyError::BadSet("it holds a shared secret")
    );
    assert_eq!(
        refused(key(json!({"kty": "RSA", "kid": "a", "n": RSA_1024_MODULUS, "e": "AQAB"}))),
        KeyError::RsaSize(1024)
    );
    assert_eq!(
        refused(key(json!({"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": "", "d": ""}))),
        KeyError::BadSet("it holds a private key")
    );
    let zero = URL_SAFE_NO_PAD.encode([0; 32]);
    assert_eq!(
        refused(key(json!({"kty": "EC", "crv": "P-256", "kid": "a", "x": zero, "y": zero}))),
        KeyError::BadSet("a P-256 key is no point")
    );
    assert_eq!(refused(r#"{"keys":[]}"#.into()), KeyError::BadSet("it has no key that we can use"));
    assert_eq!(refused("<html>".into()), KeyError::BadSet("the JSON does not fit"));
    assert_eq!(
        verifier(all_keys()).with_fetched(JWK_SET).unwrap_err(),
        KeyError::DuplicateKeyId("es".into()),
        "a fetched key cannot take the place of a configured one"
    );
}

#[test]
fn what_we_sign_says_the_claims_and_verifies() {
    let claims = Claims {
        session_id: "s1".parse().unwrap(),
        user_id: "u1".parse().unwrap(),
        exp: EXP,
        role: Some(Role::Spectator),
        iss: None,
        aud: Some(Audience::One("valetd".into())),
        nbf: Some(NOW),
        iat: None,
        jti: None,
    };
    let keys = [
        SigningKey::from_secret(Some("hs".into()), SECRET).unwrap(),
        SigningKey::from_pem(Some("es".into()), Algorithm::Es256, EC_PRIVATE).unwrap(),
        SigningKey::from_pem(Some("ed".into()), Algorithm::EdDsa, ED_PRIVATE).unwrap(),
    ];
    for key in keys {
        let token = sign(&claims, &key).unwrap();
        let payload = token.split('.').nth(1).unwrap();
        let payload: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
        let expected = json!({"session_id": "s1", "user_id": "u1", "exp": EXP, "role": "spectator", "aud": "valetd", "nbf": NOW});
        assert_eq!(payload, expected);
        assert_eq!(verifier(all_keys()).verify(&token, NOW).unwrap().role, Role::Spectator);
    }
    assert!(SigningKey::from_secret(None, &[1; 31]).is_err());
}

#[test]
fn every_single_byte_change_of_a_good_token_is_refused() {
    let keys = verifier(all_keys());
    let mut tried = 0;
    for at in 0..HS_TOKEN.len() {
        for byte in (0_u8..128).filter(|byte| *byte != HS_TOKEN.as_bytes()[at]) {
            let mut changed = HS_TOKEN.as_bytes().to_vec();
            changed[at] = byte;
            let changed = String::from_utf8(changed).unwrap();
            assert!(keys.verify(&changed, NOW).is_err(), "{changed}");
            tried += 1;
        }
    }
    assert_eq!(tried, HS_TOKEN.len() * 127);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn time_only_moves_a_token_towards_refusal(a in 0_u64..u64::MAX, b in 0_u64..u64::MAX) {
        let (early, late) = (a.min(b), a.max(b));
        let keys = verifier(all_keys());
        if keys.verify(HS_TOKEN, early).is_err() {
            prop_assert!(keys.verify(HS_TOKEN, late).is_err());
        }
    }

    #[test]
    fn changed_public_key_tokens_are_refused(at in 0_usize..2000, byte in 0_u8..128) {
        let keys = verifier(all_keys());
        for token in [ES_TOKEN, ED_TOKEN, RS_TOKEN] {
            let at = at % token.len();
            let mut changed = token.as_bytes().to_vec();
            prop_assume!(changed[at] != byte);
            changed[at] = byte;
            prop_assert!(keys.verify(&String::from_utf8(changed).unwrap(), NOW).is_err());
        }
    }

    #[test]
    fn no_text_makes_the_verifier_panic(text in ".{0,300}") {
        prop_assert!(verifier(all_keys()).verify(&text, NOW).is_err());
    }
}
