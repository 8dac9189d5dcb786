//! Another size for a screen, through RandR. Xvfb takes any up to the one that it was started with, and keeps its memory as it
//! is: only less of each row, and fewer rows, are shown.

use std::borrow::Cow;

use x11rb_protocol::protocol::randr::{
    AddOutputModeRequest, CreateModeRequest, DeleteOutputModeRequest, DestroyModeRequest,
    GetScreenResourcesCurrentRequest, ModeInfo, NotifyMask, Rotation, SelectInputRequest,
    SetCrtcConfigRequest, SetScreenSizeRequest,
};
use x11rb_protocol::protocol::xproto::{
    ConfigureWindowAux, ConfigureWindowRequest, GetGeometryReply, GetGeometryRequest, GrabServerRequest,
    QueryTreeRequest, UngrabServerRequest,
};

use super::client::{Client, Error};

/// As Xvfb is told with `-dpi`: pages must not see it change.
const DOTS_PER_INCH: u32 = 96;
/// Windows that are looked at, from the top: a session can make any number.
const MOST_WINDOWS: usize = 256;
/// Chromium makes a window that is to be as large as the screen this much smaller.
const SHORT_BY: i32 = 1;

/// The root's width and height.
pub(super) async fn size(client: &mut Client, root: u32) -> Result<(u16, u16), Error> {
    let geometry = client.ask(GetGeometryRequest { drawable: root }).await?;
    Ok((geometry.width, geometry.height))
}

/// Has the server tell of another size, with an event.
pub(super) fn watch(client: &mut Client, root: u32) {
    client.tell(SelectInputRequest { window: root, enable: NotifyMask::SCREEN_CHANGE });
}

/// Gives the screen another size, and tells which it has then: a server that cannot keeps the one it had.
///
/// # Errors
/// When the connection is of no more use.
pub(super) async fn resize(client: &mut Client, root: u32, wanted: (u16, u16)) -> Result<(u16, u16), Error> {
    let before = size(client, root).await?;
    // Other clients see one change and nothing between.
    client.tell(GrabServerRequest);
    let changed = change(client, root, before, wanted).await;
    client.tell(UngrabServerRequest);
    match changed {
        Ok(()) => {}
        Err(Error::Refused { major, minor, code }) => {
            tracing::debug!(major, minor, code, "the X server takes no other size");
        }
        Err(error) => return Err(error),
    }
    size(client, root).await
}

async fn change(client: &mut Client, root: u32, before: (u16, u16), wanted: (u16, u16)) -> Result<(), Error> {
    let resources = client.ask(GetScreenResourcesCurrentRequest { window: root }).await?;
    let (Some(crtc), Some(output)) = (resources.crtcs.first(), resources.outputs.first()) else {
        return Ok(());
    };
    let known = resources.modes.iter().find(|mode| (mode.width, mode.height) == wanted);
    let mode = match known {
        Some(mode) => mode.id,
        None => {
            let mode = client.ask(create_mode(root, wanted)).await?.mode;
            client.tell(AddOutputModeRequest { output: *output, mode });
            mode
        }
    };
    // What the output shows has to lie on the screen at any moment.
    let both = (before.0.max(wanted.0), before.1.max(wanted.1));
    if both != before {
        client.tell(screen_size(root, both));
    }
    let shown = SetCrtcConfigRequest {
        crtc: *crtc,
        timestamp: resources.timestamp,
        config_timestamp: resources.config_timestamp,
        x: 0,
        y: 0,
        mode,
        rotation: Rotation::ROTATE0,
        outputs: Cow::Borrowed(std::slice::from_ref(output)),
    };
    client.ask(shown).await?;
    if both != wanted {
        client.tell(screen_size(root, wanted));
    }
    // Of those that were made here or by the session none stays, or each size that ever was would. The server's own cannot be
    // taken away, and says so.
    for mode in resources.modes.iter().filter(|known| known.id != mode) {
        client.tell(DeleteOutputModeRequest { output: *output, mode: mode.id });
        client.tell(DestroyModeRequest { mode: mode.id });
    }
    Ok(())
}

fn create_mode(root: u32, (width, height): (u16, u16)) -> CreateModeRequest<'static> {
    let name = format!("{width}x{height}").into_bytes();
    let name_len = u16::try_from(name.len()).unwrap_or_default();
    let mode_info = ModeInfo { width, height, name_len, ..ModeInfo::default() };
    CreateModeRequest { window: root, mode_info, name: Cow::Owned(name) }
}

fn screen_size(window: u32, (width, height): (u16, u16)) -> SetScreenSizeRequest {
    let millimetres = |pixels: u16| u32::from(pixels) * 254 / (DOTS_PER_INCH * 10);
    SetScreenSizeRequest {
        window,
        width,
        height,
        mm_width: millimetres(width),
        mm_height: millimetres(height),
    }
}

/// Stretches the windows that filled a screen of size `old`: without a window manager nobody else does.
///
/// # Errors
/// When the connection is of no more use.
pub(super) async fn stretch_windows(
    client: &mut Client,
    root: u32,
    old: (u16, u16),
    new: (u16, u16),
) -> Result<(), Error> {
    let windows = match client.ask(QueryTreeRequest { window: root }).await {
        Ok(tree) => tree.children,
        Err(Error::Refused { .. } | Error::TooLarge) => return Ok(()),
        Err(error) => return Err(error),
    };
    // The topmost is the last one.
    for window in windows.into_iter().rev().take(MOST_WINDOWS) {
        match client.ask(GetGeometryRequest { drawable: window }).await {
            Ok(geometry) if fills(&geometry, old) => {
                let (width, height) = (u32::from(new.0), u32::from(new.1));
                let values = ConfigureWindowAux::new().x(0).y(0).width(width).height(height);
                client.tell(ConfigureWindowRequest { window, value_list: Cow::Owned(values) });
            }
            // It does not fill it, or has gone.
            Ok(_) | Err(Error::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn fills(window: &GetGeometryReply, (width, height): (u16, u16)) -> bool {
    let covers = |from: i16, length: u16, screen: u16| {
        from <= 0 && i32::from(from) + i32::from(length) + SHORT_BY >= i32::from(screen)
    };
    covers(window.x, window.width, width) && covers(window.y, window.height, height)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_fills_the_screen_also_where_a_pixel_is_missing() {
        let at = |x, y, width, height| {
            let geometry = GetGeometryReply { x, y, width, height, ..GetGeometryReply::default() };
            fills(&geometry, (800, 600))
        };
        assert!(at(0, 0, 800, 600) && at(0, 0, 799, 599) && at(-5, -5, 900, 700));
        assert!(!at(0, 0, 798, 600) && !at(1, 0, 800, 600) && !at(0, 0, 800, 300) && !at(10, 10, 10, 10));
    }
}
