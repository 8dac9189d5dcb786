//! The policy, discovery and frames as their users see them.

mod contexts;
mod discovery;
mod frames;
mod policy;
