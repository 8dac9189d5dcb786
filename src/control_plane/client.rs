//! Requests to the control plane: one at a time, within bounds, and to nobody else.

use std::io::Write as _;
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderMap, RETRY_AFTER};
use reqwest::{Certificate, Identity, StatusCode, redirect};

use super::config::{Auth, Config};
use super::credential::Credential;
use super::reply::{Answer, Reply, judge};
use crate::errors::chain;
use crate::http::{Names, text};

/// For the connection, TLS included.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// For the whole exchange.
const DEADLINE: Duration = Duration::from_secs(10);
/// Connections that nothing was sent over for so long are not used again: what is in between may have forgotten them.
const IDLE: Duration = Duration::from_secs(30);
/// Bodies from here on are compressed; below, it costs more than it saves.
const COMPRESS_FROM: usize = 8 * 1024;
/// An acknowledgement is short.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Why nothing can be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("the certificate and the key cannot be used")]
    Identity(#[source] reqwest::Error),
    #[error("the CA's certificates cannot be used")]
    Authority(#[source] reqwest::Error),
    #[error("the CA's file holds no certificate")]
    NoAuthority,
    #[error("no client for the control plane")]
    Setup(#[source] reqwest::Error),
}

/// What came of a request.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) reply: Reply,
    /// How far the other clock is ahead, in seconds, where it says.
    pub(super) skew: Option<f64>,
}

/// The client.
pub(super) struct Client {
    config: Config,
    /// Outlives the connections: what was known of the host's name before is of use when the network is not.
    names: Names,
    http: reqwest::Client,
    credential: Credential,
    compress: bool,
}

impl Client {
    /// # Errors
    /// When certificates cannot be used.
    pub(super) fn new(config: &Config) -> Result<Self, ClientError> {
        Self::with(config, Names::default())
    }

    fn with(config: &Config, names: Names) -> Result<Self, ClientError> {
        Ok(Self {
            http: http(config, &names)?,
            names,
            credential: Credential::new(config.auth.clone()),
            config: config.clone(),
            compress: true,
        })
    }

    /// Shows `auth` from now on, where it can be used; whether that is something else than before.
    ///
    /// # Errors
    /// When it cannot: what was shown before stays.
    pub(super) fn show(&mut self, auth: Auth) -> Result<bool, ClientError> {
        if *self.credential.auth() == auth {
            return Ok(self.credential.forget());
        }
        let config = Config { auth, ..self.config.clone() };
        let compress = self.compress;
        *self = Self { compress, ..Self::with(&config, self.names.clone())? };
        Ok(true)
    }

    /// Lets go of connections that may be dead.
    pub(super) fn hang_up(&mut self) {
        match http(&self.config, &self.names) {
            Ok(http) => self.http = http,
            // It could be made before.
            Err(error) => tracing::debug!(error = %chain(&error), "no fresh client"),
        }
    }

    /// Sends one report; `events`: whether what it holds is to be acknowledged one by one.
    pub(super) async fn post(&mut self, path: &str, body: &[u8], events: bool) -> Exchange {
        let failed = |error: &dyn std::error::Error| Exchange {
            reply: Reply::Failed { why: chain(error), retry_after: None },
            skew: None,
        };
        let header = match self.credential.header().await {
            Ok(header) => header,
            Err(error) => return failed(&error),
        };
        let mut headers = HeaderMap::new();
        headers.extend(header.clone().map(|header| (AUTHORIZATION, header)));
        let packed = (self.compress && body.len() >= COMPRESS_FROM).then(|| packed(body)).flatten();
        let first = match packed {
            Some(packed) => match self.send(path, &headers, packed, true).await {
                Ok((StatusCode::UNSUPPORTED_MEDIA_TYPE, _)) => {
                    tracing::debug!("the control plane takes nothing that is compressed");
                    self.compress = false;
                    None
                }
                outcome => Some(outcome),
            },
            None => None,
        };
        let outcome = match first {
            Some(outcome) => outcome,
            None => self.send(path, &headers, body.to_vec(), false).await,
        };
        match outcome {
            Ok((_, (answer, skew))) => {
                let shown = header.as_ref().and_then(|header| std::str::from_utf8(header.as_bytes()).ok());
                let shown = shown.map(|header| header.strip_prefix("Bearer ").unwrap_or(header));
                Exchange { reply: judge(&answer, events, shown), skew }
            }
            Err(error) => failed(&error),
        }
    }

    async fn send(
        &self,
        path: &str,
        headers: &HeaderMap,
        body: Vec<u8>,
        compressed: bool,
    ) -> Result<(StatusCode, (Answer, Option<f64>)), SendError> {
        let mut request = self
            .http
            .post(format!("{}{path}", self.config.url))
            .headers(headers.clone())
            .header(CONTENT_TYPE, "application/json");
        if compressed {
            request = request.header(CONTENT_ENCODING, "gzip");
        }
        let began = SystemTime::now();
        // The address is in the configuration, and does not belong into every line about it.
        let broken = |error: reqwest::Error| SendError::Http(error.without_url());
        let response = request.body(body).send().await.map_err(broken)?;
        let status = response.status();
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let skew = header(DATE).and_then(|date| skew(date, began, SystemTime::now()));
        let retry_after = header(RETRY_AFTER).and_then(|text| patience(text, SystemTime::now()));
        // What a failing server says besides is of no use.
        let body = match text(response, MAX_ANSWER_BYTES).await {
            Ok(body) => body,
            Err(_) if !status.is_success() => String::new(),
            Err(error) => return Err(SendError::Text(error)),
        };
        Ok((status, (Answer { status: status.as_u16(), body, retry_after }, skew)))
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("it cannot be reached")]
    Http(#[source] reqwest::Error),
    #[error("its answer cannot be read")]
    Text(#[source] crate::http::TextError),
}

/// Whether a client can be made of this; an error says in words why not.
///
/// # Errors
/// When certificates cannot be used.
pub fn usable(config: &Config) -> Result<(), String> {
    http(config, &Names::default()).map(drop).map_err(|error| chain(&error))
}

fn http(config: &Config, names: &Names) -> Result<reqwest::Client, ClientError> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("valetd/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .no_proxy()
        .dns_resolver(names.clone())
        .connect_timeout(CONNECT_DEADLINE)
        .timeout(DEADLINE)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(1);
    if let Some(ca) = &config.ca {
        let certificates = Certificate::from_pem_bundle(ca).map_err(ClientError::Authority)?;
        if certificates.is_empty() {
            return Err(ClientError::NoAuthority);
        }
        builder = builder.tls_certs_only(certificates);
    }
    if let Auth::Mtls { certificate, key } = &config.auth {
        let mut pem = certificate.clone();
        pem.push(b'\n');
        pem.extend_from_slice(key.expose());
        builder = builder.identity(Identity::from_pem(&pem).map_err(ClientError::Identity)?);
    }
    builder.build().map_err(ClientError::Setup)
}

fn packed(body: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok()
}

/// How far the clock that wrote `date` is ahead of ours, in seconds. It has whole seconds, and wrote between the two.
fn skew(date: &str, began: SystemTime, ended: SystemTime) -> Option<f64> {
    let theirs = unix(httpdate::parse_http_date(date).ok()?)? + 0.5;
    Some(theirs - (unix(began)? + unix(ended)?) / 2.0)
}

fn unix(time: SystemTime) -> Option<f64> {
    time.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs_f64())
}

/// Seconds, or the time until a date.
fn patience(text: &str, now: SystemTime) -> Option<u64> {
    let until = || httpdate::parse_http_date(text).ok()?.duration_since(now).ok();
    text.trim().parse().ok().or_else(|| until().map(|wait| wait.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn clocks_are_compared_in_the_middle_of_an_exchange() {
        // 784111777 by `date -u -d … +%s`.
        let ahead = skew(DATE, at(784_111_717), at(784_111_718)).unwrap();
        assert!((ahead - 60.0).abs() < 0.01, "{ahead}");
        assert_eq!(skew("yesterday", at(1), at(2)), None);
    }

    #[test]
    fn patience_is_asked_for_in_seconds_or_until_a_time() {
        assert_eq!(patience("120", at(0)), Some(120));
        assert_eq!(patience(DATE, at(784_111_700)), Some(77));
        assert_eq!((patience(DATE, at(784_111_800)), patience("soon", at(0))), (None, None));
    }

    #[test]
    fn what_is_packed_is_gzip_and_smaller() {
        let body = vec![b'x'; 10_000];
        let packed = packed(&body).unwrap();
        assert!(packed.len() < 200 && packed.starts_with(&[0x1f, 0x8b]), "{}", packed.len());
    }

    #[test]
    fn certificates_that_are_none_are_said_to_be() {
        let config = Config {
            url: "https://control.example.org".to_owned(),
            auth: Auth::Bearer(crate::secret::Secret::new("x".to_owned())),
            ca: Some(b"nothing".to_vec()),
            heartbeat: Duration::from_secs(10),
        };
        assert_eq!(usable(&config), Err("the CA's file holds no certificate".to_owned()));
        let auth =
            Auth::Mtls { certificate: b"-".to_vec(), key: crate::secret::Secret::new(b"canary".to_vec()) };
        let problem = usable(&Config { ca: None, auth, ..config }).unwrap_err();
        assert!(
            problem.starts_with("the certificate and the key") && !problem.contains("canary"),
            "{problem}"
        );
    }
}
