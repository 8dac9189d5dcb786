//! TLS with a certificate that can change while connections are live.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::errors::chain;

/// How often the files are looked at.
const CHECK_INTERVAL: Duration = Duration::from_secs(3);

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not what it should be.
    #[error("{path} holds no {what} in PEM")]
    Pem {
        /// Which.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// The key is not the certificate's, or of a kind we do not know.
    #[error("the certificate and the key do not go together")]
    Pair(#[source] rustls::Error),
    /// The library does not take our settings.
    #[error("cannot set TLS up")]
    Setup(#[source] rustls::Error),
}

/// A certificate, its files, and what accepts connections with it. TLS 1.2 and 1.3, HTTP/1.1 only, no early data.
#[derive(Debug)]
pub struct Tls {
    certificate: PathBuf,
    private_key: PathBuf,
    current: Arc<Current>,
    config: Arc<ServerConfig>,
    /// What the files looked like when they were last read. Held for a comparison only, by the watcher and by reloads.
    seen: Mutex<Stamps>,
}

type Stamps = [Option<(SystemTime, u64)>; 2];

/// The pair in use. New handshakes take it; live connections have what they need already.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Tls {
    /// Reads the pair and checks it.
    ///
    /// # Errors
    /// When a file cannot be read or the two do not go together.
    pub async fn load(certificate: &Path, private_key: &Path) -> Result<Self, TlsError> {
        let seen = [stamp(certificate).await, stamp(private_key).await];
        let pair = read_pair(certificate, private_key).await?;
        let current = Arc::new(Current(RwLock::new(Arc::new(pair))));
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(TlsError::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.max_early_data_size = 0;
        Ok(Self {
            certificate: certificate.to_owned(),
            private_key: private_key.to_owned(),
            current,
            config: Arc::new(config),
            seen: Mutex::new(seen),
        })
    }

    /// Reads the files again. What is in use stays when the new pair is bad.
    ///
    /// # Errors
    /// As [`Tls::load`].
    pub async fn reload(&self) -> Result<(), TlsError> {
        let stamps = self.stamps().await;
        self.remember(stamps);
        let pair = read_pair(&self.certificate, &self.private_key).await?;
        *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pair);
        Ok(())
    }

    /// Reloads whenever a file changes, until `stop`. A bad pair is said once per change.
    pub async fn watch(&self, stop: CancellationToken) {
        let mut ticks = interval(CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let stamps = self.stamps().await;
            if !self.remember(stamps) {
                continue;
            }
            match self.reload().await {
                Ok(()) => tracing::info!("certificate replaced"),
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "new certificate not usable, the old one stays");
                }
            }
        }
    }

    /// The leaf in use, in DER.
    pub fn current_certificate(&self) -> Vec<u8> {
        let current = self.current.0.read().unwrap_or_else(PoisonError::into_inner);
        current.cert.first().map(|leaf| leaf.to_vec()).unwrap_or_default()
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }

    async fn stamps(&self) -> Stamps {
        [stamp(&self.certificate).await, stamp(&self.private_key).await]
    }

    /// Whether these differ from the last ones.
    fn remember(&self, stamps: Stamps) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *seen, stamps) != stamps
    }
}

/// Time of change and size; `None` while the file is away.
async fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = tokio::fs::metadata(path).await.ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

async fn read_pair(certificate: &Path, private_key: &Path) -> Result<CertifiedKey, TlsError> {
    let pem = |path: &Path, what| TlsError::Pem { path: path.to_owned(), what };
    let text = read(certificate).await?;
    let chain = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| pem(certificate, "certificate"))?;
    if chain.is_empty() {
        return Err(pem(certificate, "certificate"));
    }
    let text = read(private_key).await?;
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|_| pem(private_key, "private key"))?;
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(TlsError::Pair)
}

async fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    tokio::fs::read(path).await.map_err(|source| TlsError::Read { path: path.to_owned(), source })
}
