//! `valetd manual`: the manual pages and the shells' completions, from the same definition as the command line itself.

use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::output::complain;
use super::{Cli, Exit, ManualArgs};

/// The shells that Debian and Ubuntu have completions for.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Fish, Shell::Zsh];

/// Writes a page for each command and a file for each shell.
pub fn run(args: &ManualArgs, err: &mut dyn Write) -> Exit {
    match generate(&args.directory) {
        Ok(()) => Exit::Clean,
        Err(error) => complain(
            err,
            &format!("valetd: cannot write to {}: {error}", args.directory.display()),
            Exit::Failed,
        ),
    }
}

fn generate(directory: &Path) -> io::Result<()> {
    clap_mangen::generate_to(Cli::command(), directory)?;
    for shell in SHELLS {
        clap_complete::generate_to(shell, &mut Cli::command(), "valetd", directory)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_that_people_type_has_a_page_and_each_shell_its_completions() {
        let directory = tempfile::tempdir().unwrap();
        let args = ManualArgs { directory: directory.path().to_owned() };
        assert_eq!(run(&args, &mut Vec::new()), Exit::Clean);
        let mut files: Vec<String> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let pages = [
            "valetd-check.1",
            "valetd-dev.1",
            "valetd-doctor.1",
            "valetd-profile-add.1",
            "valetd-profile-list.1",
            "valetd-profile-quarantine.1",
            "valetd-profile-release.1",
            "valetd-profile-remove.1",
            "valetd-profile-show.1",
            "valetd-profile.1",
            "valetd-run.1",
            "valetd-session-create.1",
            "valetd-session-list.1",
            "valetd-session-open.1",
            "valetd-session-show.1",
            "valetd-session-stop.1",
            "valetd-session.1",
            "valetd-status.1",
            "valetd-token.1",
            "valetd.1",
        ];
        let completions = ["_valetd", "valetd.bash", "valetd.fish"];
        let mut expected: Vec<&str> = pages.into_iter().chain(completions).collect();
        expected.sort_unstable();
        assert_eq!(files, expected);
        let page = std::fs::read_to_string(directory.path().join("valetd-token.1")).unwrap();
        assert!(page.contains("auth.signing_key"), "{page}");
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let args = ManualArgs { directory: "/nonexistent/manual".into() };
        let mut err = Vec::new();
        assert_eq!(run(&args, &mut err), Exit::Failed);
        assert!(String::from_utf8(err).unwrap().contains("/nonexistent/manual"));
    }
}
