//! One request head, from bytes to something that cannot be read in two ways.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version,
    header::{self, AsHeaderName},
    uri::PathAndQuery,
};

use crate::{
    host,
    http1::{body::Body, upgrade},
    limit::{HEADERS_MAX, Limits},
    rule::Rule,
};

/// A head that passed every rule.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) request: Request<()>,
    pub(crate) body: Body,
    /// No further request is read after this one.
    pub(crate) close: bool,
    /// The client waits for 100 before it sends the body.
    pub(crate) expects_continue: bool,
    /// A WebSocket upgrade.
    pub(crate) upgrade: bool,
}

/// Reads a whole head; `head` ends with its empty line and all its lines end with CRLF.
pub(crate) fn parse(head: &Bytes, limits: &Limits) -> Result<Head, Rule> {
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut raw = httparse::Request::new(&mut fields);
    match raw.parse(head) {
        Ok(httparse::Status::Complete(len)) if len == head.len() => {}
        Ok(_) => return Err(Rule::RequestLine),
        Err(error) => return Err(rule_of(error, head)),
    }
    let (Some(method), Some(target), Some(version)) = (raw.method, raw.path, raw.version) else {
        return Err(Rule::RequestLine);
    };
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| Rule::RequestLine)?;
    let version = if version == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    if target.len() > limits.target_max as usize {
        return Err(Rule::TargetTooLong);
    }
    let headers = header_map(head, raw.headers)?;
    let uri = parse_target(&method, head.slice_ref(target.as_bytes()), the_host(&headers)?)?;
    let body = parse_framing(&headers, version, limits)?;
    let expects_continue = expects_continue(&headers, version)? && !body.is_done();
    let close = match version {
        Version::HTTP_10 => !has_token(&headers, header::CONNECTION, "keep-alive"),
        _ => false,
    } || has_token(&headers, header::CONNECTION, "close");
    let upgrade = upgrade::check(&method, version, &headers, &body)?;
    let mut request = Request::new(());
    (*request.method_mut(), *request.uri_mut(), *request.version_mut()) = (method, uri, version);
    *request.headers_mut() = headers;
    Ok(Head { request, body, close, expects_continue, upgrade })
}

/// Whether a list header holds `token`, in any case.
pub(crate) fn has_token(headers: &HeaderMap, name: impl AsHeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|part| part.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// Whether this byte may stand in a method or a field name.
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether the client waits for 100; any other expectation is refused. HTTP/1.0 has no 100, so it is ignored there.
pub(crate) fn expects_continue(headers: &HeaderMap, version: Version) -> Result<bool, Rule> {
    if version == Version::HTTP_10 {
        return Ok(false);
    }
    let mut expected = false;
    for value in headers.get_all(header::EXPECT) {
        if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") {
            return Err(Rule::Expectation);
        }
        expected = true;
    }
    Ok(expected)
}

/// The one value of `Content-Length`, if there is any.
pub(crate) fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Rule> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() || value.as_bytes().contains(&b',') {
        return Err(Rule::LengthRepeated);
    }
    let digits = value.as_bytes();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Rule::LengthInvalid);
    }
    let length = str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    length.map(Some).ok_or(Rule::LengthInvalid)
}

/// The one value of `Host`, valid.
pub(crate) fn the_host(headers: &HeaderMap) -> Result<&[u8], Rule> {
    let mut values = headers.get_all(header::HOST).iter();
    let host = values.next().ok_or(Rule::HostMissing)?.as_bytes();
    if values.next().is_some() {
        return Err(Rule::HostRepeated);
    }
    if host::is_valid(host) { Ok(host) } else { Err(Rule::HostInvalid) }
}

fn header_map(head: &Bytes, fields: &[httparse::Header<'_>]) -> Result<HeaderMap, Rule> {
    let mut headers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Rule::HeaderName)?;
        // An empty value lies anywhere: only a part of `head` may be sliced from it.
        let value = if field.value.is_empty() { Bytes::new() } else { head.slice_ref(field.value) };
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| Rule::HeaderValue)?;
        headers.try_append(name, value).map_err(|_| Rule::TooManyHeaders)?;
    }
    Ok(headers)
}

fn parse_framing(headers: &HeaderMap, version: Version, limits: &Limits) -> Result<Body, Rule> {
    let length = content_length(headers)?;
    let mut encodings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(encoding) = encodings.next() {
        if length.is_some() {
            return Err(Rule::LengthWithEncoding);
        }
        if version == Version::HTTP_10 {
            return Err(Rule::EncodingTooOld);
        }
        if encodings.next().is_some() || !encoding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(Rule::EncodingUnknown);
        }
        return Ok(Body::chunked());
    }
    match length {
        Some(length) if length > u64::from(limits.body_max) => Err(Rule::BodyTooLarge),
        Some(length) => Ok(Body::of_length(usize::try_from(length).map_err(|_| Rule::BodyTooLarge)?)),
        None => Ok(Body::of_length(0)),
    }
}

/// Origin, absolute, authority and asterisk form; what is left is the path and query.
fn parse_target(method: &Method, target: Bytes, host: &[u8]) -> Result<Uri, Rule> {
    if !target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
        return Err(Rule::Target);
    }
    if method == Method::CONNECT {
        return if host::is_valid(&target) { Err(Rule::Tunnel) } else { Err(Rule::Target) };
    }
    let path = match target.first() {
        Some(b'/') => target,
        Some(b'*') if target.len() == 1 && method == Method::OPTIONS => target,
        _ => absolute_path(&target, host)?,
    };
    let path = PathAndQuery::from_maybe_shared(path).map_err(|_| Rule::Target)?;
    Ok(Uri::from(path))
}

fn absolute_path(target: &Bytes, host: &[u8]) -> Result<Bytes, Rule> {
    let start = [&b"http://"[..], b"https://"]
        .iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
        .ok_or(Rule::Target)?
        .len();
    let end = target[start..].iter().position(|byte| matches!(byte, b'/' | b'?')).map_or(target.len(), |at| start + at);
    authority_matches(&target[start..end], host)?;
    match target.get(end) {
        None => Ok(Bytes::from_static(b"/")),
        Some(b'/') => Ok(target.slice(end..)),
        Some(_) => Ok(Bytes::from([b"/", &target[end..]].concat())),
    }
}

fn authority_matches(authority: &[u8], host: &[u8]) -> Result<(), Rule> {
    if !host::is_valid(authority) {
        return Err(Rule::Target);
    }
    if authority.eq_ignore_ascii_case(host) { Ok(()) } else { Err(Rule::HostMismatch) }
}

fn rule_of(error: httparse::Error, head: &[u8]) -> Rule {
    use httparse::Error;
    match error {
        Error::HeaderName => Rule::HeaderName,
        Error::HeaderValue => Rule::HeaderValue,
        Error::TooManyHeaders => Rule::TooManyHeaders,
        Error::Version if names_other_version(head) => Rule::Version,
        Error::Version | Error::NewLine | Error::Status | Error::Token => Rule::RequestLine,
    }
}

/// Whether the request line ends in `HTTP/` digit `.` digit: well formed, but not ours.
fn names_other_version(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(_), Some(_), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    matches!(version, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit())
}
