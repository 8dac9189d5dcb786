//! What there is in a session's browser, over a short connection of our own.

use tokio::time::timeout;

use super::connect::{ANSWER_DEADLINE, RETRY_AFTER, endpoint};
use crate::browser::{Client, DevtoolsError, Endpoint};
use crate::cdp::Survey;
use crate::errors::chain;
use crate::gateway::refused::Refused;
use crate::session::Session;

/// Contexts and targets of the session's browser.
pub(super) async fn survey(session: &Session) -> Result<Survey, Refused> {
    let endpoint = endpoint(session)?;
    let look = async { look(endpoint).await.map(|(_client, survey)| survey) };
    in_time(session, look).await?.ok_or(Refused::NoTarget)
}

/// Opens an empty page in the default context where its last one is about to close: without any, Chromium ends. With no
/// target named, which page it is about is not known. A page that closes meanwhile can still be the last.
pub(super) async fn keep_a_page(session: &Session, closing: Option<&str>) -> Result<(), Refused> {
    let endpoint = endpoint(session)?;
    let keep = async {
        let (mut client, survey) = look(endpoint).await?;
        if survey.is_some_and(|survey| survey.is_last_page(closing)) {
            client.open_empty().await?;
        }
        Ok(())
    };
    in_time(session, keep).await
}

async fn look(endpoint: Endpoint) -> Result<(Client, Option<Survey>), DevtoolsError> {
    let mut client = Client::connect_for_news(endpoint).await?;
    let (contexts, targets) = client.survey().await?;
    let survey = Survey::read(&contexts, &targets).map_err(|error| {
        tracing::warn!(error = %chain(&error), "DevTools does not tell its contexts apart");
    });
    Ok((client, survey.ok()))
}

async fn in_time<T>(
    session: &Session,
    asking: impl Future<Output = Result<T, DevtoolsError>>,
) -> Result<T, Refused> {
    match timeout(ANSWER_DEADLINE, Box::pin(asking)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            tracing::debug!(session = %session.id(), error = %chain(&error), "no survey of DevTools");
            Err(Refused::BrowserNotReady(RETRY_AFTER))
        }
        Err(_) => Err(Refused::BrowserNotReady(RETRY_AFTER)),
    }
}
