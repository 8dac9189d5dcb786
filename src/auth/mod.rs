//! Who may do what: tokens, keys, tickets. Pure: the time and the randomness are passed in.
//!
//! A token is a JWS (RFC 7515) with JWT claims (RFC 7519). Structure, header and claims are read here, strictly; the
//! signature is left to the library. **Invariant:** a key is for one algorithm, and nothing in a token can change that.

mod claims;
pub mod config;
#[cfg(test)]
pub(crate) mod fixtures;
mod jwk;
mod keys;
mod mint;
mod refusal;
mod replay;
mod role;
mod sign;
#[cfg(test)]
mod tests;
mod ticket;
mod verify;

pub use claims::{Audience, Claims};
pub use config::{Algorithm, Config, JwksUrl, KeyConfig};
pub use keys::{KeyError, KeySet, MAX_KEYS, MIN_SECRET_BYTES, RSA_BITS};
pub use mint::{MAX_TTL, MintError, NewToken, mint};
pub use refusal::Refusal;
pub use replay::Replay;
pub use role::{Role, UnknownRole};
pub use sign::{SignError, SigningKey, sign};
pub use ticket::{TICKET_BYTES, TICKET_TTL, Tickets};
pub use verify::{Grant, MAX_TOKEN_BYTES, Verifier};
