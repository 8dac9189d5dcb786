//! What is asked of AdsPower, before it is known which version of the API is asked.

use serde_json::{Map, Value};

use crate::adspower::ProfileId;
use crate::secret::Secret;

/// How a profile's browser is opened.
#[derive(Debug, Clone, Default)]
pub struct StartOptions {
    /// For the browser's command line.
    pub launch_args: Vec<String>,
    /// Without a window.
    pub headless: bool,
    /// With the tabs that were open when it was closed. Neither way opens AdsPower's own page about the proxy.
    pub restore_tabs: bool,
    /// Its cache is emptied when it is closed.
    pub clear_cache: bool,
}

/// Which profiles are listed; all that there are by default.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    /// These alone, where any are named.
    pub profiles: Vec<ProfileId>,
    /// Those of one group, by its id.
    pub group: Option<String>,
}

impl ListQuery {
    /// Whether it leaves nothing out.
    pub(super) fn is_all(&self) -> bool {
        self.profiles.is_empty() && self.group.is_none()
    }
}

/// A profile's settings. What is `None` or empty is left to AdsPower, or as it is.
#[derive(Debug, Clone, Default)]
pub struct NewProfile {
    /// Its name.
    pub name: Option<String>,
    /// The group's id; a new profile without one is in no group.
    pub group: Option<String>,
    /// A remark.
    pub remark: Option<String>,
    /// The site that the account below is for.
    pub platform: Option<String>,
    /// An account's name. AdsPower's documentation asks for one of account, password and cookies in a new profile.
    pub username: Option<String>,
    /// An account's password.
    pub password: Option<Secret<String>>,
    /// Cookies, as AdsPower takes them.
    pub cookie: Option<Secret<String>>,
    /// Pages that open with it.
    pub tabs: Vec<String>,
    /// The way to the network.
    pub proxy: Option<Proxy>,
    /// AdsPower's `fingerprint_config`, as it is.
    pub fingerprint: Option<Map<String, Value>>,
}

/// A profile's way to the network.
#[derive(Debug, Clone)]
pub enum Proxy {
    /// None.
    Direct,
    /// One that AdsPower knows, by its id; `random` lets it choose.
    Saved(String),
    /// This one.
    Server(ProxyServer),
}

/// A proxy.
#[derive(Debug, Clone)]
pub struct ProxyServer {
    /// What it speaks.
    pub kind: ProxyKind,
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// An account there.
    pub user: Option<String>,
    /// The account's password.
    pub password: Option<Secret<String>>,
}

/// A proxy of ours as AdsPower takes it; none where it does not.
pub fn proxy(proxy: &crate::proxy::Proxy) -> Option<Proxy> {
    let (scheme, host, port) = proxy.parts();
    let kind = match scheme {
        "http" => ProxyKind::Http,
        "https" => ProxyKind::Https,
        "socks5" => ProxyKind::Socks5,
        _ => return None,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Some(Proxy::Server(ProxyServer { kind, host, port, user: None, password: None }))
}

/// What a proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyKind {
    /// HTTP.
    Http,
    /// HTTP over TLS.
    Https,
    /// SOCKS 5.
    Socks5,
}

impl ProxyKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Socks5 => "socks5",
        }
    }
}

/// A request. No `Debug`: there are passwords in bodies.
pub(super) struct Request {
    pub(super) path: &'static str,
    pub(super) content: Content,
}

/// What a request brings.
pub(super) enum Content {
    /// `GET`.
    Query(Vec<(&'static str, String)>),
    /// `POST`, as JSON.
    Body(Value),
}

impl Request {
    pub(super) fn get(path: &'static str, query: Vec<(&'static str, String)>) -> Self {
        Self { path, content: Content::Query(query) }
    }

    pub(super) fn post(path: &'static str, body: Map<String, Value>) -> Self {
        Self { path, content: Content::Body(Value::Object(body)) }
    }
}

/// A call in the version that is tried first, and in the older one where there are two.
pub(super) struct Ways {
    pub(super) first: Request,
    pub(super) older: Option<Request>,
}

impl From<Request> for Ways {
    fn from(first: Request) -> Self {
        Self { first, older: None }
    }
}

/// A switch, as the API writes it.
pub(super) fn switch(on: bool) -> &'static str {
    if on { "1" } else { "0" }
}

/// The ids as JSON.
pub(super) fn ids(profiles: &[ProfileId]) -> Value {
    profiles.iter().map(ProfileId::as_str).collect()
}

/// The settings that both versions call alike.
pub(super) fn common(profile: &NewProfile) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value);
        }
    };
    let text = |text: &Option<String>| text.clone().map(Value::String);
    let secret = |secret: &Option<Secret<String>>| secret.as_ref().map(|text| text.expose().as_str().into());
    put("name", text(&profile.name));
    put("group_id", text(&profile.group));
    put("remark", text(&profile.remark));
    put("username", text(&profile.username));
    put("password", secret(&profile.password));
    put("cookie", secret(&profile.cookie));
    put("fingerprint_config", profile.fingerprint.clone().map(Value::Object));
    match &profile.proxy {
        None => {}
        Some(Proxy::Direct) => {
            let none = Map::from_iter([("proxy_soft".to_owned(), "no_proxy".into())]);
            put("user_proxy_config", Some(Value::Object(none)));
        }
        Some(Proxy::Saved(id)) => put("proxyid", Some(id.as_str().into())),
        Some(Proxy::Server(server)) => put("user_proxy_config", Some(server_fields(server))),
    }
    fields
}

fn server_fields(server: &ProxyServer) -> Value {
    let mut fields = Map::from_iter([
        ("proxy_soft".to_owned(), "other".into()),
        ("proxy_type".to_owned(), server.kind.as_str().into()),
        ("proxy_host".to_owned(), server.host.as_str().into()),
        ("proxy_port".to_owned(), server.port.to_string().into()),
    ]);
    if let Some(user) = &server.user {
        fields.insert("proxy_user".to_owned(), user.as_str().into());
    }
    if let Some(password) = &server.password {
        fields.insert("proxy_password".to_owned(), password.expose().as_str().into());
    }
    Value::Object(fields)
}
