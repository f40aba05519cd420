//! Field sections as messages: what RFC 9114 sections 4.2 to 4.4 allow, as types of the `http` crate.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header,
    uri::{Authority, PathAndQuery},
};
use quiche::h3::{Header, NameValue};

use super::{
    Limits,
    authority::is_authority,
    code::{Fault, malformed},
    qpack::TOO_LARGE,
};

/// A request's head.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) request: Request<()>,
    /// `:protocol` of an Extended CONNECT (RFC 9220).
    pub(crate) protocol: Option<Box<str>>,
    pub(crate) length: Option<u64>,
}

/// The pseudo-header fields of a request, as they came.
#[derive(Default)]
struct Pseudo<'a> {
    method: Option<&'a [u8]>,
    scheme: Option<&'a [u8]>,
    authority: Option<&'a [u8]>,
    path: Option<&'a [u8]>,
    protocol: Option<&'a [u8]>,
    status: Option<&'a [u8]>,
}

impl<'a> Pseudo<'a> {
    fn set(&mut self, name: &[u8], value: &'a [u8]) -> Result<(), Fault> {
        let slot = match name {
            b":method" => &mut self.method,
            b":scheme" => &mut self.scheme,
            b":authority" => &mut self.authority,
            b":path" => &mut self.path,
            b":protocol" => &mut self.protocol,
            b":status" => &mut self.status,
            _ => return Err(malformed("an unknown pseudo-header field")),
        };
        match slot.replace(value) {
            None => Ok(()),
            Some(_) => Err(malformed("a pseudo-header field is repeated")),
        }
    }
}

/// Reads a request's head. On success its URI is path and query (an authority for CONNECT) and `Host` is set once.
pub(crate) fn request(fields: &[Header], limits: &Limits) -> Result<Head, Fault> {
    let (pseudo, mut headers) = split(fields)?;
    if pseudo.status.is_some() {
        return Err(malformed("a request has no :status"));
    }
    let method = pseudo.method.and_then(|method| Method::from_bytes(method).ok());
    let method = method.ok_or(malformed(":method is missing or invalid"))?;
    let protocol = match pseudo.protocol {
        Some(_) if method != Method::CONNECT => return Err(malformed(":protocol wants CONNECT")),
        Some(name) if name.is_empty() || !name.iter().copied().all(is_token) => {
            return Err(malformed(":protocol is no token"));
        }
        Some(name) => Some(String::from_utf8_lossy(name).into()),
        None => None,
    };
    let uri = match method == Method::CONNECT && protocol.is_none() {
        true => tunnel_target(&pseudo)?,
        false => target(&pseudo, &method, limits)?,
    };
    set_host(pseudo.authority, &mut headers)?;
    let length = content_length(&headers)?;
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_3;
    *request.headers_mut() = headers;
    Ok(Head { request, protocol, length })
}

/// Reads a response's head, and its content-length.
pub(crate) fn response(fields: &[Header]) -> Result<(Response<()>, Option<u64>), Fault> {
    let (pseudo, headers) = split(fields)?;
    let Pseudo { status: Some(status), method: None, scheme: None, authority: None, path: None, protocol: None } =
        pseudo
    else {
        return Err(malformed("a response has :status and no other pseudo-header field"));
    };
    let status = StatusCode::from_bytes(status).map_err(|_| malformed(":status is invalid"))?;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(malformed("HTTP/3 has no 101"));
    }
    let length = content_length(&headers)?;
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = Version::HTTP_3;
    *response.headers_mut() = headers;
    Ok((response, length))
}

/// Reads a trailer section: RFC 9114 section 4.3 forbids pseudo-header fields there.
pub(crate) fn trailers(fields: &[Header]) -> Result<HeaderMap, Fault> {
    if fields.iter().any(|field| field.name().starts_with(b":")) {
        return Err(malformed("a trailer section has no pseudo-header fields"));
    }
    split(fields).map(|(_, headers)| headers)
}

/// The fields of a map as they are sent, but those that HTTP/3 forbids.
pub(crate) fn fields(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    let allowed = headers.iter().filter(|(name, _)| !is_of_connection(name.as_str().as_bytes()));
    allowed.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
}

/// Whether HTTP/3 forbids the field (RFC 9114 section 4.2): it is about a connection of HTTP/1.1.
pub(crate) fn is_of_connection(name: &[u8]) -> bool {
    matches!(name, b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade")
}

/// Whether a value of `te` may be there.
fn is_te_allowed(value: &[u8]) -> bool {
    value.eq_ignore_ascii_case(b"trailers")
}

/// Pseudo-header fields, which come first, and the others, checked and with cookies joined.
fn split(fields: &[Header]) -> Result<(Pseudo<'_>, HeaderMap), Fault> {
    let mut pseudo = Pseudo::default();
    let mut headers = HeaderMap::with_capacity(fields.len());
    let mut cookies: Vec<&[u8]> = Vec::new();
    let mut regular = false;
    for field in fields {
        let (name, value) = (field.name(), field.value());
        check_edges(value)?;
        if name.starts_with(b":") {
            if regular {
                return Err(malformed("a pseudo-header field behind others"));
            }
            check_value(value)?;
            pseudo.set(name, value)?;
            continue;
        }
        regular = true;
        match field_name(name)? {
            header::COOKIE => {
                check_value(value)?;
                cookies.push(value);
            }
            header::TE if !is_te_allowed(value) => return Err(malformed("te may only say trailers")),
            name => {
                // It looks at every byte, so that nobody has to do so before.
                let value = HeaderValue::from_bytes(value).map_err(|_| invalid_value(value))?;
                headers.try_append(name, value).map_err(|_| TOO_LARGE)?;
            }
        }
    }
    // RFC 9114 section 4.2.1: before anybody else sees them.
    if !cookies.is_empty() {
        let value = Bytes::from(cookies.join(&b"; "[..]));
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| malformed("a cookie is invalid"))?;
        headers.insert(header::COOKIE, value);
    }
    Ok((pseudo, headers))
}

