//! Which names the disk has, and which changes of them a power loss may take back.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use crate::{chance::Chance, disk::Inode};

/// All names, as callers see them and as the disk has them for sure.
#[derive(Clone, Default, Debug)]
pub(super) struct Directory {
    names: BTreeMap<String, Inode>,
    on_disk: BTreeMap<String, Inode>,
    /// What makes `names` out of `on_disk`, in order.
    changes: Vec<Change>,
}

/// A creation has no `from`, a removal no `to`, a renaming has both: it is one change, so that it is atomic.
#[derive(Clone, Debug)]
struct Change {
    from: Option<String>,
    to: Option<String>,
    inode: Inode,
}

impl Change {
    fn names(&self) -> impl Iterator<Item = &String> {
        self.from.iter().chain(&self.to)
    }

    fn apply(&self, names: &mut BTreeMap<String, Inode>) {
        if let Some(from) = &self.from {
            names.remove(from);
        }
        if let Some(to) = &self.to {
            names.insert(to.clone(), self.inode);
        }
    }
}

impl Directory {
    pub(super) fn names(&self) -> &BTreeMap<String, Inode> {
        &self.names
    }

    pub(super) fn create(&mut self, name: &str, inode: Inode) {
        self.change(Change { from: None, to: Some(name.to_owned()), inode });
    }

    pub(super) fn rename(&mut self, from: &str, to: &str, inode: Inode) {
        self.change(Change { from: Some(from.to_owned()), to: Some(to.to_owned()), inode });
    }

    pub(super) fn remove(&mut self, name: &str, inode: Inode) {
        self.change(Change { from: Some(name.to_owned()), to: None, inode });
    }

    /// Makes the names in one directory durable.
    pub(super) fn sync(&mut self, directory: &str) {
        self.sync_those(|_, name| parent(name) == directory);
    }

    /// Makes the name of one file durable, if it has one.
    pub(super) fn sync_file(&mut self, inode: Inode) {
        self.sync_those(|names, name| names.get(name) == Some(&inode));
    }

    /// Power loss. Changes that have no name in common survive independently of each other; what builds on a change
    /// that is lost is lost too.
    pub(super) fn crash(&mut self, chance: &mut Chance, keep: f64) {
        let mut lost = BTreeSet::new();
        for change in mem::take(&mut self.changes) {
            if change.names().any(|name| lost.contains(name)) || !chance.happens(keep) {
                lost.extend(change.names().cloned());
            } else {
                change.apply(&mut self.on_disk);
            }
        }
        self.names.clone_from(&self.on_disk);
    }

    /// The files that a name leads to, or may lead to after a power loss.
    pub(super) fn reachable(&self) -> impl Iterator<Item = Inode> {
        let changes = self.changes.iter().map(|change| change.inode);
        self.names.values().chain(self.on_disk.values()).copied().chain(changes)
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    /// Makes the changes of some names durable, and those that they build on.
    fn sync_those(&mut self, asked: impl Fn(&BTreeMap<String, Inode>, &str) -> bool) {
        let mut due_names = BTreeSet::new();
        let (mut due, mut rest) = (Vec::new(), Vec::new());
        // Newest first: only earlier changes of a name are built on.
        for change in mem::take(&mut self.changes).into_iter().rev() {
            if change.names().any(|name| due_names.contains(name) || asked(&self.names, name)) {
                due_names.extend(change.names().cloned());
                due.push(change);
            } else {
                rest.push(change);
            }
        }
        due.iter().rev().for_each(|change| change.apply(&mut self.on_disk));
        rest.reverse();
        self.changes = rest;
    }
}

/// The directory that a name is in; the root has no name.
pub(super) fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(parent, _)| parent)
}
