//! One HTTP/2 request: what h2 does not check about it, its body as it arrives, and its answer.

use std::{
    task::{Context, Poll},
    time::Instant,
};

use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream, server::SendResponse};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header, uri::PathAndQuery};

use crate::{
    host,
    http1::{head, pipeline},
    limit::{HEADERS_MAX, Limits},
    rule::Rule,
};

/// A request whose body is on its way.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) request: Request<()>,
    pub(crate) since: Instant,
    body: BytesMut,
    stream: RecvStream,
    data_done: bool,
}

/// The answering side of a request.
#[derive(Debug)]
pub(crate) struct Outgoing {
    head_only: bool,
    stream: SendResponse<Bytes>,
}

/// What a read of a body came to.
pub(crate) enum Progress {
    /// More must come; so many bytes were taken in.
    More(usize),
    /// The body is whole.
    Whole,
    /// The peer took the request back, or broke its stream.
    Gone,
}

impl Incoming {
    pub(crate) fn new(request: Request<()>, stream: RecvStream, now: Instant) -> Self {
        Self { request, since: now, body: BytesMut::new(), data_done: stream.is_end_stream(), stream }
    }

    pub(crate) fn body_len(&self) -> usize {
        self.body.len()
    }

    /// Takes in what has arrived, and opens the window again by as much.
    pub(crate) fn read(&mut self, cx: &mut Context<'_>, limits: &Limits) -> Result<Progress, Rule> {
        let mut taken = 0;
        while !self.data_done {
            match self.stream.poll_data(cx) {
                Poll::Pending => return Ok(Progress::More(taken)),
                Poll::Ready(None) => self.data_done = true,
                Poll::Ready(Some(Err(_))) => return Ok(Progress::Gone),
                Poll::Ready(Some(Ok(data))) => {
                    if self.body.len() + data.len() > limits.body_max as usize {
                        return Err(Rule::BodyTooLarge);
                    }
                    self.body.extend_from_slice(&data);
                    taken += data.len();
                    // An error says that the stream is gone: the next poll says it too.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                }
            }
        }
        if self.stream.is_end_stream() {
            return Ok(Progress::Whole);
        }
        Ok(match self.stream.poll_trailers(cx) {
            Poll::Pending => Progress::More(taken),
            Poll::Ready(Ok(_)) => Progress::Whole,
            Poll::Ready(Err(_)) => Progress::Gone,
        })
    }

    pub(crate) fn into_request(self) -> Request<Bytes> {
        self.request.map(|()| self.body.freeze())
    }
}

impl Outgoing {
    pub(crate) fn new(method: &Method, stream: SendResponse<Bytes>) -> Self {
        Self { head_only: method == Method::HEAD, stream }
    }

    /// Tells a client that waits for it to send its body.
    pub(crate) fn send_continue(&mut self) {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::CONTINUE;
        // An error says that the stream is gone, which reading it says too.
        let _ = self.stream.send_informational(response);
    }

    /// Hands the whole answer to h2, which sends it as the peer's windows open, by reference. `false`: the peer has
    /// taken its request back.
    pub(crate) fn send(mut self, response: Response<Bytes>) -> bool {
        let (mut parts, body) = response.into_parts();
        if parts.status.is_informational() {
            parts.status = StatusCode::INTERNAL_SERVER_ERROR;
        }
        let own: Vec<_> = parts.headers.keys().filter(|name| pipeline::is_own(name)).cloned().collect();
        for name in own {
            parts.headers.remove(name);
        }
        let has_body = !matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if has_body {
            parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        let ends = !has_body || self.head_only || body.is_empty();
        match self.stream.send_response(Response::from_parts(parts, ()), ends) {
            Ok(_) if ends => true,
            Ok(mut stream) => stream.send_data(body, true).is_ok(),
            Err(_) => false,
        }
    }

    /// Takes the stream down.
    pub(crate) fn reset(mut self, reason: Reason) {
        self.stream.send_reset(reason);
    }
}

/// The rules of HTTP/1.1 for what both versions have; on success the URI is the path and `Host` is set. Says whether
/// the client waits for 100.
pub(crate) fn check(request: &mut Request<()>, limits: &Limits) -> Result<bool, Rule> {
    if request.method() == Method::CONNECT {
        return Err(Rule::Tunnel);
    }
    if request.headers().len() > HEADERS_MAX {
        return Err(Rule::TooManyHeaders);
    }
    // RFC 9113 8.2.1 forbids what HTTP/1.1 would have trimmed.
    let padded = |value: &HeaderValue| value.as_bytes().trim_ascii().len() < value.len();
    if request.headers().values().any(padded) {
        return Err(Rule::HeaderValue);
    }
    check_authority(request)?;
    let path = request.uri().path_and_query().cloned().ok_or(Rule::Target)?;
    check_path(&path, request.method(), limits)?;
    *request.uri_mut() = Uri::from(path);
    if head::content_length(request.headers())?.is_some_and(|length| length > u64::from(limits.body_max)) {
        return Err(Rule::BodyTooLarge);
    }
    head::expects_continue(request.headers(), Version::HTTP_2)
}

/// RFC 9113 8.3.1: `:authority` stands for `Host`, and both must not differ.
fn check_authority(request: &mut Request<()>) -> Result<(), Rule> {
    if request.uri().scheme_str().is_some_and(|scheme| scheme != "http" && scheme != "https") {
        return Err(Rule::Target);
    }
    let Some(authority) = request.uri().authority().cloned() else {
        return head::the_host(request.headers()).map(|_| ());
    };
    let authority = authority.as_str();
    if !host::is_valid(authority.as_bytes()) {
        return Err(Rule::HostInvalid);
    }
    if request.headers().contains_key(header::HOST) {
        let same = head::the_host(request.headers())?.eq_ignore_ascii_case(authority.as_bytes());
        return if same { Ok(()) } else { Err(Rule::HostMismatch) };
    }
    let host = HeaderValue::from_str(authority).map_err(|_| Rule::HostInvalid)?;
    request.headers_mut().insert(header::HOST, host);
    Ok(())
}

fn check_path(path: &PathAndQuery, method: &Method, limits: &Limits) -> Result<(), Rule> {
    let path = path.as_str();
    if path.len() > limits.target_max as usize {
        return Err(Rule::TargetTooLong);
    }
    let asterisk = path == "*" && method == Method::OPTIONS;
    if !asterisk && !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Rule::Target);
    }
    Ok(())
}
