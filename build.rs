//! Collects the viewer page and the pinned noVNC package into a table that `gateway::assets` embeds: one file is the
//! deployment.

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where `npm ci` puts noVNC, seen from the crate's root.
const NOVNC: &str = "web/node_modules/@novnc/novnc";
/// What is served of the package: the modules, and the texts that its licence asks for.
const NOVNC_PARTS: [&str; 6] =
    ["core", "vendor", "LICENSE.txt", "AUTHORS", "docs/LICENSE.MPL-2.0", "package.json"];
/// What belongs to the page; the rest of `web/` is for npm.
const PAGE_EXTENSIONS: [&str; 5] = ["html", "css", "js", "svg", "txt"];

struct Asset {
    /// Path in a URL, without its first slash.
    url: String,
    file: PathBuf,
}

fn main() -> ExitCode {
    match generate() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo::error=cannot embed the viewer page: {error}");
            ExitCode::FAILURE
        }
    }
}

fn generate() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    println!("cargo::rerun-if-changed=build.rs");
    // Cargo looks into a folder's files, and the folder itself tells of new ones.
    println!("cargo::rerun-if-changed={}", root.join("web").display());

    let novnc = root.join(NOVNC);
    if !novnc.join("core/rfb.js").is_file() {
        return Err(format!("{NOVNC} is missing; run `make setup` (or `npm ci` in web/) first").into());
    }
    let mut assets = page(&root.join("web"))?;
    for part in NOVNC_PARTS {
        collect(&novnc.join(part), &format!("novnc/{part}"), &mut assets)?;
    }
    assets.sort_by(|a, b| a.url.cmp(&b.url));

    let table = PathBuf::from(env::var("OUT_DIR")?).join("assets.rs");
    fs::write(table, source(&assets)?)?;
    Ok(())
}

fn page(web: &Path) -> Result<Vec<Asset>, Box<dyn Error>> {
    let mut assets = Vec::new();
    for entry in fs::read_dir(web)? {
        let file = entry?.path();
        let Some(name) = file.file_name().and_then(|name| name.to_str()) else { continue };
        let wanted = file.extension().and_then(|extension| extension.to_str());
        if file.is_file() && wanted.is_some_and(|extension| PAGE_EXTENSIONS.contains(&extension)) {
            assets.push(Asset { url: name.to_owned(), file });
        }
    }
    Ok(assets)
}

/// Adds `path`: a file, or all files below a folder.
fn collect(path: &Path, url: &str, assets: &mut Vec<Asset>) -> Result<(), Box<dyn Error>> {
    if path.is_file() {
        assets.push(Asset { url: url.to_owned(), file: path.to_owned() });
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(|error| format!("{}: {error}", path.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_str().ok_or("a file name in noVNC is not UTF-8")?;
        collect(&entry.path(), &format!("{url}/{name}"), assets)?;
    }
    Ok(())
}

/// The table as an expression: `(url, entity tag, bytes)`, sorted by URL.
fn source(assets: &[Asset]) -> Result<String, Box<dyn Error>> {
    let mut source = String::from("[\n");
    for asset in assets {
        let hash = fnv1a(&fs::read(&asset.file)?);
        let file = asset.file.to_str().ok_or("the path of the source tree is not UTF-8")?;
        writeln!(source, "    ({:?}, \"\\\"{hash:016x}\\\"\", include_bytes!({file:?})),", asset.url)?;
    }
    source.push_str("]\n");
    Ok(source)
}

/// FNV-1a, 64 bits: tells versions of a file apart, and nothing more is asked of an entity tag.
fn fnv1a(bytes: &[u8]) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    bytes.iter().fold(OFFSET_BASIS, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}
