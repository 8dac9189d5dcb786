//! What there is in the protocol that a policy must look at, as data. Read off `/json/protocol` of Chromium 156: every
//! parameter that is a URL to load or a path on this host.

/// Methods that `automation` may not use, unless configured otherwise. `X.*` is a whole domain.
pub const DEFAULT_DENY: [&str; 11] = [
    // The supervisor's to do, not the automation's.
    "Browser.close",
    "Browser.crash",
    "Browser.crashGpuProcess",
    // Acts on the browser's own windows and dialogs.
    "Browser.executeBrowserCommand",
    // The host's hardware and command line.
    "SystemInfo.*",
    // Listens on ports of the host.
    "Tethering.*",
    // Gives pages the protocol without a policy.
    "Target.exposeDevToolsProtocol",
    // Connects the browser to other hosts' DevTools ports.
    "Target.setRemoteLocations",
    // Install code that stays in the profile, from paths on the host.
    "Extensions.*",
    "PWA.*",
    "DeviceAccess.*",
];

/// Schemes of URLs that `automation` may not open, unless configured otherwise.
pub const DEFAULT_DENY_URL_SCHEMES: [&str; 4] = ["file", "chrome", "chrome-untrusted", "devtools"];

/// What is done with input of an automation while a human is wanted at the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fence {
    /// It is sent on: both act side by side.
    #[default]
    Open,
    /// It is answered with an error.
    Fail,
    /// It waits until no human is wanted any more.
    Wait,
}

impl Fence {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Open, Self::Fail, Self::Wait];

    /// As the configuration calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Fail => "fail",
            Self::Wait => "wait",
        }
    }
}

/// Methods that act as a person at mouse and keyboard would, or keep one from acting.
const INPUT: &str = "Input.*";

/// Parameters to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// The parameter is a URL that will be loaded.
    Url(&'static str),
    /// The parameter is a path, or a list of paths, that will be read.
    Files(&'static str),
    /// The parameter is an object, in which `files` is a list of paths that will be read.
    DraggedFiles(&'static str),
    /// The parameter is a directory that will be written to.
    Downloads(&'static str),
    /// The parameter is a message to another target, as a string.
    Message(&'static str),
    /// The parameter may not be there.
    Absent(&'static str),
}

/// What each method is looked at for. Methods of the default deny list are here too: a configuration may allow them.
const LOOKS: [(&str, Look); 16] = [
    ("Page.navigate", Look::Url("url")),
    ("Target.createTarget", Look::Url("url")),
    ("Network.loadNetworkResource", Look::Url("url")),
    ("Fetch.continueRequest", Look::Url("url")),
    ("Network.continueInterceptedRequest", Look::Url("url")),
    ("PWA.install", Look::Url("installUrlOrBundleUrl")),
    ("PWA.launch", Look::Url("url")),
    ("PWA.launchFilesInApp", Look::Files("files")),
    ("Extensions.loadUnpacked", Look::Files("path")),
    ("DOM.setFileInputFiles", Look::Files("files")),
    // Gone from Chromium 156, but not from older ones.
    ("Page.handleFileChooser", Look::Files("files")),
    ("Input.dispatchDragEvent", Look::DraggedFiles("data")),
    ("Browser.setDownloadBehavior", Look::Downloads("downloadPath")),
    ("Page.setDownloadBehavior", Look::Downloads("downloadPath")),
    ("Target.sendMessageToTarget", Look::Message("message")),
    // Takes the same-origin policy away from these origins. Its proxyServer is as good as any page's.
    ("Target.createBrowserContext", Look::Absent("originsWithUniversalNetworkAccess")),
];

/// Methods that attach to targets. Inside a nested message their events would come back where nobody looks.
const ATTACHING: [&str; 4] = [
    "Target.attachToTarget",
    "Target.attachToBrowserTarget",
    "Target.setAutoAttach",
    "Target.autoAttachRelated",
];

/// Methods that close a page.
const CLOSING: [&str; 2] = ["Target.closeTarget", "Page.close"];

/// What may be said to a target that the role may not act on: a tab that waits for a debugger must not wait for ever.
const ALWAYS: [&str; 2] = ["Runtime.runIfWaitingForDebugger", "Target.detachFromTarget"];

/// What a connection that reaches some contexts only may not use: nested messages come back where nobody looks, and
/// a trace is of all there is.
const CROSSING: [&str; 4] =
    ["Target.sendMessageToTarget", "Target.exposeDevToolsProtocol", "Target.setRemoteLocations", "Tracing.*"];

/// Domains of the browser's own target that keep to the context that they name, or to the default one. `Fetch` would stop
/// every request of every context.
const KEEPING: [&str; 3] = ["Target.*", "Browser.*", "Storage.*"];

/// Domains whose commands name targets, sessions, contexts and windows.
const NAMING: [&str; 5] = ["Target.*", "Browser.*", "Storage.*", "Extensions.*", "PWA.*"];

/// An answer with something in it that a connection may learn from, or may not see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Targets,
    Contexts,
    NewContext,
    NewTarget,
    Window,
}

pub(super) fn answer(method: &str) -> Option<Answer> {
    Some(match method {
        "Target.getTargets" => Answer::Targets,
        "Target.getBrowserContexts" => Answer::Contexts,
        "Target.createBrowserContext" => Answer::NewContext,
        "Target.createTarget" => Answer::NewTarget,
        "Browser.getWindowForTarget" => Answer::Window,
        _ => return None,
    })
}

pub(super) fn crosses_contexts(method: &str) -> bool {
    CROSSING.iter().any(|pattern| matches(pattern, method))
}

pub(super) fn keeps_to_contexts(method: &str) -> bool {
    KEEPING.iter().any(|pattern| matches(pattern, method))
}

pub(super) fn names_targets(method: &str) -> bool {
    NAMING.iter().any(|pattern| matches(pattern, method))
}

pub(super) fn look(method: &str) -> Option<Look> {
    LOOKS.iter().find(|(name, _)| *name == method).map(|(_, look)| *look)
}

pub(super) fn attaches(method: &str) -> bool {
    ATTACHING.contains(&method)
}

pub(super) fn dispatches_input(method: &str) -> bool {
    matches(INPUT, method)
}

/// Whether an input event of this type lets go of what was pressed.
pub(super) fn releases(kind: &str) -> bool {
    matches!(kind, "keyUp" | "mouseReleased" | "touchEnd" | "touchCancel")
}

pub(super) fn closes(method: &str) -> bool {
    CLOSING.contains(&method)
}

pub(super) fn always_allowed(method: &str) -> bool {
    ALWAYS.contains(&method)
}

/// Whether `pattern` names a method or, as `Domain.*`, all of a domain.
pub fn well_formed_pattern(pattern: &str) -> bool {
    let name = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    pattern.split_once('.').is_some_and(|(domain, method)| name(domain) && (method == "*" || name(method)))
}

/// Whether `scheme` is the name of a URL scheme, in lower case and without its colon.
pub fn well_formed_scheme(scheme: &str) -> bool {
    super::url::well_formed(scheme) && !scheme.bytes().any(|byte| byte.is_ascii_uppercase())
}

pub(super) fn matches(pattern: &str, method: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(domain) => method.starts_with(domain),
        None => pattern == method,
    }
}
