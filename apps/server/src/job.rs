//! What a shard asks of the housekeeping thread, and the HTTP answer that becomes of it.

use bytes::Bytes;
use handler::Code;
use http::{Response, StatusCode};
use ringshard_http::RequestId;

use crate::{
    housekeeping::{Done, Job, Refusal},
    line::Line,
    routes::{self, Problem},
};

/// A job and where its answer goes.
#[derive(Debug)]
pub struct Asked {
    /// The connection that waits.
    pub line: Line,
    /// Its request.
    pub request: RequestId,
    /// What to do.
    pub job: Job,
}

/// How a job ended.
pub type Answer = Result<Done, Refusal>;

/// The answer of a job that was refused, without the common headers.
#[must_use]
pub fn refused(refusal: Refusal) -> Response<Bytes> {
    let problem = Problem::new(status(refusal.code), refusal.code.name(), refusal.message);
    match refusal.retry_ms {
        Some(ms) => problem.retry_after(ms.div_ceil(1000)).response(),
        None => problem.response(),
    }
}

/// The answer of a job that gave somebody a token, and perhaps one to renew it with.
#[must_use]
pub fn welcomed(user: &str, token: (&str, u64), refresh: Option<(&str, u64)>) -> Response<Bytes> {
    let mut body = serde_json::json!({ "token": token.0, "user": user, "expires_at": token.1 });
    if let Some((token, expires_at)) = refresh {
        body["refresh_token"] = token.into();
        body["refresh_expires_at"] = expires_at.into();
    }
    routes::json(StatusCode::OK, &body)
}

/// The answer to somebody who has logged out.
#[must_use]
pub fn dismissed() -> Response<Bytes> {
    routes::json(StatusCode::OK, &serde_json::json!({}))
}

/// The HTTP status of a code, as gRPC's HTTP mapping has it.
fn status(code: Code) -> StatusCode {
    match code {
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
    }
}