fn field_name(name: &[u8]) -> Result<HeaderName, Fault> {
    let parsed = HeaderName::from_lowercase(name).map_err(|_| match name.iter().any(u8::is_ascii_uppercase) {
        true => malformed("a field name has upper case"),
        false => malformed("a field name is invalid"),
    })?;
    if is_of_connection(name) {
        return Err(malformed("a field that is about a connection"));
    }
    Ok(parsed)
}

/// RFC 9114 section 10.3.
fn check_value(value: &[u8]) -> Result<(), Fault> {
    match value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) {
        true => Err(invalid_value(value)),
        false => Ok(()),
    }
}

fn invalid_value(value: &[u8]) -> Fault {
    match value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) {
        true => malformed("a field value has a control character"),
        false => malformed("a field value is invalid"),
    }
}

/// RFC 9110 section 5.5.
fn check_edges(value: &[u8]) -> Result<(), Fault> {
    match value {
        [b' ' | b'\t', ..] | [.., b' ' | b'\t'] => Err(malformed("a field value begins or ends with white space")),
        _ => Ok(()),
    }
}

/// RFC 9114 section 4.4: CONNECT names an authority and nothing else.
fn tunnel_target(pseudo: &Pseudo<'_>) -> Result<Uri, Fault> {
    if pseudo.scheme.is_some() || pseudo.path.is_some() {
        return Err(malformed("CONNECT has no :scheme and no :path"));
    }
    let authority = pseudo.authority.filter(|authority| is_authority(authority));
    let authority = authority.ok_or(malformed("CONNECT needs an :authority"))?;
    let authority = Authority::try_from(authority).map_err(|_| malformed(":authority is invalid"))?;
    match authority.port_u16() {
        Some(_) => Ok(Uri::from(authority)),
        None => Err(malformed("CONNECT needs a port")),
    }
}

/// RFC 9114 section 4.3.1: scheme and path of every other request.
fn target(pseudo: &Pseudo<'_>, method: &Method, limits: &Limits) -> Result<Uri, Fault> {
    match pseudo.scheme.ok_or(malformed(":scheme is missing"))? {
        scheme if scheme.eq_ignore_ascii_case(b"https") || scheme.eq_ignore_ascii_case(b"http") => {}
        _ => return Err(malformed(":scheme is neither https nor http")),
    }
    let path = pseudo.path.ok_or(malformed(":path is missing"))?;
    if path.len() > limits.target_bytes_max.into() {
        return Err(Fault::Answer(414, "the request target is too long"));
    }
    let asterisk = path == b"*" && method == Method::OPTIONS;
    if !asterisk && !path.starts_with(b"/") || !path.iter().all(u8::is_ascii_graphic) {
        return Err(malformed(":path is invalid"));
    }
    let path = PathAndQuery::from_maybe_shared(Bytes::copy_from_slice(path));
    path.map(Uri::from).map_err(|_| malformed(":path is invalid"))
}

/// One of `:authority` and `Host` must be there, and both must say the same (RFC 9114 section 4.3.1).
fn set_host(authority: Option<&[u8]>, headers: &mut HeaderMap) -> Result<(), Fault> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(malformed("host is repeated"));
    }
    match (authority, host) {
        (None, None) => return Err(malformed(":authority and host are missing")),
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host.as_bytes()) => {
            return Err(malformed(":authority and host differ"));
        }
        (None, Some(host)) if is_authority(host.as_bytes()) => return Ok(()),
        (Some(authority), _) if is_authority(authority) => {
            let value = HeaderValue::from_bytes(authority).map_err(|_| malformed(":authority is invalid"))?;
            headers.insert(header::HOST, value);
        }
        _ => return Err(malformed("the host is invalid")),
    }
    Ok(())
}

/// The one content-length, if there is any (RFC 9110 section 8.6).
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Fault> {
    let mut length = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        let digits = value.as_bytes();
        let parsed = match !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) {
            true => str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u64>().ok()),
            false => None,
        };
        let parsed = parsed.ok_or(malformed("content-length is invalid"))?;
        if length.replace(parsed).is_some_and(|before| before != parsed) {
            return Err(malformed("content-length is repeated"));
        }
    }
    Ok(length)
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
