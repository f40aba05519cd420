//! Which answer an HTTP request gets: a page, a document, a job for the control thread, or an error.
//!
//! | `POST /api/v1/..` | body | answer |
//! |---|---|---|
//! | `register`, `login` | `{name, password}` | `{token, user, expires_at, refresh_token, refresh_expires_at}` |
//! | `refresh` | `{refresh_token}` | the same; the old refresh token is used up (see below) |
//! | `logout` | `{refresh_token, all?}` | `{}`; this device or all, whose sessions end with 4401 on a WebSocket, 5 elsewhere |
//! | `guest` | `{name}` | `{token, user, expires_at}` |
//!
//! A refresh token that is shown again gets the same next one, with a fresh access token, for 60 s and as long as that next
//! one was not used: the first answer may have been lost. After that, and if it is an even older one, it ends the login.
//!
//! Times are in seconds since 1970. Errors are `{code, message}`: 400 `invalid_argument`, 401 `unauthenticated` (log in
//! again), 409 `already_exists`, 429 `resource_exhausted` with `Retry-After`, 503 `unavailable`.

use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use serde::Deserialize;
use session::Keys;

use crate::{
    config::Origins,
    housekeeping::{Credentials, Job},
    pages,
};

/// What the routes need to know of the server.
pub(crate) struct Context<'a> {
    /// The `Date` header of this second.
    pub(crate) date: &'a HeaderValue,
    /// SHA-256 of the certificate in hex, if there is a secure listener.
    pub(crate) cert_hash: &'a dyn Fn() -> Option<String>,
    /// Origins that are allowed beside the request's own host.
    pub(crate) origins: &'a Origins,
    /// What checks refresh tokens.
    pub(crate) keys: &'a Keys,
    /// The client's address.
    pub(crate) address: IpAddr,
    /// What pages may load and connect to.
    pub(crate) policy: &'a HeaderValue,
    /// It is asked over HTTP/3.
    pub(crate) is_on_http3: bool,
    /// Where HTTP/3 is spoken, for those who do not use it yet. Pages read it, too: there is WebTransport.
    pub(crate) alt_svc: Option<&'a HeaderValue>,
    /// Makes the document of `/api/v1/shards`.
    pub(crate) shards: &'a dyn Fn() -> String,
}

/// What becomes of a request.
pub(crate) enum Routed {
    /// It has its answer.
    Respond(Response<Bytes>),
    /// A page of an origin that is not allowed sent it; this is its answer.
    Foreign(Response<Bytes>),
    /// The control thread answers.
    Job(Job),
}

/// Finds the answer to `request`.
#[must_use]
pub(crate) fn route(context: &Context<'_>, request: &Request<Bytes>) -> Routed {
    let path = request.uri().path();
    let mut response = if let Some(call) = path.strip_prefix("/api/v1/") {
        match api(context, request, call) {
            Ok(Routed::Job(job)) => return Routed::Job(job),
            Ok(Routed::Foreign(mut response)) => {
                finish(context, response.headers_mut());
                return Routed::Foreign(response);
            }
            Ok(Routed::Respond(response)) => response,
            Err(problem) => problem.response(),
        }
    } else {
        document(context, request, path).unwrap_or_else(Problem::response)
    };
    finish(context, response.headers_mut());
    Routed::Respond(response)
}

/// The path of a request whose answer is the same for everybody until the certificate or the second changes.
pub(crate) fn same_for_all(request: &Request<Bytes>) -> Option<&'static str> {
    if !may_be_same_for_all(request) {
        return None;
    }
    match request.uri().path() {
        CERT_HASH => Some(CERT_HASH),
        path => pages::find(path).map(|page| page.path),
    }
}

/// Whether nothing but the path of a request decides what its answer is.
pub(crate) fn may_be_same_for_all(request: &Request<Bytes>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD) && !request.headers().contains_key(header::IF_NONE_MATCH)
}

/// Where the hash of the certificate is.
const CERT_HASH: &str = "/cert-hash";

