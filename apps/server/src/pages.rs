//! The pages, embedded: what a browser loads, each with its ETag.

use std::sync::LazyLock;

use bytes::Bytes;
use ringshard_http::asset::Asset;

/// What a path under `/` or `/assets/` is, if it is a page or belongs to one.
#[must_use]
pub(crate) fn find(path: &str) -> Option<&'static Asset> {
    PAGES.iter().find(|(known, _)| *known == path).map(|(_, asset)| asset)
}

static PAGES: LazyLock<Vec<(&'static str, Asset)>> =
    LazyLock::new(|| FILES.iter().map(|(path, kind, bytes)| (*path, asset(path, kind, bytes))).collect());

fn asset(path: &'static str, kind: &'static str, bytes: &'static [u8]) -> Asset {
    Asset::new(path, kind, Bytes::from_static(bytes))
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

const FILES: &[(&str, &str, &[u8])] = &[
    ("/", HTML, include_bytes!("../pages/index.html")),
    ("/chat", HTML, include_bytes!("../pages/chat.html")),
    ("/status", HTML, include_bytes!("../pages/status.html")),
    ("/assets/style.css", CSS, include_bytes!("../pages/style.css")),
    ("/assets/chat.css", CSS, include_bytes!("../pages/chat.css")),
    ("/assets/account.js", SCRIPT, include_bytes!("../pages/account.js")),
    ("/assets/body.js", SCRIPT, include_bytes!("../pages/body.js")),
    ("/assets/carrier.js", SCRIPT, include_bytes!("../pages/carrier.js")),
    ("/assets/chat.js", SCRIPT, include_bytes!("../pages/chat.js")),
    ("/assets/chats.js", SCRIPT, include_bytes!("../pages/chats.js")),
    ("/assets/composer.js", SCRIPT, include_bytes!("../pages/composer.js")),
    ("/assets/contacts.js", SCRIPT, include_bytes!("../pages/contacts.js")),
    ("/assets/conversation.js", SCRIPT, include_bytes!("../pages/conversation.js")),
    ("/assets/creation.js", SCRIPT, include_bytes!("../pages/creation.js")),
    ("/assets/details.js", SCRIPT, include_bytes!("../pages/details.js")),
    ("/assets/dom.js", SCRIPT, include_bytes!("../pages/dom.js")),
    ("/assets/door.js", SCRIPT, include_bytes!("../pages/door.js")),
    ("/assets/figure.js", SCRIPT, include_bytes!("../pages/figure.js")),
    ("/assets/frames.js", SCRIPT, include_bytes!("../pages/frames.js")),
    ("/assets/group.js", SCRIPT, include_bytes!("../pages/group.js")),
    ("/assets/inbox.js", SCRIPT, include_bytes!("../pages/inbox.js")),
    ("/assets/line.js", SCRIPT, include_bytes!("../pages/line.js")),
    ("/assets/menu.js", SCRIPT, include_bytes!("../pages/menu.js")),
    ("/assets/outbox.js", SCRIPT, include_bytes!("../pages/outbox.js")),
    ("/assets/presence.js", SCRIPT, include_bytes!("../pages/presence.js")),
    ("/assets/redraw.js", SCRIPT, include_bytes!("../pages/redraw.js")),
    ("/assets/rules.js", SCRIPT, include_bytes!("../pages/rules.js")),
    ("/assets/session.js", SCRIPT, include_bytes!("../pages/session.js")),
    ("/assets/thread.js", SCRIPT, include_bytes!("../pages/thread.js")),
    ("/assets/timeline.js", SCRIPT, include_bytes!("../pages/timeline.js")),
    ("/assets/topic.js", SCRIPT, include_bytes!("../pages/topic.js")),
    ("/assets/status.js", SCRIPT, include_bytes!("../pages/status.js")),
    ("/assets/start.js", SCRIPT, include_bytes!("../pages/start.js")),
    ("/assets/icon.svg", SVG, include_bytes!("../pages/icon.svg")),
    ("/favicon.ico", SVG, include_bytes!("../pages/icon.svg")),
];
