//! The viewer page and noVNC, embedded in the binary at build time; or, in noVNC's place, a tree on disk.
//!
//! | path | what |
//! | --- | --- |
//! | `/` | the viewer page |
//! | `/<file>` | its style sheet, modules and pictures |
//! | `/novnc/<path>` | noVNC from its pinned package; or the tree that `gateway.static_dir` names |
//!
//! The two get different content security policies. The page's is strict: it holds a token. A tree on disk is whatever the
//! operator put there, and stock noVNC pages have inline scripts and styles, so they are let, but nothing from elsewhere.

mod embedded;
mod respond;
mod tree;

pub(super) use respond::serve;

#[cfg(test)]
mod tests;
