//! Who is in a room that everybody may enter, as far as it was told.

use std::collections::BTreeSet;

use super::wire::RoomInfo;
use crate::compat::exchange::name_of;

/// Users of a room that are named; the number is always exact.
const NAMES_MAX: usize = 200;

/// Who is in a room.
#[derive(Default, Debug)]
pub(super) struct Place {
    count: Option<u32>,
    names: BTreeSet<String>,
}

impl Place {
    /// Whether anything was told of it.
    pub(super) fn is_known(&self) -> bool {
        self.count.is_some()
    }

    /// Somebody came or went.
    pub(super) fn change<'a>(
        &mut self,
        count: u32,
        joined: impl Iterator<Item = &'a str>,
        left: impl Iterator<Item = &'a str>,
    ) {
        self.count = Some(count);
        for name in joined {
            if self.names.len() < NAMES_MAX {
                self.names.insert(name.to_owned());
            }
        }
        for name in left {
            self.names.remove(name);
        }
    }

    /// In Hawos' words.
    pub(super) fn info(&self, topic: &str) -> RoomInfo {
        RoomInfo {
            room_id: name_of(topic).to_owned(),
            member_num: i32::try_from(self.count.unwrap_or(0)).unwrap_or(i32::MAX),
            member_ids: self.names.iter().cloned().collect(),
        }
    }
}
