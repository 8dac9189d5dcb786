//! Which version of AdsPower is there, by what the host's package manager wrote down: the app tells it nowhere before it runs,
//! nor by its API. What the app fetches for itself later is not in it, so that this is the least that it can be.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::str::FromStr;

/// Where dpkg keeps its books (dpkg(1), FILES).
pub(super) const PACKAGES: &str = "/var/lib/dpkg";
/// The list of a package's files, at most.
const MAX_LIST_BYTES: u64 = 16 << 20;
/// The book of all packages, at most.
const MAX_STATUS_BYTES: u64 = 64 << 20;
/// Numbers in a version.
const MOST_NUMBERS: usize = 6;

/// Numbers with dots between: `7.12.29`. What is left out at the end is 0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version([u32; MOST_NUMBERS]);

/// It is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to {MOST_NUMBERS} numbers with dots between, like \"7.12.29\"")]
pub struct BadVersion;

impl FromStr for Version {
    type Err = BadVersion;

    fn from_str(text: &str) -> Result<Self, BadVersion> {
        let mut numbers = [0; MOST_NUMBERS];
        let mut places = numbers.iter_mut();
        for part in text.split('.') {
            let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            let number = part.parse().ok().filter(|_| is_number).ok_or(BadVersion)?;
            *places.next().ok_or(BadVersion)? = number;
        }
        Ok(Self(numbers))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given = self.0.iter().rposition(|number| *number > 0).map_or(1, |last| last + 1);
        let numbers: Vec<_> = self.0.iter().take(given).map(u32::to_string).collect();
        f.write_str(&numbers.join("."))
    }
}

/// Why the program is not started.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    #[error("it is version {found}, and adspower.minimum_version asks for more")]
    TooOld { found: String },
    #[error("adspower.minimum_version is set, and its program is of no package of this host's")]
    NoPackage,
    #[error("the version {0} of its package cannot be compared")]
    Odd(String),
    #[error("cannot read what packages there are")]
    Read(#[from] io::Error),
}

/// Whether `program` is of a package of that version at least, by the books in `packages`. Blocks.
pub(super) fn check(packages: &Path, program: &Path, least: &Version) -> Result<(), Unfit> {
    let package = owner(packages, program)?.ok_or(Unfit::NoPackage)?;
    let found = version(packages, &package)?.ok_or(Unfit::NoPackage)?;
    // `[epoch:]upstream[-revision]` (deb-version(7)).
    let upstream = found.split_once(':').map_or(found.as_str(), |(_, rest)| rest);
    let upstream = upstream.rsplit_once('-').map_or(upstream, |(upstream, _)| upstream);
    let known: Version = upstream.parse().map_err(|_| Unfit::Odd(found.clone()))?;
    if known < *least { Err(Unfit::TooOld { found }) } else { Ok(()) }
}

/// The package that has this file.
fn owner(packages: &Path, program: &Path) -> io::Result<Option<String>> {
    for entry in fs::read_dir(packages.join("info"))? {
        let name = entry?.file_name();
        // `name:amd64.list` where there may be one for another architecture.
        let Some(package) = name.to_str().and_then(|name| name.strip_suffix(".list")) else { continue };
        let list = File::open(packages.join("info").join(&name))?.take(MAX_LIST_BYTES);
        for line in BufReader::new(list).split(b'\n') {
            if line? == program.as_os_str().as_encoded_bytes() {
                return Ok(Some(package.split(':').next().unwrap_or_default().to_owned()));
            }
        }
    }
    Ok(None)
}

/// That of a package, which is there.
fn version(packages: &Path, package: &str) -> io::Result<Option<String>> {
    let status = File::open(packages.join("status"))?.take(MAX_STATUS_BYTES);
    let mut is_it = false;
    for line in BufReader::new(status).lines() {
        let line = line?;
        match line.split_once(": ") {
            Some(("Package", name)) => is_it = name == package,
            Some(("Version", version)) if is_it => return Ok(Some(version.to_owned())),
            _ => {}
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAM: &str = "/opt/AdsPower Global/adspower_global";

    fn host(version: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("info")).unwrap();
        let list = |name: &str, text: &str| fs::write(dir.path().join("info").join(name), text).unwrap();
        list("other.list", "/.\n/opt/AdsPower Global/adspower_global.bak\n");
        list("adspower-global:amd64.list", &format!("/.\n/opt\n{PROGRAM}\n"));
        list("adspower-global:amd64.md5sums", PROGRAM);
        let status = format!(
            "Package: other\nVersion: 99\n\nPackage: adspower-global\nStatus: install ok installed\nVersion: {version}\n\n\
             Package: last\nVersion: 1\n"
        );
        fs::write(dir.path().join("status"), status).unwrap();
        dir
    }

    fn checked(version: &str, least: &str) -> Result<(), String> {
        let host = host(version);
        check(host.path(), Path::new(PROGRAM), &least.parse().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_too_old_or_of_nobody_knows_which_version_is_not_started() {
        for (version, least) in
            [("7.12.29", "7.12.29"), ("7.12.29", "7.9"), ("1:8.0-2", "7.12.29"), ("7.12", "7.12.0")]
        {
            assert_eq!(checked(version, least), Ok(()), "{version} {least}");
        }
        let old = checked("7.9.30", "7.12").unwrap_err();
        assert_eq!(old, "it is version 7.9.30, and adspower.minimum_version asks for more");
        assert!(checked("7.x", "7").unwrap_err().contains("7.x"));
        let host = host("8");
        let elsewhere = Path::new("/opt/AdsPower Global/adspower");
        let unknown = check(host.path(), elsewhere, &"1".parse().unwrap()).unwrap_err();
        assert!(matches!(unknown, Unfit::NoPackage));
    }

    #[test]
    fn a_version_is_numbers_and_nothing_else() {
        assert!("7.10".parse::<Version>().unwrap() > "7.9.99".parse().unwrap());
        for text in ["0", "7.12", "7.0.29"] {
            assert_eq!(text.parse::<Version>().unwrap().to_string(), text);
        }
        for bad in ["", ".", "7.", "7.x", "-1", "+1", "1.2.3.4.5.6.7", "99999999999"] {
            assert_eq!(bad.parse::<Version>(), Err(BadVersion), "{bad}");
        }
    }
}
