//! A messenger over topics: open rooms, groups, two users alone, and what the server tells each user.
//!
//! | topic | who reads | who writes |
//! |---|---|---|
//! | `chat/<room>`, `chat/world` | everybody | everybody |
//! | `chat/g/<id>` | members | members that are not muted |
//! | `chat/d/<a>~<b>` | both | both, unless one has blocked the other; no guests |
//! | `chat/audit` | tokens with this very capability | the server: roles, silences, bans, removals, recalls by others, words, logouts everywhere (`logout_all`), refresh tokens that were used twice (`refresh_reused`) |
//! | `chat/u/<user>` | all devices of that account | the server: what is new in the user's contacts and conversations |
//!
//! What the server says has the sender `""`, which no user is called. Names in topics are written as
//! [`conversation::Conversation`] says. Bodies are those of [`body`]; what a home refuses has no place in the topic. A
//! member that leaves or is removed gets an error without an id and hears nothing more of the topic.
//!
//! # Operations
//!
//! Each is answered when what it changed is on disk. All but `chat.history` and `chat.info` are for accounts only.
//!
//! | operation | fields | answer |
//! |---|---|---|
//! | `chat.history` | topic, before?, limit? (100) | `{topic, epoch, head, more, messages}` |
//! | `chat.create` | name, users? (200), open?, slow_ms? | `{topic, invited?}`; the id is the server's choice; not in 1,000 groups |
//! | `chat.rename` | topic, name | `{}`; owner and admins |
//! | `chat.settings` | topic, open?, slow_ms? (an hour) | `{}`; owner and admins |
//! | `chat.invite` | topic, users (200) | `{invited?}`; owner and admins, in an open group all members |
//! | `chat.join`, `chat.decline`, `chat.leave` | topic | `{}`; who was invited joins or declines |
//! | `chat.remove` | topic, user | `{}`; whoever is above that member, or invited that user |
//! | `chat.role` | topic, user, role | `{}`; the owner |
//! | `chat.mute` | topic, user, until_ms? | `{}`; whoever is above that member |
//! | `chat.ban`, `chat.unban` | topic, user, until_ms? | `{}`; owner and admins (1,000 bans) |
//! | `chat.members`, `chat.bans` | topic, after?, limit? (200) | `{topic, count?, more, members or bans}` |
//! | `chat.invitations` | topic, after?, limit? (200) | `{topic, more, invitations: [{user, by, at_ms}]}`; owner and admins (1,000) |
//! | `chat.info` | topic | `{topic, kind, ..}` |
//! | `chat.marks` | topic, after?, limit? (200) | `{topic, more, marks: [{user, delivered, read}]}` |
//! | `chat.push` | target: {groups? (20), users? (200), except? (200), all?}, body | `{results: [{target, ok, code?}]}`; with a token that has this very capability |
//! | `chat.search` | prefix, limit? (20) | `{users}` |
//! | `contact.request` | user, text? (200 characters) | `{}`; 1,000 under way |
//! | `contact.accept`, `contact.decline`, `contact.remove` | user | `{}`; 5,000 contacts |
//! | `contact.block`, `contact.unblock` | user | `{}`; 5,000 blocks |
//! | `contact.list`, `.requests`, `.sent`, `.blocked` | after?, limit? (200) | `{more, users}` |
//! | `inbox.list` | after?, limit? (200) | `{conversations: [{topic, name?, head, unread, last_at_ms, last?, ..}], next?}` |
//! | `inbox.invitations` | after?, limit? (200) | `{more, invitations: [{topic, by, name, at_ms}]}` (1,000) |
//! | `inbox.read` | topic, read | `{}`; raises the marks as `ack` does, without a subscription |
//! | `inbox.set` | topic, muted?, pinned? | `{}` |
//! | `inbox.forget` | topic | `{}`; the next message of a direct conversation brings it back |
//! | `presence.get` | users (100) | `{users: [{user, state, last_seen_ms?}]}` in the order asked for |
//! | `presence.set` | state: `online` or `away` | `{}`; of this session |
//! | `presence.watch` | | `{users: [{user, state, last_seen_ms?}], more}`; from here on changes are told |
//!
//! Whom somebody wants in a group is a member at once only as a contact of that user. Anybody else is `invited`: the
//! invitation is in `inbox.invitations` and told on the personal topic, and `chat.join` accepts it. One that comes from
//! somebody who is blocked is dropped, and looks to the inviter like one without an answer.
//!
//! What was recalled is given to nobody again: history and subscriptions have, instead of the message and of its edits,
//! `{"type":"recalled","offset":..,"by":..,"at_ms":..,"client_id"?}`. A message is edited 100 times at most. What somebody
//! says itself is never unread to it. A list of 10,000 conversations gives up those that were left, then the oldest of
//! two, which come back with their next message, then the oldest groups.
//!
//! Errors: `invalid_argument` (fields, limits of lengths), `permission_denied` (not a member, muted, banned, blocked, a
//! guest, a word that is not allowed; `retry_ms` if it ends), `not_found` (no such group, user, request),
//! `failed_precondition` (too late to edit, recalled, not in this kind of conversation), `resource_exhausted` (a limit, or
//! too fast; `retry_ms`), `unavailable` (the disk takes nothing: nothing has changed).
//!
//! How far members of direct conversations and groups of at most 100 have come is told as the ephemeral value `read` of
//! each user, `{delivered, read}`, and to a user's own devices on the personal topic, `{topic, delivered, read}`.
//!
//! A push to `groups` with `except` is told to each member but those, once, on the personal topic, and not in the group's;
//! such a group has at most 1,000 members, else its target has the code `resource_exhausted`. A lone `group` is good, too.
//!
//! The first message of a new day in a conversation is preceded by `{type: "system", event: "day", date: "2026-11-26",
//! day, by: ""}`, where `day` counts from 1970; days begin at the midnight of `chat.day_offset_min` minutes east of UTC.
//! A conversation's very first message has none before it, and personal topics have none.
//!
//! # Presence
//!
//! A user with an account is `online` while a session of any device is, `away` while sessions are but all of them said so
//! with `presence.set`, and `offline` 30 s after the last one left; `last_seen_ms` is when that was (milliseconds since
//! 1970), and absent while a user is there or if nobody knows. It is seen by those who are in the user's circle: contacts,
//! both of a direct conversation that is in the list of both, and members of a group of at most 100. To everybody else, and
//! to whoever has blocked the user or was blocked, the user is `offline`, as a user is that does not exist.
//!
//! `presence.watch` tells a session how its circle is, the first 500 users of it (`more`: there are others). From then on,
//! until the last session that watches is gone, changes are told on the personal topic as the ephemeral value `presence` of
//! the user that changed: `{kind: "eph", topic: "chat/u/bob", from: "ada", key: "presence", body: {state, last_seen_ms?}}`,
//! the first one at once and then one in two seconds at most. A circle is looked at again every two minutes, and when a
//! session asks again. A user is told of to at most 1,000 others. Presence is in memory: a restart forgets it.
//! Errors: `permission_denied` (a guest), `invalid_argument`, `resource_exhausted` (watched too often; `retry_ms`).
//!
//! # How it is decided
//!
//! [`conversation`], [`directory`], [`body`], [`rate`] and [`search`] are the model: functions of facts and of what is
//! asked, without topics, shards or disks. The facts of a conversation are kept under the name of its topic, those of a
//! user under the name of the personal topic; so each is decided on one shard, its home, that of the topic. A decision is
//! one record: facts, and letters to other homes as facts too, which go away when the receiver has recorded them. What a
//! topic is told of a decision is published right behind it. Before topics act on mail to a home, chat looks at it: who
//! may come in, what may be said, and how.

mod audit;
pub mod body;
mod chat;
pub mod conversation;
pub mod directory;
mod facts;
mod history;
mod home;
mod list;
mod name;
mod post;
pub mod presence;
mod push;
pub mod rate;
mod request;
mod room;
pub mod search;
mod shared;
mod words;

pub use audit::AUDIT_TOPIC;
pub use body::TEXT_CHARS_MAX;
pub use chat::Chat;
pub use facts::{Change, Facts, Refusal, Who, apply};
pub use list::PAGE_LINES_MAX;
pub use name::{GROUP_NAME_CHARS_MAX, USER_CHARS_MAX, group_name, is_user};
pub use push::{PUSH_EXCEPT_MEMBERS_MAX, PUSH_GROUPS_MAX, PUSH_OP};
pub use shared::{People, Settings, Shared};
pub use words::{Verdict, WORD_CHARS_MAX, WORDS_BYTES_MAX, WORDS_MAX, WordList, WordsError};
