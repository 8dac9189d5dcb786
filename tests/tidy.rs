//! Rules of the house that no compiler holds: layers, file sizes, where `unsafe` may live, and what no text may name.
//! Each rule counts what it looked at, so that none can pass by looking at nothing.

#![expect(clippy::unwrap_used, reason = "a test outside a test function")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a source file, hard limit.
const MAX_LINES: usize = 600;
/// Lines of a `mod.rs`: documentation, declarations, re-exports.
const MAX_MOD_LINES: usize = 80;
/// Lines of `main.rs`: parse, build, wait, drain.
const MAX_MAIN_LINES: usize = 120;
/// Fewer source files than this means that the walk went wrong.
const MIN_SOURCES: usize = 35;
/// The same for all text files.
const MIN_TEXTS: usize = 55;

/// The layers of `src/lib.rs`, lowest first.
const LAYERS: [&[&str]; 6] = [
    &[
        "rfb",
        "auth",
        "cdp",
        "backoff",
        "chunking",
        "durations",
        "errors",
        "hex",
        "ids",
        "links",
        "proxy",
        "secret",
    ],
    &["sys", "tasks", "telemetry", "metrics", "http", "clock", "identity", "keyring", "store"],
    &["supervise", "display", "vnc", "browser", "adspower", "profile"],
    &["session", "health"],
    &["gateway", "api", "control_plane"],
    &["cli", "app", "config", "systemd"],
];

/// Imports inside a layer that are meant: (from, to).
const SIDEWAYS: [(&str, &str); 7] = [
    ("vnc", "display"),
    ("vnc", "supervise"),
    ("browser", "supervise"),
    ("display", "supervise"),
    ("adspower", "browser"),
    ("adspower", "display"),
    ("adspower", "supervise"),
];

/// Layers whose modules do not import each other, but for [`SIDEWAYS`]: the actors, and the outside world. The pure, the thin
/// and the composing ones may.
const STRICT: [usize; 2] = [2, 4];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `dir` that are not built, downloaded or hidden, but for `.ci` and `.github`.
fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let skipped = name.starts_with('.') && ![".ci", ".github"].contains(&name.as_str())
            || ["target", "node_modules", "out", "corpus", "artifacts", "coverage"].contains(&name.as_str());
        if skipped || path.is_symlink() {
            continue;
        }
        if path.is_dir() { walk(&path, found) } else { found.push(path) }
    }
}

fn sources() -> Vec<(String, String)> {
    let mut files = Vec::new();
    walk(&root().join("src"), &mut files);
    files.retain(|path| path.extension().is_some_and(|end| end == "rs"));
    files.sort();
    assert!(files.len() >= MIN_SOURCES, "only {} source files seen", files.len());
    let name = |path: &Path| path.strip_prefix(root().join("src")).unwrap().to_string_lossy().into_owned();
    files.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// The top-level module of a file: `gateway` of `gateway/limits.rs`.
fn module_of(file: &str) -> &str {
    file.split('/').next().unwrap().trim_end_matches(".rs")
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// Code without comments, strings and character literals, each left as a blank.
fn code_only(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::new();
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        let past = past_quoted(rest).or_else(|| past_comment(rest));
        match past {
            Some(length) => {
                // Lines stay countable.
                code.extend(rest[..length].iter().filter(|c| **c == '\n'));
                code.push(' ');
                at += length;
            }
            None => {
                code.push(rest[0]);
                at += 1;
            }
        }
    }
    code
}

fn past_comment(rest: &[char]) -> Option<usize> {
    match rest {
        ['/', '/', ..] => Some(rest.iter().position(|c| *c == '\n').unwrap_or(rest.len())),
        ['/', '*', ..] => {
            let mut depth = 0_usize;
            let mut at = 0;
            while at < rest.len() {
                match rest[at..] {
                    ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
                    ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
                    _ => at += 1,
                }
                if depth == 0 {
                    return Some(at);
                }
            }
            Some(rest.len())
        }
        _ => None,
    }
}

fn past_quoted(rest: &[char]) -> Option<usize> {
    match rest {
        ['"', ..] => Some(past_string(rest)),
        ['r', '"' | '#', ..] => {
            let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
            if rest.get(1 + hashes) != Some(&'"') {
                return None;
            }
            let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            let body = &rest[hashes + 2..];
            let close = body.windows(end.len()).position(|window| window == end)?;
            Some(hashes + 2 + close + end.len())
        }
        ['\'', '\\', ..] => rest[2..].iter().skip(1).position(|c| *c == '\'').map(|close| close + 4),
        ['\'', _, '\'', ..] => Some(3),
        _ => None,
    }
}

fn past_string(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Top-level modules that the code names by `crate::`, in groups as well.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        // `$crate::` and `mycrate::` are no paths of ours.
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = code[at + "crate::".len()..].trim_start();
        match rest.strip_prefix('{') {
            Some(group) => found.extend(heads(group)),
            None => found.extend([word(rest)]),
        }
    }
    found.remove("");
    found
}