/// The headers that every answer carries. Over HTTP/3 those of [`common`] are added when it is sent.
pub(crate) fn finish(context: &Context<'_>, headers: &mut HeaderMap) {
    if !context.is_on_http3 {
        let content = Content::of(headers);
        common(context, content, headers);
        if let Some(alt_svc) = context.alt_svc {
            headers.insert(header::ALT_SVC, alt_svc.clone());
        }
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// What an answer is to a browser.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Content {
    /// It may be shown as a page, or run in one.
    Page,
    /// JSON, which loads nothing and links to nothing.
    Data,
}

impl Content {
    /// By the headers of an answer.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        match headers.get(header::CONTENT_TYPE) {
            Some(kind) if kind == JSON => Self::Data,
            _ => Self::Page,
        }
    }
}

/// The media type of all that is no page.
const JSON: &str = "application/json";

/// The headers that are the same in all answers of a second. Data is neither guessed to be something else nor framed; what
/// it may load and tell is said of pages alone.
pub(crate) fn common(context: &Context<'_>, content: Content, headers: &mut HeaderMap) {
    headers.insert(header::DATE, context.date.clone());
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // In small letters it is in the static table of QPACK.
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("deny"));
    if content == Content::Page {
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(header::CONTENT_SECURITY_POLICY, context.policy.clone());
    }
}

/// Whether a request of a browser comes from a page of this host or an allowed one. Programs send no `Origin`.
#[must_use]
pub(crate) fn origin_allowed(headers: &HeaderMap, host: Option<&str>, allowed: &Origins) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    let own = origin.split_once("://").is_some_and(|(scheme, authority)| {
        ["http", "https"].contains(&scheme) && host.is_some_and(|host| host.eq_ignore_ascii_case(authority))
    });
    own || allowed.allow(origin)
}

/// The host that a request is for: `:authority` or `Host`.
#[must_use]
pub(crate) fn host(request: &Request<Bytes>) -> Option<&str> {
    let header = || request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    request.uri().authority().map(http::uri::Authority::as_str).or_else(header)
}

/// An error as HTTP says it: the status and a JSON body with gRPC's name of the code.
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    message: String,
    allow: Option<&'static str>,
    retry_secs: Option<u32>,
}

impl Problem {
    /// A problem with a message for the developer at the other end.
    #[must_use]
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), allow: None, retry_secs: None }
    }

    /// Says when trying again makes sense.
    #[must_use]
    pub(crate) fn retry_after(mut self, secs: u32) -> Self {
        self.retry_secs = Some(secs);
        self
    }

    /// As an answer.
    #[must_use]
    pub(crate) fn response(self) -> Response<Bytes> {
        let body = serde_json::json!({ "code": self.code, "message": self.message });
        let mut response = json(self.status, &body);
        if let Some(allow) = self.allow {
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(secs) = self.retry_secs {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(secs));
        }
        response
    }
}

