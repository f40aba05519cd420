//! A file that is served as it is: with an entity tag, so that a browser asks again but rarely downloads again.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use sha2::{Digest, Sha256};

/// Bytes of the hash in an entity tag: two versions of a page never meet by accident.
const TAG_BYTES: usize = 12;

/// A static file.
#[derive(Clone, Debug)]
pub struct Asset {
    /// Where it is served.
    pub path: &'static str,
    /// Its media type.
    pub content_type: &'static str,
    /// Its content.
    pub bytes: Bytes,
    /// Its strong entity tag, with the quotes.
    pub etag: HeaderValue,
}

impl Asset {
    /// Hashes the content: once, at the start.
    #[must_use]
    pub fn new(path: &'static str, content_type: &'static str, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let hash = Sha256::digest(&bytes);
        let hex: String = hash[..TAG_BYTES].iter().map(|byte| format!("{byte:02x}")).collect();
        // Hex digits and quotes are always a valid value.
        let etag = HeaderValue::try_from(format!("\"{hex}\"")).unwrap_or(HeaderValue::from_static("\"\""));
        Self { path, content_type, bytes, etag }
    }

    /// 200 or 304 for GET and HEAD, 405 for the rest. The body of a HEAD is left away by the connection.
    #[must_use]
    pub fn respond(&self, request: &Request<Bytes>) -> Response<Bytes> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = Response::new(Bytes::from_static(b"only GET and HEAD\n"));
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let fresh = self.is_held_by(request.headers());
        let mut response = Response::new(if fresh { Bytes::new() } else { self.bytes.clone() });
        let headers = response.headers_mut();
        headers.insert(header::ETAG, self.etag.clone());
        // Stored, but asked for again before use: a new binary must be seen at once.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if fresh {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    /// RFC 9110 13.1.2: the weak comparison, so `W/` does not matter.
    fn is_held_by(&self, headers: &HeaderMap) -> bool {
        headers
            .get_all(header::IF_NONE_MATCH)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            .any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == self.etag.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asset() -> Asset {
        Asset::new("/", "text/html; charset=utf-8", &b"<p>hello"[..])
    }

    fn ask(method: Method, tags: &[&str]) -> Response<Bytes> {
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = method;
        for tag in tags {
            request.headers_mut().append(header::IF_NONE_MATCH, HeaderValue::from_str(tag).unwrap());
        }
        asset().respond(&request)
    }

    #[test]
    fn a_first_visit_gets_the_content_and_its_tag() {
        for method in [Method::GET, Method::HEAD] {
            let response = ask(method, &[]);
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
            assert_eq!(response.headers()["cache-control"], "no-cache");
            assert_eq!(response.headers()["etag"].len(), 2 + 2 * TAG_BYTES);
            assert_eq!(&response.body()[..], b"<p>hello");
        }
    }

    #[test]
    fn a_second_visit_gets_304() {
        let tag = asset().etag.to_str().unwrap().to_owned();
        let listed = format!("\"other\" , W/{tag}");
        for tags in [&[tag.as_str()][..], &[&listed], &["\"other\"", &tag], &["*"]] {
            let response = ask(Method::GET, tags);
            assert_eq!(response.status(), 304, "{tags:?}");
            assert!(response.body().is_empty());
            assert_eq!(response.headers()["etag"], tag.as_str());
        }
        for tags in [&["\"other\""][..], &[tag.trim_matches('"')], &[""]] {
            assert_eq!(ask(Method::GET, tags).status(), 200, "{tags:?}");
        }
    }

    #[test]
    fn other_content_has_another_tag_and_other_methods_are_refused() {
        assert_ne!(asset().etag, Asset::new("/", "text/html", &b"<p>hellp"[..]).etag);
        let response = ask(Method::POST, &[]);
        assert_eq!(
            (response.status().as_u16(), &response.headers()["allow"]),
            (405, &HeaderValue::from_static("GET, HEAD"))
        );
    }
}
