//! `valetd probe`: tries to connect, and says how that went by its exit code. Run under a session's uid, it proves that
//! what is forbidden is.

use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

/// A refusal comes at once; silence is as good.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);

/// Exit code when it is connected.
pub(super) const CONNECTED: u8 = 0;
/// Exit code when it was kept from connecting.
pub(super) const REFUSED: u8 = 10;
/// Exit code when it was asked for something else.
const MISUSED: u8 = 64;

/// `valetd probe ADDRESS:PORT`.
pub fn probe_main() -> ExitCode {
    let address = std::env::args().nth(2).and_then(|text| text.parse::<SocketAddr>().ok());
    ExitCode::from(match address {
        Some(address) => match TcpStream::connect_timeout(&address, CONNECT_DEADLINE) {
            Ok(_connected) => CONNECTED,
            Err(_refused) => REFUSED,
        },
        None => MISUSED,
    })
}
