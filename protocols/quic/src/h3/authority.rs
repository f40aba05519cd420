//! What may stand in `:authority` and `host`: a host, and perhaps a port (RFC 9110 section 7.2, without user names).

use std::net::Ipv6Addr;

/// A DNS name is at most this long.
const NAME_MAX: usize = 255;

/// Whether this is `name`, `name:port`, `1.2.3.4`, `[::1]` or `[::1]:port`. Stricter than RFC 3986, which also has user
/// information (forbidden by RFC 9114 section 4.3.1), percent-encoding and an empty host.
pub(crate) fn is_authority(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, rest)) = rest.split_once(']') else { return false };
        return address.parse::<Ipv6Addr>().is_ok() && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port));
    }
    match text.split_once(':') {
        Some((name, port)) => is_name(name) && is_port(port),
        None => is_name(text),
    }
}

fn is_name(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::is_authority;

    #[test]
    fn authorities() {
        for good in ["a", "example.com", "EXAMPLE.com:80", "127.0.0.1:8080", "[::1]", "[::1]:443", "my_box", "a."] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            "", ":80", "a:", "a:b", "a:65536", "a:+1", "a b", "a/b", "user@a", "a?b", "a#b", "a,b", "a:1:2", "::1",
            "[::1", "[a]", "[::1]x", "[::1]:", "a%20", "a\tb", "<a>", "ä", "a\\b",
        ] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
        assert!(!is_authority(&[b'a'; 256]));
    }
}
