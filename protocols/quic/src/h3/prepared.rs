//! Requests and answers, coded: made once where many are the same.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use smallvec::SmallVec;

use super::{
    frame::{self, kind},
    message,
    qpack::{self, Common, Field},
};

/// A body up to this size is copied behind its head, so that a small answer leaves as one piece.
const COPY_MAX: usize = 2 * 1024;

/// Type and length in front of a body.
const DATA_HEAD_MAX: usize = 9;

/// Digits of the longest `content-length`.
const DIGITS_MAX: usize = 20;

/// Fields of an answer that need no memory of their own while it is coded.
const FIELDS: usize = 12;

/// A head and the whole body, as they are sent. A clone shares both.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The HEADERS frame, and behind it the head of the body and the body itself, if it is small.
    front: Bytes,
    /// Bytes of the HEADERS frame alone.
    head_len: usize,
    /// A body that is not in `front`.
    rest: Option<Bytes>,
    /// As RFC 9114 section 4.2.2 counts it.
    size: u64,
    status: StatusCode,
}

impl Prepared {
    /// Codes an answer and, behind its own fields, those of `common`. `content-length` is set, and the body left away
    /// where there is none (204, 304). Fields about an HTTP/1.1 connection are left away.
    #[must_use]
    pub fn new(response: Response<Bytes>, common: &Common) -> Self {
        let (parts, body) = response.into_parts();
        let has_body = !matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let mut digits = [0; DIGITS_MAX];
        let mut fields: SmallVec<[Field<'_>; FIELDS]> = SmallVec::new();
        fields.push((b":status", parts.status.as_str().as_bytes()));
        fields.extend(message::fields(&parts.headers));
        if has_body {
            let length = header::CONTENT_LENGTH;
            fields.retain(|(name, _)| *name != length.as_str().as_bytes());
            fields.push((b"content-length", decimal(body.len() as u64, &mut digits)));
        }
        let body = Some(body).filter(|body| has_body && !body.is_empty());
        let (copied, rest) = match body {
            Some(body) if body.len() > COPY_MAX => (None, Some(body)),
            body => (body, None),
        };
        let more = DATA_HEAD_MAX + copied.as_ref().map_or(0, Bytes::len);
        let mut front = qpack::headers_frame(&fields, common, more);
        let head_len = front.len();
        if let Some(body) = copied.as_ref().or(rest.as_ref()) {
            frame::write_head(&mut front, kind::DATA, body.len() as u64);
        }
        front.extend_from_slice(&copied.unwrap_or_default());
        Self {
            front: front.freeze(),
            head_len,
            rest,
            size: qpack::section_size(&fields) + common.size(),
            status: parts.status,
        }
    }

    /// The size of the head as RFC 9114 section 4.2.2 counts it.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Its status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Whether it is more than a word before the answer.
    pub(crate) fn is_final(&self) -> bool {
        !self.status.is_informational()
    }

    /// What is sent: one or two pieces, or the head alone.
    pub(crate) fn pieces(&self, head_alone: bool) -> (Bytes, Option<Bytes>) {
        match head_alone {
            true => (self.front.slice(..self.head_len), None),
            false => (self.front.clone(), self.rest.clone()),
        }
    }
}

/// A request's head, as it is sent. A clone shares it.
#[derive(Clone, Debug)]
pub struct PreparedRequest {
    pub(crate) frame: Bytes,
    /// As RFC 9114 section 4.2.2 counts it.
    pub(crate) size: u64,
    pub(crate) is_head: bool,
    pub(crate) is_connect: bool,
}

impl PreparedRequest {
    /// Codes a request. The URI has scheme and authority, or `Host` is there; for CONNECT it is an authority.
    #[must_use]
    pub fn new(request: &Request<()>) -> Self {
        Self::with_protocol(request, None)
    }

