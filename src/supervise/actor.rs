//! Being built.

/// Placeholder.
pub struct Group;
/// Placeholder.
pub struct GroupHandle;
