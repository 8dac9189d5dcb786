//! What it does badly, on purpose.

/// A way to behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// As AdsPower does.
    Well,
    /// Requests are taken and never answered.
    Hang,
    /// Answers are pages of a proxy in between.
    Html,
    /// Answers are cut in the middle.
    Truncated,
    /// Every call is one too many.
    TooMany,
    /// The first version of the API is all there is.
    OnlyV1,
    /// A browser that was opened is said to be at this port, which is somebody else's.
    WrongPort(u16),
}

impl Behaviour {
    /// `well`, `hang`, `html`, `truncated`, `too-many`, `only-v1` or `wrong-port=N`.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "well" => Self::Well,
            "hang" => Self::Hang,
            "html" => Self::Html,
            "truncated" => Self::Truncated,
            "too-many" => Self::TooMany,
            "only-v1" => Self::OnlyV1,
            text => Self::WrongPort(text.strip_prefix("wrong-port=")?.parse().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_word() {
        assert_eq!(Behaviour::parse("only-v1"), Some(Behaviour::OnlyV1));
        assert_eq!(Behaviour::parse("wrong-port=81"), Some(Behaviour::WrongPort(81)));
        for bad in ["", "worse", "wrong-port", "wrong-port=x"] {
            assert_eq!(Behaviour::parse(bad), None, "{bad}");
        }
    }
}
