//! Having AdsPower open a browser: what it needs first, and whether what comes is taken.

use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::super::client::{Error, NewProfile, StartOptions};
use super::super::ids::ProfileId;
use super::super::service::AdsPower;
use super::super::site::{Accepted, Guest, NotTaken, pause};
use super::close::close;
use super::driver::{CLOSE_BUDGET, FILES_DEADLINE};
use super::machine::NotOpened;
use crate::browser::{Client, DevtoolsError, Endpoint};
use crate::display::Display;
use crate::errors::chain;
use crate::tasks::blocking;

/// From AdsPower's answer to a browser that shows itself: an answer may come a little before.
const ACCEPT_DEADLINE: Duration = Duration::from_secs(5);
/// For the first answer of a browser, and to set out for its page.
const PAGE_DEADLINE: Duration = Duration::from_secs(5);
/// For files of cookies and sockets.
const INVITE_DEADLINE: Duration = Duration::from_secs(5);

/// What an automation and the browser give each other lies there.
pub(super) async fn make_files(adspower: &AdsPower, profile: &ProfileId) -> Result<(), String> {
    let site = adspower.site().ok_or("AdsPower is not up")?;
    let (files, owner) = (adspower.files(profile), site.ground.owner);
    let made = blocking(FILES_DEADLINE, move || files.make(owner)).await.and_then(|outcome| outcome);
    made.map_err(|error| format!("no directory for downloads: {}", chain(&error)))
}

/// Lets AdsPower at the display.
pub(super) async fn invite(adspower: &AdsPower, display: Display) -> Result<Guest, String> {
    let site = adspower.site().ok_or("AdsPower is not up")?;
    let invited = blocking(INVITE_DEADLINE, move || site.invite(&display)).await.and_then(|outcome| outcome);
    invited.map_err(|error| format!("AdsPower cannot be let at the display: {}", chain(&error)))
}

/// Has AdsPower open a profile's browser, with these settings of the profile where there are any, and looks at it.
pub(super) async fn open(
    adspower: &AdsPower,
    profile: &ProfileId,
    settings: &NewProfile,
    options: &StartOptions,
) -> Result<Accepted, NotOpened> {
    let client = adspower.client();
    // One that is open already would stay where it is: on another display.
    if client.active(profile).await.map_err(|error| not_opened(&error))?.is_some() {
        client.stop(profile).await.map_err(|error| not_opened(&error))?;
    }
    if settings.proxy.is_some() || settings.fingerprint.is_some() {
        client.update(profile, settings).await.map_err(|error| not_opened(&error))?;
    }
    let opened = match client.start(profile, options).await {
        Ok(opened) => opened,
        Err(error) => {
            if error.may_have_happened() {
                close(adspower, profile, None, Instant::now() + CLOSE_BUDGET).await;
            }
            return Err(not_opened(&error));
        }
    };
    let site = adspower.site().ok_or("AdsPower is not up")?;
    let api = *adspower.port().borrow();
    let mut last = None;
    let accept = async {
        loop {
            match site.accept(&opened, api).await {
                Ok(accepted) => return accepted,
                Err(error) => last = Some(error),
            }
            pause().await;
        }
    };
    match timeout(ACCEPT_DEADLINE, accept).await {
        Ok(accepted) => Ok(accepted),
        Err(_elapsed) => {
            close(adspower, profile, None, Instant::now() + CLOSE_BUDGET).await;
            let error = last.unwrap_or(NotTaken::Silent);
            let reason = format!("AdsPower opened a browser that is not taken: {}", chain(&error));
            Err(NotOpened { reason, is_its_own: !matches!(error, NotTaken::Look(_)) })
        }
    }
}

/// Anything but a refusal says nothing of the profile: it may be an outage of AdsPower's.
fn not_opened(error: &Error) -> NotOpened {
    NotOpened { reason: chain(error), is_its_own: matches!(error, Error::Refused(_)) }
}

/// Sets out for the page; blank where that fails.
pub(super) async fn open_page(endpoint: Endpoint, url: &str) -> Result<(), String> {
    let open = async {
        let mut client = Client::connect(endpoint).await?;
        client.get_version().await?;
        client.open(url).await
    };
    let opened: Result<(), DevtoolsError> =
        timeout(PAGE_DEADLINE, open).await.map_err(|_| "it took too long".to_owned())?;
    opened.map_err(|error| chain(&error))
}
