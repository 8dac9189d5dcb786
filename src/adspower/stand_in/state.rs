//! What it keeps in its `HOME`: profiles, and which browsers are open, so that one that starts itself anew finds them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Where AdsPower keeps its own, beneath `HOME`.
const SOURCE: &str = ".config/adspower_global/cwd_global/source";

/// Everything that outlives the process.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) profiles: BTreeMap<String, Profile>,
    pub(super) open: BTreeMap<String, Open>,
    pub(super) last_serial: u64,
}

/// A profile.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Profile {
    pub(super) serial: u64,
    /// As they were given.
    pub(super) fields: Map<String, Value>,
}

/// A browser that is open.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Open {
    pub(super) pid: u32,
    pub(super) start_time: u64,
    pub(super) port: u16,
    pub(super) path: String,
}

/// Where things are.
#[derive(Debug, Clone)]
pub(super) struct Places {
    source: PathBuf,
}

impl Places {
    pub(super) fn beneath(home: &Path) -> io::Result<Self> {
        let source = home.join(SOURCE);
        std::fs::create_dir_all(source.join("cache"))?;
        Ok(Self { source })
    }

    /// The directory of a profile's browser.
    pub(super) fn profile(&self, id: &str) -> PathBuf {
        self.source.join("cache").join(id)
    }

    /// Says where the API really is, as AdsPower does.
    pub(super) fn write_port(&self, port: u16) -> io::Result<()> {
        std::fs::write(self.source.join("local_api"), format!("http://local.adspower.net:{port}/"))
    }

    pub(super) fn read(&self) -> State {
        let text = std::fs::read_to_string(self.source.join("stand-in.json")).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// In one step, so that a kill leaves the old or the new.
    pub(super) fn write(&self, state: &State) -> io::Result<()> {
        let draft = self.source.join("stand-in.json.new");
        std::fs::write(&draft, serde_json::to_string(state)?)?;
        std::fs::rename(draft, self.source.join("stand-in.json"))
    }
}

impl State {
    /// A profile of this id, made now where there is none.
    pub(super) fn create(&mut self, id: &str, fields: Map<String, Value>) -> u64 {
        self.last_serial += 1;
        let serial = self.last_serial;
        self.profiles.insert(id.to_owned(), Profile { serial, fields });
        serial
    }
}
