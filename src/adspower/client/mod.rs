//! A client of AdsPower's Local API. AdsPower does one thing after the other, counts how often it is asked, and says most
//! of what goes wrong in answers of status 200.
//!
//! `pace` and `breaker` say when it may be asked, `answer` and `data` what it said, `v1` and `v2` how it is asked, all
//! without a clock or a socket. `line` is the queue that every call goes through, `wire` the HTTP.
//!
//! **Invariant:** calls go one after the other and never faster than the pace; only beside one that takes longer than 3 s
//! may another be made, since a browser's first start takes a minute and a probe cannot wait for that.
//!
//! **Invariant:** a call that may have been carried out is never made again.
//!
//! **Invariant:** the API key is shown to the socket that was found to be AdsPower's and to no other.
//!
//! **Invariant:** the API key is in no error, record or `Debug`, also where AdsPower repeats it.

mod answer;
mod api;
mod breaker;
mod call;
mod data;
mod error;
mod line;
mod metrics;
pub mod oracle;
mod pace;
mod place;
mod request;
#[cfg(test)]
mod tests;
mod v1;
mod v2;
mod wire;

pub use answer::{Garbage, Refusal};
pub use api::{Client, Params};
pub use call::Call;
pub use data::{Kernel, Listed, Odd, Opened};
pub use error::{Error, SetupError, Unreached, Unread};
pub use metrics::Metrics;
pub use place::Place;
pub use request::{ListQuery, NewProfile, Proxy, ProxyKind, ProxyServer, StartOptions, proxy};
