//! Answers over HTTP/3 that are the same for everybody, and headers that many have in common: coded once a second.

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use quic::h3::{Common, Prepared};

use crate::routes::{self, Content, Context};

/// What is coded, and until when it holds.
#[derive(Default)]
pub(crate) struct Coded {
    /// The second since 1970, and the version of the certificate.
    of: (u64, u64),
    page: Common,
    data: Common,
    /// By path: as many as there are pages at most.
    answers: Vec<(&'static str, Prepared)>,
}

impl Coded {
    /// Whether all that is here is of this second and this certificate.
    pub(crate) fn is_of(&self, second: u64, certificate: u64) -> bool {
        self.of == (second, certificate)
    }

    /// Drops what was coded, and codes the headers that answers have in common from now on.
    pub(crate) fn renew(&mut self, second: u64, certificate: u64, context: &Context<'_>) {
        self.answers.clear();
        let code = |content| {
            let mut headers = HeaderMap::new();
            routes::common(context, content, &mut headers);
            Common::new(&headers)
        };
        (self.page, self.data) = (code(Content::Page), code(Content::Data));
        self.of = (second, certificate);
    }

    /// The answer to a request, if it is here.
    pub(crate) fn find(&self, request: &Request<Bytes>) -> Option<&Prepared> {
        let path = request.uri().path();
        let (_, answer) = self.answers.iter().find(|(known, _)| *known == path)?;
        Some(answer).filter(|_| routes::may_be_same_for_all(request))
    }

    /// Codes an answer; it is kept, if the next one to ask for the same gets the same.
    pub(crate) fn code(&mut self, request: Option<&Request<Bytes>>, response: Response<Bytes>) -> Prepared {
        let common = match Content::of(response.headers()) {
            Content::Page => &self.page,
            Content::Data => &self.data,
        };
        let keeps = response.status().is_success();
        let answer = Prepared::new(response, common);
        if let Some(path) = request.filter(|_| keeps).and_then(routes::same_for_all) {
            self.answers.push((path, answer.clone()));
        }
        answer
    }
}
