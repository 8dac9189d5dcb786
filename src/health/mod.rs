//! How the host is, as everybody may know it: one word, and its parts. The host API answers with it, and the control plane is
//! told it.
//!
//! [`Survey`] looks, and the rest is pure. **Invariant:** nothing secret is in it; reasons are cut at their first colon, since
//! programs may print pages there.

mod assess;
mod survey;

pub use assess::{
    Health, HealthComponent, HealthHost, HealthNotice, HealthStatus, SessionCounts, Spares, of_session,
    without_details,
};
pub use survey::{Changes, Part, Survey, SurveyParams};
