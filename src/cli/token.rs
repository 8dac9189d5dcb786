//! `valetd token`.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::output::{answer, complain};
use super::{Exit, TokenArgs};
use crate::auth::{self, MintError, NewToken};
use crate::config::{Config, load};
use crate::errors::chain;

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The clock is before 1970.
    #[error("the clock of this host is wrong")]
    Clock,
    /// No random bytes for the token's id.
    #[error("the system has no random numbers")]
    Random,
    /// The token cannot be made.
    #[error(transparent)]
    Mint(#[from] MintError),
}

/// Prints a token on `out`, and nothing else there.
pub fn run(
    args: &TokenArgs,
    environment: impl Iterator<Item = (OsString, OsString)>,
    credentials_dir: Option<&Path>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Exit {
    let config = match load(Some(&args.config), environment, credentials_dir) {
        Ok(config) => config,
        Err(mistakes) => return complain(err, &mistakes.to_string(), Exit::Configuration),
    };
    match mint(&config, args, SystemTime::now()) {
        Ok(token) => answer(out, &format!("{token}\n")),
        Err(error @ TokenError::Mint(MintError::NoKey)) => complain(err, &chain(&error), Exit::Configuration),
        Err(error) => complain(err, &chain(&error), Exit::Failed),
    }
}

/// A token as `args` describe it, good from `now`.
///
/// # Errors
/// When there is no key to sign with, or it does not sign.
pub fn mint(config: &Config, args: &TokenArgs, now: SystemTime) -> Result<String, TokenError> {
    let now = now.duration_since(UNIX_EPOCH).map_err(|_| TokenError::Clock)?.as_secs();
    let mut random = [0; 16];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| TokenError::Random)?;
    let token =
        NewToken { session: args.session.clone(), user: args.user.clone(), role: args.role, ttl: args.ttl };
    let own = config.signing_key.as_ref().map(|signing| &signing.key);
    Ok(auth::mint(&token, &config.auth, own, now, random)?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::auth::{Refusal, Role, Verifier};
    use crate::config::check;

    const NOW: u64 = 1_800_000_000;

    fn config(more: &str) -> Config {
        let text = format!("auth.keys = [{{ kid = \"k\", algorithm = \"HS256\", secret = \"s\" }}]\n{more}");
        check(&text, std::iter::empty(), &|_| Ok(b"0123456789abcdef0123456789abcdef".to_vec())).unwrap()
    }

    fn args(role: Option<Role>) -> TokenArgs {
        TokenArgs {
            session: "dev-1".parse().unwrap(),
            user: "u@example.org".parse().unwrap(),
            role,
            ttl: Duration::from_secs(60),
            config: "/unused".into(),
        }
    }

    #[test]
    fn a_token_is_good_for_the_gateway_it_was_made_for_until_it_expires() {
        let config = config("auth.issuer = \"i\"\nauth.audience = \"a\"\nauth.single_use = true\n");
        let at = UNIX_EPOCH + Duration::from_secs(NOW);
        let token = mint(&config, &args(Some(Role::Spectator)), at).unwrap();
        let verifier = Verifier::new(&config.auth).unwrap();
        let grant = verifier.verify(&token, NOW).unwrap();
        assert_eq!((grant.session.as_str(), grant.role), ("dev-1", Role::Spectator));
        assert!(verifier.verify(&token, NOW + 59).is_ok());
        assert_eq!(verifier.verify(&token, NOW + 60).map(drop), Err(Refusal::Expired));
        assert_ne!(token, mint(&config, &args(Some(Role::Spectator)), at).unwrap());
    }

    #[test]
    fn without_a_role_the_gateway_decides() {
        let config = config("auth.default_role = \"spectator\"\n");
        let token = mint(&config, &args(None), UNIX_EPOCH + Duration::from_secs(NOW)).unwrap();
        assert_eq!(Verifier::new(&config.auth).unwrap().verify(&token, NOW).unwrap().role, Role::Spectator);
    }

    #[test]
    fn public_keys_alone_cannot_sign() {
        let text = "auth.jwks_url = \"https://id.example.org/\"";
        let config = check(text, std::iter::empty(), &|_| Err(String::new())).unwrap();
        assert!(matches!(
            mint(&config, &args(None), SystemTime::now()),
            Err(TokenError::Mint(MintError::NoKey))
        ));
    }

    #[test]
    fn the_command_prints_a_token_alone_or_every_mistake_with_78() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("valetd.toml");
        std::fs::write(dir.path().join("s"), "0123456789abcdef0123456789abcdef").unwrap();
        std::fs::write(&path, "auth.keys = [{ algorithm = \"HS256\", secret = \"s\" }]").unwrap();
        let args = TokenArgs { config: path.clone(), ..args(None) };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let exit = run(&args, std::iter::empty(), Some(dir.path()), &mut out, &mut err);
        let out = String::from_utf8(out).unwrap();
        assert_eq!((exit, out.lines().count(), out.split('.').count()), (Exit::Clean, 1, 3));
        assert!(err.is_empty());
        std::fs::write(&path, "auth.leeway = \"9s\"\n").unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let exit = run(&args, std::iter::empty(), None, &mut out, &mut err);
        let err = String::from_utf8(err).unwrap();
        assert_eq!((exit, out.len(), err.lines().count()), (Exit::Configuration, 0, 2), "{err}");
    }
}
