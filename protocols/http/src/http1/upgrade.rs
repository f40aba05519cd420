//! The upgrade to WebSocket: what a valid one is, and the answer to it.

use http::{HeaderMap, Method, Version, header};
use tungstenite::handshake::derive_accept_key;

use crate::{
    http1::{
        body::Body,
        head::{has_token, is_token_byte},
    },
    output::Output,
    rule::Rule,
};

/// Whether this is a WebSocket upgrade; one that is meant but wrong is refused. Other upgrades (`h2c`) are ignored, as
/// RFC 9110 allows.
pub(crate) fn check(method: &Method, version: Version, headers: &HeaderMap, body: &Body) -> Result<bool, Rule> {
    let meant = version == Version::HTTP_11
        && has_token(headers, header::UPGRADE, "websocket")
        && has_token(headers, header::CONNECTION, "upgrade");
    if !meant {
        return Ok(false);
    }
    if method != Method::GET || !body.is_done() {
        return Err(Rule::Upgrade);
    }
    if the_only(headers, header::SEC_WEBSOCKET_VERSION)? != b"13" {
        return Err(Rule::UpgradeVersion);
    }
    if !is_key(the_only(headers, header::SEC_WEBSOCKET_KEY)?) {
        return Err(Rule::Upgrade);
    }
    Ok(true)
}

/// Writes the answer 101. A protocol that is no token was never offered, so none is named.
pub(crate) fn write_accept(key: &[u8], protocol: Option<&str>, output: &mut Output) {
    output.write(
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: ",
    );
    output.write(derive_accept_key(key).as_bytes());
    if let Some(protocol) = protocol.filter(|protocol| protocol.bytes().all(is_token_byte)) {
        output.write(b"\r\nsec-websocket-protocol: ");
        output.write(protocol.as_bytes());
    }
    output.write(b"\r\n\r\n");
}

fn the_only(headers: &HeaderMap, name: http::HeaderName) -> Result<&[u8], Rule> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value.as_bytes()),
        _ => Err(Rule::Upgrade),
    }
}

/// 16 bytes in base64: 22 digits, of which the last holds four bits, and two pads.
fn is_key(key: &[u8]) -> bool {
    let Some(digits) = key.strip_suffix(b"==") else { return false };
    digits.len() == 22
        && digits.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
        && matches!(digits[21], b'A' | b'Q' | b'g' | b'w')
}
