//! What a shard asks of the housekeeping thread, and the HTTP answer that becomes of it.

use bytes::Bytes;
use handler::Code;
use http::{Response, StatusCode};
use ringshard_http::RequestId;

use crate::{
    housekeeping::{Identity, Job, Refusal},
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
pub type Answer = Result<Identity, Refusal>;

/// The answer of a job that was refused, without the common headers.
#[must_use]
pub fn refused(refusal: Refusal) -> Response<Bytes> {
    let problem = Problem::new(status(refusal.code), refusal.code.name(), refusal.message);
    match refusal.retry_ms {
        Some(ms) => problem.retry_after(ms.div_ceil(1000)).response(),
        None => problem.response(),
    }
}

/// The answer of a job that gave somebody a token.
#[must_use]
pub fn welcomed(user: &str, token: &str, expires_at: u64) -> Response<Bytes> {
    let body = serde_json::json!({ "token": token, "user": user, "expires_at": expires_at });
    routes::json(StatusCode::OK, &body)
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
