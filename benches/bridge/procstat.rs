//! What processes use, from `/proc`.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::time::clock_getcpuclockid;
use nix::unistd::{Pid, SysconfVar, sysconf};

use crate::{Outcome, rest};

/// For children that are ending to be counted by their parent.
const SETTLE: Duration = Duration::from_secs(3);

/// A process and all its descendants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tree {
    pub(crate) root: u32,
}

/// One line of `/proc/PID/stat`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stat {
    pid: u32,
    parent: u32,
    /// CPU time of it and its threads, in ticks; used once it is a zombie.
    own_ticks: u64,
    /// CPU time of its children that were waited for, in ticks.
    reaped_ticks: u64,
}

impl Tree {
    /// CPU time of all of it until now, those that have ended included, in seconds.
    pub(crate) fn cpu_seconds(self) -> Outcome<f64> {
        let ticks_per_second = sysconf(SysconfVar::CLK_TCK)?.ok_or("no clock ticks")? as f64;
        let members = self.members();
        if members.is_empty() {
            return Err("the bridge's process is gone".into());
        }
        let seconds = |stat: &Stat| {
            let own = precise_cpu(stat.pid).unwrap_or(stat.own_ticks as f64 / ticks_per_second);
            own + stat.reaped_ticks as f64 / ticks_per_second
        };
        Ok(members.iter().map(seconds).sum())
    }

    /// The same when no process is on its way out, whose time could be missed or counted twice.
    pub(crate) fn settled_cpu_seconds(self) -> Outcome<f64> {
        let deadline = Instant::now() + SETTLE;
        let pids = || self.members().iter().map(|stat| (stat.pid, stat.reaped_ticks)).collect::<Vec<_>>();
        let mut before = pids();
        while Instant::now() < deadline {
            rest(Duration::from_millis(100));
            let now = pids();
            if now == before {
                break;
            }
            before = now;
        }
        self.cpu_seconds()
    }

    /// Memory of all of it, shared pages by share, in KiB.
    pub(crate) fn pss_kib(self) -> Outcome<f64> {
        self.members().iter().map(|stat| pss_kib(stat.pid)).sum()
    }

    /// Those that run the same program as the root does.
    pub(crate) fn same_program(self) -> Vec<u32> {
        let root = program(self.root);
        let mut pids: Vec<_> = self.members().iter().map(|stat| stat.pid).collect();
        pids.retain(|pid| root.is_some() && program(*pid) == root);
        pids
    }

    /// The root and all below it.
    fn members(self) -> Vec<Stat> {
        let mut all = stats();
        let mut members: Vec<Stat> = all.extract_if(.., |stat| stat.pid == self.root).collect();
        let mut at = 0;
        while let Some(parent) = members.get(at).map(|stat| stat.pid) {
            members.extend(all.extract_if(.., |stat| stat.parent == parent));
            at += 1;
        }
        members
    }
}

/// CPU time of a process and its threads, ended ones included, in seconds: to a nanosecond where `stat` has ticks of 10 ms.
pub(crate) fn precise_cpu(pid: u32) -> Option<f64> {
    let clock = clock_getcpuclockid(Pid::from_raw(i32::try_from(pid).ok()?)).ok()?;
    Some(Duration::from(clock.now().ok()?).as_secs_f64())
}

/// Memory of one process, shared pages by share, in KiB.
pub(crate) fn pss_kib(pid: u32) -> Outcome<f64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    Ok(field(&text, "Pss:").ok_or("no Pss")?)
}

/// How often threads of a process went to sleep until now.
pub(crate) fn sleeps(pid: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks
        .filter_map(|task| fs::read_to_string(task.path().join("status")).ok())
        .filter_map(|status| field(&status, "voluntary_ctxt_switches:"))
        .sum()
}

/// Name of the program, as the kernel shortens it.
pub(crate) fn name(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// Those below the root that run another program than it.
pub(crate) fn others(tree: Tree) -> Vec<u32> {
    let same = tree.same_program();
    tree.members().iter().map(|stat| stat.pid).filter(|pid| !same.contains(pid)).collect()
}

fn field(text: &str, name: &str) -> Option<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.split_ascii_whitespace().next()?.parse().ok()
}

fn program(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}

fn stats() -> Vec<Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| stat(entry.file_name().to_str()?.parse().ok()?)).collect()
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, also brackets. What follows counts from 3 (proc(5)).
    let (_name, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at - 3)?.parse::<u64>().ok();
    Some(Stat {
        pid,
        parent: u32::try_from(number(4)?).ok()?,
        own_ticks: number(14)? + number(15)?,
        reaped_ticks: number(16)? + number(17)?,
    })
}