/// A JSON answer.
#[must_use]
pub(crate) fn json(status: StatusCode, body: &serde_json::Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(format!("{body}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

fn document(context: &Context<'_>, request: &Request<Bytes>, path: &str) -> Result<Response<Bytes>, Problem> {
    let reads = [Method::GET, Method::HEAD].contains(request.method());
    if let Some(page) = pages::find(path) {
        if !reads {
            return Err(not_allowed("GET, HEAD"));
        }
        return Ok(page.respond(request));
    }
    let nothing = || Problem::new(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path");
    match path {
        CERT_HASH if !reads => Err(not_allowed("GET, HEAD")),
        CERT_HASH => {
            let hash = (context.cert_hash)().ok_or_else(nothing)?;
            Ok(json(StatusCode::OK, &serde_json::json!({ "sha256": hash })))
        }
        "/wt" | "/wt/echo" => {
            let message = "this is a WebTransport endpoint: open a session over HTTP/3";
            Err(Problem::new(StatusCode::UPGRADE_REQUIRED, "failed_precondition", message))
        }
        "/ws" => {
            let message =
                "this is a WebSocket endpoint: send an upgrade request (subprotocol ringshard.json or ringshard.proto)";
            Err(Problem::new(StatusCode::UPGRADE_REQUIRED, "failed_precondition", message))
        }
        "/ws/gochat" | "/ws/hawos" => {
            let message = "this is a WebSocket endpoint: send an upgrade request";
            Err(Problem::new(StatusCode::UPGRADE_REQUIRED, "failed_precondition", message))
        }
        _ => Err(nothing()),
    }
}

fn api(context: &Context<'_>, request: &Request<Bytes>, call: &str) -> Result<Routed, Problem> {
    let post = request.method() == Method::POST;
    match call {
        "shards" if request.method() != Method::GET && request.method() != Method::HEAD => {
            Err(not_allowed("GET, HEAD"))
        }
        "shards" => {
            let mut response = Response::new(Bytes::from((context.shards)()));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
            Ok(Routed::Respond(response))
        }
        "guest" | "register" | "login" | "refresh" | "logout" if !post => Err(not_allowed("POST")),
        "guest" | "register" | "login" | "refresh" | "logout" => {
            if !origin_allowed(request.headers(), host(request), context.origins) {
                let message = "this origin is not allowed; add it to listen.origins";
                let problem = Problem::new(StatusCode::FORBIDDEN, "permission_denied", message);
                return Ok(Routed::Foreign(problem.response()));
            }
            job(context, request, call).map(Routed::Job)
        }
        _ => Err(Problem::new(StatusCode::NOT_FOUND, "not_found", "there is no such call")),
    }
}

fn job(context: &Context<'_>, request: &Request<Bytes>, call: &str) -> Result<Job, Problem> {
    let invalid = |message: String| Problem::new(StatusCode::BAD_REQUEST, "invalid_argument", message);
    let json = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    // A form of a foreign page can post text/plain without asking; application/json it cannot.
    if json.is_some_and(|kind| !kind.to_ascii_lowercase().starts_with("application/json")) {
        let message = "the body must be application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_argument", message));
    }
    if call == "guest" {
        let Guest { name } = serde_json::from_slice(request.body()).map_err(|error| invalid(error.to_string()))?;
        return Ok(Job::Guest { name, address: context.address });
    }
    if call == "refresh" || call == "logout" {
        let Login { refresh_token, all } =
            serde_json::from_slice(request.body()).map_err(|error| invalid(error.to_string()))?;
        if all.is_some() && call == "refresh" {
            return Err(invalid("`all` is for logging out".to_owned()));
        }
        let refresh = context.keys.verify_refresh(&refresh_token);
        let refresh =
            refresh.map_err(|error| Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated", error.to_string()))?;
        let address = context.address;
        return Ok(match call {
            "refresh" => Job::Refresh { refresh, address },
            _ => Job::Logout { refresh, all: all.unwrap_or(false), address },
        });
    }
    let Account { name, password } =
        serde_json::from_slice(request.body()).map_err(|error| invalid(error.to_string()))?;
    if password.len() > PASSWORD_BYTES_MAX || name.len() > PASSWORD_BYTES_MAX {
        return Err(invalid("the name or the password is too long".to_owned()));
    }
    let credentials = Credentials { name, password, address: context.address };
    Ok(if call == "register" { Job::Register(credentials) } else { Job::Login(credentials) })
}

fn not_allowed(allow: &'static str) -> Problem {
    let mut problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "unimplemented", format!("only {allow} here"));
    problem.allow = Some(allow);
    problem
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Guest {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Account {
    name: String,
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    refresh_token: String,
    all: Option<bool>,
}

/// Longer ones are refused before they wait for the housekeeping thread.
const PASSWORD_BYTES_MAX: usize = 256;

/// What pages may load and connect to; on `port` there is WebTransport, which from a page of the plain listener is not
/// `'self'`.
#[must_use]
pub(crate) fn policy(port: Option<u16>) -> HeaderValue {
    let web_transport = port.map_or_else(String::new, |port| format!(" https://*:{port}"));
    // A message may name a picture anywhere; the page fetches one when its reader asks for it.
    // `connect-src 'self'` covers WebSocket of the same host in current browsers, but Safari before 15.4 wants the scheme.
    let policy = format!(
        "default-src 'self'; img-src 'self' https:; connect-src 'self' ws: wss:{web_transport}; frame-ancestors 'none'; \
         base-uri 'none'; form-action 'self'"
    );
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'self'"))
}
