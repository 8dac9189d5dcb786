//! The client: its requests and answers as values, and the whole of it against a server that does what it should not.

mod answers;
mod failures;
mod paced;
mod queue;
mod requests;
mod stand_in;
mod versions;