/// First words of a group's members: `a` and `d` of `a::{b, c}, d::e}`.
fn heads(group: &str) -> Vec<String> {
    let mut depth = 0_usize;
    let mut heads = vec![word(group.trim_start())];
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.push(word(group[at + 1..].trim_start())),
            _ => {}
        }
    }
    heads
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Why `from` may not import `to`; `None` when it may.
fn breach(from: &str, to: &str) -> Option<String> {
    let (Some(above), Some(below)) = (layer_of(from), layer_of(to)) else {
        // Names of the crate root that are no modules (a macro, say) are nobody's layer.
        return None;
    };
    if below > above {
        return Some(format!("{from} (L{above}) imports {to} (L{below}): imports go down only"));
    }
    let sideways = below == above && from != to && STRICT.contains(&above) && !SIDEWAYS.contains(&(from, to));
    sideways.then(|| format!("{from} imports {to} of its own layer L{above}"))
}

#[test]
fn imports_go_down_only() {
    let mut breaches = Vec::new();
    let mut seen = 0;
    for (file, text) in sources() {
        let from = module_of(&file);
        if ["lib", "main"].contains(&from) {
            continue;
        }
        assert!(layer_of(from).is_some(), "src/{file}: {from} stands in no layer of tests/tidy.rs");
        // Tests may reach for what they like.
        if file.ends_with("tests.rs") || file.contains("/tests/") {
            continue;
        }
        let code = code_only(&text);
        let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for to in imports(code) {
            seen += 1;
            breaches.extend(breach(from, &to).map(|why| format!("src/{file}: {why}")));
        }
    }
    assert!(seen > 20, "only {seen} imports seen");
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn the_rule_about_layers_can_fail() {
    let code = code_only(
        "use crate::{auth::{Role, rfb}, session};\n// use crate::cli;\nlet x = \"crate::app\"; let q = '\"'; crate::vnc::x(); mycrate::api();",
    );
    let found: Vec<String> = imports(&code).into_iter().collect();
    assert_eq!(found, ["auth", "session", "vnc"]);
    for (from, to) in
        [("auth", "tasks"), ("session", "gateway"), ("gateway", "api"), ("display", "vnc"), ("sys", "cli")]
    {
        assert!(breach(from, to).is_some(), "{from} to {to}");
    }
    for (from, to) in [
        ("app", "auth"),
        ("vnc", "display"),
        ("browser", "supervise"),
        ("gateway", "session"),
        ("cli", "config"),
    ] {
        assert_eq!(breach(from, to), None, "{from} to {to}");
    }
}

#[test]
fn the_layers_are_those_that_lib_rs_shows() {
    let text = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    for (number, modules) in LAYERS.iter().enumerate() {
        let start = format!("//! L{number}  ");
        let line = text.lines().find(|line| line.starts_with(&start)).unwrap();
        // Names stand two spaces apart, and what they are for after a wider gap.
        let names = line[start.len()..].split("   ").next().unwrap();
        assert!(modules.iter().all(|module| names.split_whitespace().any(|name| name == *module)), "{line}");
    }
    let declared: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let known: BTreeSet<&str> = LAYERS.iter().flat_map(|modules| modules.iter().copied()).collect();
    assert_eq!(declared, known);
}

#[test]
fn the_pure_layer_has_no_runtime_no_disk_and_no_clock() {
    let impure = [
        "tokio",
        "std::fs",
        "std::process",
        "std::env",
        "TcpStream",
        "UnixStream",
        "Instant::now",
        "SystemTime::now",
    ];
    let mut found = Vec::new();
    let mut seen = 0;
    for (file, text) in sources().into_iter().filter(|(file, _)| layer_of(module_of(file)) == Some(0)) {
        if file.ends_with("tests.rs") || file.contains("/tests/") || file.contains("fixtures") {
            continue;
        }
        seen += 1;
        let code = code_only(&text);
        let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap();
        found.extend(
            impure.iter().filter(|name| code.contains(**name)).map(|name| format!("src/{file}: {name}")),
        );
    }
    assert!(seen >= 6, "only {seen} pure files seen");
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn files_stay_small_enough_to_read() {
    let mut long = Vec::new();
    for (file, text) in sources() {
        let limit = match file.rsplit('/').next().unwrap() {
            "mod.rs" => MAX_MOD_LINES,
            "main.rs" => MAX_MAIN_LINES,
            _ => MAX_LINES,
        };
        let lines = text.lines().count();
        if lines > limit {
            long.push(format!("src/{file}: {lines} lines, at most {limit}"));
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn unsafe_lives_in_sys_and_nowhere_else() {
    let keyword = ["un", "safe"].concat();
    let mut strays = Vec::new();
    for (file, text) in sources() {
        if module_of(&file) == "sys" {
            continue;
        }
        for (number, line) in code_only(&text).lines().enumerate() {
            let words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            let opts_out = line.contains(&format!("({keyword}_code"));
            if opts_out || words.into_iter().any(|word| word == keyword) {
                strays.push(format!("src/{file}:{}", number + 1));
            }
        }
    }
    assert!(strays.is_empty(), "{}", strays.join("\n"));
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(manifest.contains(&format!("{keyword}_code = \"deny\"")));
}

#[test]
fn every_source_file_says_what_it_is_for() {
    let silent: Vec<String> = sources()
        .into_iter()
        .filter(|(file, text)| !file.ends_with("tests.rs") && !text.starts_with("//! "))
        .map(|(file, _)| file)
        .collect();
    assert!(silent.is_empty(), "no module documentation: {silent:?}");
}

#[test]
fn no_text_names_a_machine_it_was_written_on() {
    // Put together here, so that this file does not hold what it looks for.
    let patterns: Vec<String> = [
        ["/wo", "rk/"],
        ["/ro", "ot/"],
        ["/home/", "user"],
        ["/Us", "ers/"],
        ["/tmp/", "bash_jobs"],
        ["index.crates", ".io"],
        ["static.crates", ".io"],
        ["registry.npm", "js.org"],
        ["deb.debian", ".org"],
        ["archive.ubuntu", ".com"],
        ["proxy.golang", ".org"],
        ["files.python", "hosted.org"],
        ["artifact", "ory"],
        ["BEGIN RSA PRIV", "ATE KEY"],
    ]
    .iter()
    .map(|pieces| pieces.concat())
    .collect();
    let mut files = Vec::new();
    walk(&root(), &mut files);
    let mut seen = 0;
    let mut named = Vec::new();
    for path in files {
        // What is not text is not read by people.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        seen += 1;
        for (number, line) in text.lines().enumerate() {
            for pattern in patterns.iter().filter(|pattern| line.contains(pattern.as_str())) {
                named.push(format!("{}:{}: {pattern}", path.display(), number + 1));
            }
        }
    }
    assert!(seen >= MIN_TEXTS, "only {seen} texts seen");
    assert!(named.is_empty(), "{}", named.join("\n"));
}

#[test]
fn every_example_configuration_loads() {
    let secret = |_: valetd::config::Wanted<'_>| Ok(b"0123456789abcdef0123456789abcdef".to_vec());
    let mut files = Vec::new();
    walk(&root().join("config"), &mut files);
    files.retain(|path| path.extension().is_some_and(|end| end == "toml"));
    assert!(!files.is_empty(), "no example configuration seen");
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let outcome = valetd::config::check(&text, std::iter::empty(), &secret);
        assert!(outcome.is_ok(), "{}:\n{}", path.display(), outcome.unwrap_err());
    }
}
