//! Settings of `[identity]`, already checked.

/// Where the metadata service of EC2 is, from inside a machine.
pub const EC2_ENDPOINT: &str = "http://169.254.169.254";

/// Who is asked who this machine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Whom.
    pub provider: Choice,
    /// The metadata service, as `http://ADDRESS` or with a port, without a path.
    pub ec2_endpoint: String,
    /// Whether the recommendation to move away is followed as if the machine were going.
    pub drain_on_rebalance: bool,
}

/// Whom to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Whoever is there.
    Auto,
    /// EC2, however long it takes to answer.
    Ec2,
    /// What Fly sets in the environment.
    Fly,
    /// Nobody: the machine itself.
    Local,
}

impl Choice {
    /// The choice as the configuration writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Ec2 => "ec2",
            Self::Fly => "fly",
            Self::Local => "local",
        }
    }
}
