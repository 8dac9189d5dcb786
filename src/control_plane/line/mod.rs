//! What is to be sent to the control plane, and when. Pure.

mod machine;
#[cfg(test)]
mod tests;

pub(super) use machine::{BATCH, Line, Next, Standing, Task, Turn};
