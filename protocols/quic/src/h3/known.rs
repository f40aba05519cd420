//! The head of the last request of a connection: who asks for the same again sends the same bytes, which need no reading.

use super::message::Head;

/// Bytes of the longest section that is kept: what programs ask for again and again is shorter.
const SECTION_BYTES_MAX: usize = 512;

/// A field section and, once it has come twice in a row, the head that it is. Without the dynamic table the bytes of a
/// section alone decide what it says.
#[derive(Debug, Default)]
pub(crate) struct Known {
    section: Vec<u8>,
    head: Option<Box<Head>>,
}

impl Known {
    /// The head that these bytes are, if it is known.
    pub(crate) fn get(&self, section: &[u8]) -> Option<Head> {
        self.head.as_deref().filter(|_| self.section == section).cloned()
    }

    /// These bytes were read as this head.
    pub(crate) fn note(&mut self, section: &[u8], head: &Head) {
        if self.section == section {
            self.head = Some(Box::new(head.clone()));
            return;
        }
        self.head = None;
        self.section.clear();
        if section.len() <= SECTION_BYTES_MAX && head.protocol.is_none() {
            self.section.extend_from_slice(section);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(path: &str) -> Head {
        Head { request: Request::get(path).body(()).expect("it is valid"), protocol: None, length: None }
    }

    #[test]
    fn what_came_twice_in_a_row_is_known_until_another_comes() {
        let mut known = Known::default();
        known.note(b"one", &head("/one"));
        assert!(known.get(b"one").is_none(), "it may be the only one");
        known.note(b"one", &head("/one"));
        assert_eq!(known.get(b"one").expect("it came twice").request.uri(), "/one");
        assert!(known.get(b"on").is_none() && known.get(b"").is_none());
        known.note(b"two", &head("/two"));
        assert!(known.get(b"one").is_none() && known.get(b"two").is_none());
    }

    #[test]
    fn what_is_long_or_opens_a_session_is_not_kept() {
        let mut known = Known::default();
        let long = [7; SECTION_BYTES_MAX + 1];
        let session = Head { protocol: Some("webtransport".into()), ..head("/wt") };
        for _ in 0..3 {
            known.note(&long, &head("/long"));
            known.note(b"session", &session);
        }
        assert!(known.get(&long).is_none() && known.get(b"session").is_none() && known.section.is_empty());
    }
}