    /// The same of Extended CONNECT (RFC 9220).
    pub(crate) fn with_protocol(request: &Request<()>, protocol: Option<&str>) -> Self {
        let authority = authority(request);
        let fields = request_fields(request, &authority, protocol);
        let frame = qpack::headers_frame(&fields, &Common::default(), 0).freeze();
        let (is_head, is_connect) = (request.method() == Method::HEAD, request.method() == Method::CONNECT);
        Self { frame, size: qpack::section_size(&fields), is_head, is_connect }
    }
}

/// Where a request goes: the authority of its URI, or `Host`.
fn authority(request: &Request<()>) -> Bytes {
    let host = || request.headers().get(header::HOST).map(|host| Bytes::copy_from_slice(host.as_bytes()));
    let authority = request.uri().authority().map(|authority| Bytes::copy_from_slice(authority.as_str().as_bytes()));
    authority.or_else(host).unwrap_or_default()
}

fn request_fields<'a>(request: &'a Request<()>, authority: &'a Bytes, protocol: Option<&'a str>) -> Vec<Field<'a>> {
    let mut fields: Vec<Field<'a>> = Vec::with_capacity(5 + request.headers().len());
    fields.push((b":method", request.method().as_str().as_bytes()));
    if request.method() != Method::CONNECT || protocol.is_some() {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        fields.push((b":scheme", request.uri().scheme_str().unwrap_or("https").as_bytes()));
        fields.push((b":path", path.as_bytes()));
    }
    if !authority.is_empty() {
        fields.push((b":authority", authority));
    }
    if let Some(protocol) = protocol {
        fields.push((b":protocol", protocol.as_bytes()));
    }
    fields.extend(message::fields(request.headers()));
    fields.retain(|(name, _)| *name != b"host");
    fields
}

/// A number in decimal digits, at the end of `digits`.
fn decimal(mut number: u64, digits: &mut [u8; DIGITS_MAX]) -> &[u8] {
    let mut from = DIGITS_MAX;
    loop {
        from -= 1;
        digits[from] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[from..];
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use quiche::h3::NameValue;

    use super::*;
    use crate::h3::{Limits, varint};

    fn respond(status: u16, body: &[u8]) -> Response<Bytes> {
        let mut response = Response::new(Bytes::copy_from_slice(body));
        *response.status_mut() = StatusCode::from_u16(status).expect("valid");
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("77"));
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        response
    }

    /// What a HEADERS frame says.
    fn fields(head: &[u8]) -> Vec<(String, String)> {
        let (len, width) = varint::read(&head[1..]).expect("a length");
        let section = &head[1 + width..];
        assert_eq!((head[0], section.len()), (kind::HEADERS as u8, len as usize));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        let fields = crate::h3::qpack::decode(section, &Limits::default()).expect("it is valid");
        fields.iter().map(|field| (text(field.name()), text(field.value()))).collect()
    }

    #[test]
    fn a_small_body_is_in_one_piece_with_its_head() {
        let prepared = Prepared::new(respond(200, b"hello"), &Common::default());
        let (whole, rest) = prepared.pieces(false);
        let (head, _) = prepared.pieces(true);
        assert_eq!((whole.strip_prefix(&head[..]), rest), (Some(&b"\x00\x05hello"[..]), None));
        let expected = [(":status", "200"), ("content-length", "5")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(fields(&head), expected, "one length, and nothing about an HTTP/1.1 connection");
        assert_eq!(prepared.size(), 7 + 3 + 32 + 14 + 1 + 32);
    }

    #[test]
    fn a_large_body_is_shared() {
        let body = Bytes::from(vec![7; COPY_MAX + 1]);
        let prepared = Prepared::new(Response::new(body.clone()), &Common::default());
        let (front, rest) = prepared.pieces(false);
        assert_eq!(rest.expect("a piece of its own").as_ptr(), body.as_ptr());
        assert_eq!(&front[prepared.head_len..], b"\x00\x48\x01");
    }

    #[test]
    fn where_there_is_no_body_none_is_announced() {
        for status in [204, 304] {
            let prepared = Prepared::new(respond(status, b"never"), &Common::default());
            let (head, rest) = prepared.pieces(false);
            assert_eq!((head.len(), rest), (prepared.head_len, None));
            assert_eq!(fields(&head).last().expect("its own field stays").1, "77");
        }
        let (head, rest) = Prepared::new(respond(200, b""), &Common::default()).pieces(false);
        assert_eq!((fields(&head).last().expect("a length").1.as_str(), rest), ("0", None));
    }

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 1, 9, 10, 101, u64::MAX] {
            assert_eq!(decimal(number, &mut [0; DIGITS_MAX]), number.to_string().as_bytes());
        }
    }
}
