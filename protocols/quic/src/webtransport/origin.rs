//! Which pages may open a session: the rule of the server's WebSockets.

use std::{fmt, sync::Arc};

use http::{Request, header};

/// Decides about origins that are not the request's own host, as an allow-list does. It is shown what a browser sent in
/// `Origin`, and the host that the request is for.
#[derive(Clone)]
pub struct OriginRule(Arc<Allows>);

type Allows = dyn Fn(&str, &str) -> bool + Send + Sync;

impl OriginRule {
    /// A rule by a function of the origin, for example `https://chat.example.com`, and the host, `example.com:8443`.
    pub fn new(allows: impl Fn(&str, &str) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(allows))
    }
}

impl fmt::Debug for OriginRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OriginRule")
    }
}

/// Whether a request comes from a page of its own host, or of an allowed one. Programs send no `Origin`.
pub(super) fn is_allowed(request: &Request<()>, rule: Option<&OriginRule>) -> bool {
    let Some(origin) = request.headers().get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let own = origin.split_once("://").is_some_and(|(scheme, authority)| {
        ["http", "https"].contains(&scheme) && host.is_some_and(|host| host.eq_ignore_ascii_case(authority))
    });
    own || rule.is_some_and(|rule| (rule.0)(origin, host.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_host_and_list() {
        let rule = OriginRule::new(|origin, _| origin == "https://chat.example.com");
        let allowed = |origin: Option<&str>, rule| {
            let mut request = Request::builder().header(header::HOST, "a.example:8443");
            if let Some(origin) = origin {
                request = request.header(header::ORIGIN, origin);
            }
            is_allowed(&request.body(()).expect("valid"), rule)
        };
        for (origin, without, with) in [
            (None, true, true),
            (Some("https://a.example:8443"), true, true),
            (Some("http://A.example:8443"), true, true),
            (Some("https://a.example"), false, false),
            (Some("ftp://a.example:8443"), false, false),
            (Some("https://chat.example.com"), false, true),
            (Some("null"), false, false),
            (Some("a.example:8443"), false, false),
        ] {
            assert_eq!((allowed(origin, None), allowed(origin, Some(&rule))), (without, with), "{origin:?}");
        }
    }
}
