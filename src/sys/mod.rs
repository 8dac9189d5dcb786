//! Processes, as the kernel gives them: spawning, containing, waiting, reaping.
//!
//! A child is never forked with code of ours between fork and exec. [`spawn`] starts this very program as `valetd exec`
//! ([`exec`]), a single-threaded trampoline that joins its cgroup, drops what it may not keep and execs the service; each
//! of its stages can say why it failed. [`containment`] holds all that a service starts, however it forks, and [`keeper`]
//! ends it all when the daemon itself is killed. [`space`] gives a session namespaces of its own, and [`firewall`] keeps it
//! from the host's own services and network. [`host`] ties these together.

pub mod cgroup;
pub mod child;
pub mod command;
pub mod containment;
pub mod door;
pub mod exec;
mod files;
pub mod firewall;
pub mod handed;
pub mod host;
pub mod keeper;
pub mod leftover;
pub mod listener;
pub mod lock;
pub mod marker;
mod memory;
mod notify;
mod probe;
pub mod procfs;
mod reap;
pub mod ruleset;
pub mod space;
mod spawn;
mod tool;
mod wire;

pub use child::{Child, Exit};
pub use command::{Command, Confinement, Identity, READY_FD};
pub use containment::{Cell, Containment, Limits, RunScope};
pub use door::Door;
pub use exec::exec_main;
pub use files::remove_all;
pub use firewall::{Firewall, FirewallError};
pub use handed::{Handed, HandedError, handed_over};
pub use host::{Host, HostError, HostParams, SpawnError, Spawned};
pub use keeper::keeper_main;
pub use listener::{Listener, connect_to_known, listener};
pub use lock::{InstanceLock, LockError};
pub use memory::give_back_free;
pub use notify::notify;
pub use probe::probe_main;
pub use ruleset::{AppFilter, Destination, Filter};
pub use space::{Space, SpaceError, SpaceSpec, space_main};
