//! A machine of Fly, from the environment that Fly gives to it.

use super::facts::{Facts, Odd, Provider, address, word};

/// What of the environment is looked at. The environment belongs to the process: whoever starts the daemon brings it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variables {
    app: Option<String>,
    machine: Option<String>,
    region: Option<String>,
    private_address: Option<String>,
    public_address: Option<String>,
}

/// Why the environment names no machine.
#[derive(Debug, thiserror::Error)]
pub(super) enum FlyError {
    #[error("{0} is not set")]
    Missing(&'static str),
    #[error("{name} cannot be used")]
    Odd {
        name: &'static str,
        #[source]
        source: Odd,
    },
}

const APP: &str = "FLY_APP_NAME";
const MACHINE: &str = "FLY_MACHINE_ID";
const REGION: &str = "FLY_REGION";
const PRIVATE: &str = "FLY_PRIVATE_IP";
const PUBLIC: &str = "FLY_PUBLIC_IP";

impl Variables {
    /// Takes what it needs from `variable`, an environment.
    pub fn from(variable: impl Fn(&str) -> Option<String>) -> Self {
        // Set and empty is how some of them say that there is none.
        let variable = |name| variable(name).filter(|text| !text.is_empty());
        Self {
            app: variable(APP),
            machine: variable(MACHINE),
            region: variable(REGION),
            private_address: variable(PRIVATE),
            public_address: variable(PUBLIC),
        }
    }

    /// Whether this is a machine of Fly.
    pub(super) fn are_there(&self) -> bool {
        self.app.is_some() && self.machine.is_some()
    }

    pub(super) fn facts(&self) -> Result<Facts, FlyError> {
        let id = read(MACHINE, &self.machine, word)?.ok_or(FlyError::Missing(MACHINE))?;
        let app = read(APP, &self.app, word)?.ok_or(FlyError::Missing(APP))?;
        let mut facts = Facts::bare(Provider::Fly, id);
        facts.name = Some(app);
        facts.region = read(REGION, &self.region, word)?;
        facts.address = read(PRIVATE, &self.private_address, address)?;
        facts.public_address = read(PUBLIC, &self.public_address, address)?;
        Ok(facts)
    }
}

fn read<T>(
    name: &'static str,
    text: &Option<String>,
    parse: fn(&str) -> Result<T, Odd>,
) -> Result<Option<T>, FlyError> {
    text.as_deref().map(parse).transpose().map_err(|source| FlyError::Odd { name, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        Variables::from(|name| {
            pairs.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).to_owned())
        })
    }

    const MACHINE_OF_FLY: [(&str, &str); 5] = [
        (APP, "sandboxes"),
        (MACHINE, "d891234f7e5018"),
        (REGION, "fra"),
        (PRIVATE, "fdaa:0:18:a7b:7d:f066:f83a:2"),
        (PUBLIC, ""),
    ];

    #[test]
    fn a_machine_is_what_its_environment_says() {
        let variables = variables(&MACHINE_OF_FLY);
        assert!(variables.are_there());
        let facts = variables.facts().unwrap();
        assert_eq!((facts.provider, facts.id.as_str()), (Provider::Fly, "d891234f7e5018"));
        assert_eq!((facts.name.as_deref(), facts.region.as_deref()), (Some("sandboxes"), Some("fra")));
        assert_eq!(facts.address, Some("fdaa:0:18:a7b:7d:f066:f83a:2".parse().unwrap()));
        assert_eq!(facts.public_address, None);
    }

    #[test]
    fn half_an_environment_and_an_odd_one_name_no_machine() {
        assert!(!variables(&MACHINE_OF_FLY[1..]).are_there());
        assert!(matches!(variables(&MACHINE_OF_FLY[1..]).facts(), Err(FlyError::Missing(APP))));
        let mut odd = MACHINE_OF_FLY;
        odd[2].1 = "fra\nspoofed=1";
        assert!(matches!(variables(&odd).facts(), Err(FlyError::Odd { name: REGION, source: Odd::Word })));
    }
}
