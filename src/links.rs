//! Where a session is reached: addresses for those who are elsewhere. No credential is in them but one that is given.

use std::net::{Ipv4Addr, SocketAddr};

use crate::ids::SessionId;

/// Where the gateway is, for those who are elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Links {
    /// `https://host` or `http://host:port`, without a slash at its end.
    http: String,
}

impl Links {
    /// At its public address, where it has one, or at the address that it is bound to. Bound to all, it is named by
    /// loopback's, which is good on this host alone.
    pub fn new(public_url: Option<&str>, bound: SocketAddr, tls: bool) -> Self {
        let http = public_url.map_or_else(
            || {
                let mut address = bound;
                if address.ip().is_unspecified() {
                    address.set_ip(Ipv4Addr::LOCALHOST.into());
                }
                format!("http{}://{address}", if tls { "s" } else { "" })
            },
            |url| url.trim_end_matches('/').to_owned(),
        );
        Self { http }
    }

    /// The gateway's own address.
    pub fn gateway(&self) -> &str {
        &self.http
    }

    /// The same for WebSockets.
    fn websocket(&self) -> String {
        self.http.replacen("http", "ws", 1)
    }

    /// The page to look at a session with; it takes the token from the fragment.
    pub fn viewer(&self, session: &SessionId, token: Option<&str>) -> String {
        let token = token.map(|token| format!("&token={token}")).unwrap_or_default();
        format!("{}/#session={session}{token}", self.http)
    }

    /// RFB over WebSocket.
    pub fn vnc(&self, session: &SessionId) -> String {
        format!("{}/sessions/{session}/vnc", self.websocket())
    }

    /// The same for a stock noVNC; the token names the session.
    pub fn websockify(&self) -> String {
        format!("{}/websockify", self.websocket())
    }

    /// CDP over WebSocket.
    pub fn cdp(&self, session: &SessionId) -> String {
        format!("{}/sessions/{session}/cdp", self.websocket())
    }

    /// The base of CDP's discovery endpoints.
    pub fn cdp_http(&self, session: &SessionId) -> String {
        format!("{}/sessions/{session}/cdp", self.http)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_the_public_address_or_to_one_that_answers_here() {
        let bound = |text: &str| text.parse().unwrap();
        let id = "s".parse().unwrap();
        let here = Links::new(None, bound("0.0.0.0:6080"), false);
        assert_eq!(here.viewer(&id, None), "http://127.0.0.1:6080/#session=s");
        let tls = Links::new(None, bound("[2001:db8::1]:443"), true);
        assert_eq!(tls.vnc(&id), "wss://[2001:db8::1]:443/sessions/s/vnc");
        let public = Links::new(Some("https://host-7.example.org/http/"), bound("0.0.0.0:6080"), false);
        assert_eq!(public.cdp(&id), "wss://host-7.example.org/http/sessions/s/cdp");
        assert_eq!(public.cdp_http(&id), "https://host-7.example.org/http/sessions/s/cdp");
        assert_eq!(public.websockify(), "wss://host-7.example.org/http/websockify");
        let link = public.viewer(&id, Some("a.b.c"));
        assert_eq!(link, "https://host-7.example.org/http/#session=s&token=a.b.c");
    }
}
