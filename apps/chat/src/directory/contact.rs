//! How two users become contacts, and how they cease to be: a relation becomes another one.
//!
//! Both may act at once, and letters are under way. A request is named by its time; an answer that names another one than
//! what is known here was overtaken, and is ignored or taken back. Of two requests that cross each other the user with
//! the smaller name accepts and the other one waits.

use handler::Code;

use super::{
    letter::Letter,
    relation::{Block, Contact, Relation, Request},
};
use crate::facts::{Facts, Refusal};

/// One side of a relation, while something is done to it.
pub(super) struct Side<'a> {
    pub(super) user: &'a str,
    pub(super) other: &'a str,
    pub(super) at_ms: u64,
    /// What the facts say.
    pub(super) was: Relation,
    /// What it becomes.
    pub(super) relation: Relation,
    /// What the other side is told.
    pub(super) letters: Vec<Letter>,
}

impl<'a> Side<'a> {
    pub(super) fn open(facts: &impl Facts, user: &'a str, other: &'a str, at_ms: u64) -> Result<Self, Refusal> {
        let was = Relation::read(facts, user, other)?;
        Ok(Self { user, other, at_ms, relation: was.clone(), was, letters: Vec::new() })
    }

    /// Asks. Who was asked already has said yes by that.
    pub(super) fn request(&mut self, text: &str) -> Result<(), Refusal> {
        let Relation { contact, incoming, outgoing, block } = &self.relation;
        if block.is_some() {
            return Err(Refusal::new(Code::FailedPrecondition, "you have blocked that user"));
        }
        if incoming.is_some() {
            return self.accept();
        }
        if contact.is_none() && outgoing.is_none() {
            let at_ms = self.at_ms;
            self.letters.push(Letter::Request { from: self.user.to_owned(), at_ms, text: text.to_owned() });
            self.relation.outgoing = Some(Request { at_ms, text: text.to_owned() });
        }
        Ok(())
    }

    pub(super) fn accept(&mut self) -> Result<(), Refusal> {
        match self.relation.incoming.take() {
            Some(request) => {
                self.become_contacts(request.at_ms);
                self.letters.push(Letter::Accept { from: self.user.to_owned(), at_ms: request.at_ms });
                Ok(())
            }
            None if self.relation.contact.is_some() => Ok(()),
            None => Err(Refusal::new(Code::NotFound, "there is no such request")),
        }
    }

    pub(super) fn decline(&mut self) -> Result<(), Refusal> {
        if let Some(request) = self.relation.incoming.take() {
            self.letters.push(Letter::Decline { from: self.user.to_owned(), at_ms: request.at_ms });
        }
        Ok(())
    }

    /// Ends being contacts, or takes a request back.
    pub(super) fn remove(&mut self) -> Result<(), Refusal> {
        let from = || self.user.to_owned();
        if let Some(contact) = self.relation.contact.take() {
            self.letters.push(Letter::Remove { from: from(), at_ms: contact.request_ms });
        }
        if let Some(request) = self.relation.outgoing.take() {
            self.letters.push(Letter::Withdraw { from: from(), at_ms: request.at_ms });
        }
        Ok(())
    }

    pub(super) fn block(&mut self) -> Result<(), Refusal> {
        self.remove()?;
        self.decline()?;
        self.relation.block.get_or_insert(Block { at_ms: self.at_ms });
        Ok(())
    }

    pub(super) fn unblock(&mut self) -> Result<(), Refusal> {
        self.relation.block = None;
        Ok(())
    }

    /// The other one asks. `room` says whether there may be one more request.
    pub(super) fn on_request(&mut self, at_ms: u64, text: &str, room: bool) {
        let from = self.user.to_owned();
        let Relation { contact, incoming, outgoing, block } = &mut self.relation;
        let known = contact.as_ref().is_some_and(|contact| contact.request_ms == at_ms);
        if known {
            self.letters.push(Letter::Accept { from, at_ms });
        } else if block.is_some() || (incoming.is_none() && outgoing.is_none() && !room) {
            self.letters.push(Letter::Decline { from, at_ms });
        } else if outgoing.is_none() {
            // A contact may ask when an answer to its last request is still under way to it.
            *incoming = Some(Request { at_ms, text: text.to_owned() });
        } else if self.user < self.other {
            self.become_contacts(at_ms);
            self.letters.push(Letter::Accept { from, at_ms });
        }
    }

    pub(super) fn on_accept(&mut self, at_ms: u64) {
        // Whoever accepts asks for nothing any longer.
        self.relation.incoming = None;
        let asked = self.relation.outgoing.as_ref().is_some_and(|request| request.at_ms == at_ms);
        let known = self.relation.contact.as_ref().is_some_and(|contact| contact.request_ms == at_ms);
        if asked {
            self.become_contacts(at_ms);
        } else if !known {
            self.letters.push(Letter::Remove { from: self.user.to_owned(), at_ms });
        }
    }

    pub(super) fn on_decline(&mut self, at_ms: u64) {
        self.relation.outgoing.take_if(|request| request.at_ms == at_ms);
    }

    pub(super) fn on_withdraw(&mut self, at_ms: u64) {
        self.relation.incoming.take_if(|request| request.at_ms == at_ms);
    }

    pub(super) fn on_remove(&mut self, at_ms: u64) {
        self.relation.contact.take_if(|contact| contact.request_ms == at_ms);
    }

    fn become_contacts(&mut self, request_ms: u64) {
        self.relation.outgoing = None;
        self.relation.contact = Some(Contact { since_ms: self.at_ms, request_ms });
    }
}
