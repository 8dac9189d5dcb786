//! What `build.rs` collected.

/// A file in the binary.
#[derive(Debug, Clone, Copy)]
pub(super) struct Embedded {
    /// Entity tag, quotes included.
    pub(super) tag: &'static str,
    pub(super) bytes: &'static [u8],
}

/// `(path without its first slash, entity tag, bytes)`, sorted by path.
static ASSETS: &[(&str, &str, &[u8])] = &include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// The file at `path`, which has no first slash.
pub(super) fn find(path: &str) -> Option<Embedded> {
    let index = ASSETS.binary_search_by_key(&path, |(path, _, _)| path).ok()?;
    ASSETS.get(index).map(|&(_, tag, bytes)| Embedded { tag, bytes })
}

/// All paths.
#[cfg(test)]
pub(super) fn paths() -> impl Iterator<Item = &'static str> {
    ASSETS.iter().map(|&(path, _, _)| path)
}

#[cfg(test)]
mod tests {
    use super::{find, paths};

    #[test]
    fn holds_the_page_and_novnc_and_nothing_of_npm() {
        for wanted in [
            "index.html",
            "style.css",
            "app.js",
            "icon.svg",
            "novnc-notice.txt",
            "novnc/core/rfb.js",
            "novnc/core/decoders/tight.js",
            "novnc/vendor/pako/lib/zlib/inflate.js",
            "novnc/LICENSE.txt",
            "novnc/docs/LICENSE.MPL-2.0",
        ] {
            assert!(find(wanted).is_some_and(|file| !file.bytes.is_empty()), "{wanted}");
        }
        for unwanted in
            ["package.json", "package-lock.json", ".npmrc", "node_modules", "novnc", "novnc/core", ""]
        {
            assert!(find(unwanted).is_none(), "{unwanted:?}");
        }
        assert!(paths().count() > 50);
    }

    #[test]
    fn novnc_is_the_version_that_the_lock_file_pins() {
        let lock: serde_json::Value =
            serde_json::from_str(include_str!("../../../web/package-lock.json")).unwrap();
        let package: serde_json::Value =
            serde_json::from_slice(find("novnc/package.json").unwrap().bytes).unwrap();
        assert_eq!(package["version"], "1.7.0");
        assert_eq!(lock["packages"]["node_modules/@novnc/novnc"]["version"], "1.7.0");
    }

    #[test]
    fn every_module_that_the_page_names_is_there() {
        let mut checked = 0;
        for path in paths().filter(|path| path.ends_with(".js") && !path.contains('/')) {
            let text = std::str::from_utf8(find(path).unwrap().bytes).unwrap();
            for line in text.lines().filter(|line| line.starts_with("import ")) {
                let target = line.split('\'').nth(1).unwrap();
                assert!(find(target.trim_start_matches("./")).is_some(), "{path} imports {target}");
                checked += 1;
            }
        }
        assert!(checked >= 10, "{checked} imports seen");
    }

    #[test]
    fn the_page_needs_nothing_inline() {
        let page = std::str::from_utf8(find("index.html").unwrap().bytes).unwrap();
        for inline in ["<style", " style=", " onclick=", " onload=", "<script>", "javascript:"] {
            assert!(!page.contains(inline), "{inline}");
        }
        assert_eq!(page.matches("<script").count(), page.matches("<script type=\"module\" src=").count());
    }
}
