//! A program that behaves like AdsPower as far as this daemon can see, for tests and for `valetd dev --adspower`. AdsPower
//! itself is closed, needs an account, and is not for every machine.
//!
//! It is started with the arguments that AdsPower takes, serves both versions of its Local API with their shapes, string
//! numbers, key and pace, and opens real Chromiums. Nobody can take it for AdsPower: each of its answers and its log say
//! what it is. `answer` and `routes` are pure; `state` is what it keeps; `browser` opens and closes; `program` is the rest.
//!
//! What it does badly, on purpose, is a [`Behaviour`]: by argument, or by `POST /stand-in/behave`.

mod answer;
mod behaviour;
mod browser;
mod program;
mod routes;
mod server;
mod state;

pub use behaviour::Behaviour;
pub use program::{Args, Error, WORD, run};
