//! `ringshard journal`: what is in the journals of a data directory, and whether it is as it was written.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use serde_json::{json, value::RawValue};
use topic::journal::{Found, Record, Recovered, walk};

use crate::{
    command::{fail, print},
    data::quiet,
    journal::{FOLDER, Folder, JournalError, Manifest, manifest},
};

/// What a topic has in a journal.
#[derive(Default)]
struct TopicFigures {
    epoch: u64,
    first: u64,
    head: u64,
    messages: u64,
    bytes: u64,
}

/// `ringshard journal inspect DIR`: a table of all topics, or every record as a line of JSON. A server may use the directory
/// only if that is said (`running`).
#[must_use]
pub fn inspect((data, running): (&Path, bool), records: bool, topic: Option<&str>) -> ExitCode {
    let mut topics: BTreeMap<String, TopicFigures> = BTreeMap::new();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let is_meant = |found: &Found<'_>| topic.is_none_or(|topic| topic == found.name);
    let outcome = each_shard((data, running), |shard, manifest, path| {
        let mut each = |found: Found<'_>| {
            if !is_meant(&found) {
                return;
            }
            if records {
                // A reader that left early, as `head` does, is no error.
                let _ = writeln!(out, "{}", line(shard, &found));
            }
            note(topics.entry(found.name.to_owned()).or_default(), &found);
        };
        walk((shard, manifest.origin), &mut Folder::new(path.to_owned()), false, &mut each)
            .map_err(|source| JournalError::Journal { path: path.to_owned(), source })
    });
    let _ = out.flush();
    drop(out);
    match outcome {
        Ok(_) if records => ExitCode::SUCCESS,
        Ok((manifest, shards)) => print(&table(manifest, &shards, &topics)),
        Err(error) => fail(&error),
    }
}

/// `ringshard journal verify DIR`: `ok`, or what is wrong with each shard's journal. Of a directory that a server
/// uses (`running`) a file that has just gone is reported, too.
#[must_use]
pub fn verify((data, running): (&Path, bool)) -> ExitCode {
    let mut damages = String::new();
    let outcome = each_shard((data, running), |shard, manifest, path| {
        let walked = walk((shard, manifest.origin), &mut Folder::new(path.to_owned()), false, &mut |_| {});
        Ok(walked.unwrap_or_else(|error| {
            let _ = writeln!(damages, "shard {shard}: {}/{error}", path.display());
            Recovered::default()
        }))
    });
    match outcome {
        Err(error) => fail(&error),
        Ok(_) if !damages.is_empty() => {
            let _ = print(&damages);
            ExitCode::FAILURE
        }
        Ok((_, shards)) => {
            let sum = |pick: fn(&Recovered) -> u64| shards.iter().map(pick).sum::<u64>();
            print(&format!(
                "ok: {} shards, {} segments, {} bytes, {} batches, {} messages, {} facts, {} bytes torn at the end\n",
                shards.len(),
                sum(|one| one.segments),
                sum(|one| one.bytes),
                sum(|one| one.batches),
                sum(|one| one.messages),
                sum(|one| one.facts),
                sum(|one| one.torn_bytes),
            ))
        }
    }
}

fn each_shard(
    (data, running): (&Path, bool),
    mut each: impl FnMut(u16, Manifest, &Path) -> Result<Recovered, JournalError>,
) -> Result<(Manifest, Vec<Recovered>), JournalError> {
    let _quiet = if running { None } else { Some(quiet(data)?) };
    let root = data.join(FOLDER);
    let missing = || JournalError::Manifest { path: root.clone(), reason: "there are no journals here".to_owned() };
    let manifest = manifest(&root)?.ok_or_else(missing)?;
    let shards = (0..manifest.shards).map(|shard| each(shard, manifest, &manifest.folder(&root, shard)));
    Ok((manifest, shards.collect::<Result<_, _>>()?))
}

fn note(topic: &mut TopicFigures, found: &Found<'_>) {
    topic.bytes += u64::from(found.bytes);
    if let Record::Message { offset, .. } = found.record {
        if topic.epoch != found.epoch {
            *topic = TopicFigures { epoch: found.epoch, first: offset, bytes: topic.bytes, ..TopicFigures::default() };
        }
        topic.head = offset;
        topic.messages += 1;
    }
}

fn table(manifest: Manifest, shards: &[Recovered], topics: &BTreeMap<String, TopicFigures>) -> String {
    let mut out = format!("origin {:016x}, {} shards\n", manifest.origin, manifest.shards);
    for (shard, it) in shards.iter().enumerate() {
        let Recovered { segments, bytes, batches, messages, facts, torn_bytes } = it;
        let _ = writeln!(
            out,
            "shard {shard}: {segments} segments, {bytes} bytes, {batches} batches, {messages} messages, {facts} facts, \
             {torn_bytes} bytes torn"
        );
    }
    for (name, TopicFigures { epoch, first, head, messages, bytes }) in topics {
        let _ = match messages {
            0 => writeln!(out, "{name}: facts only, {bytes} bytes"),
            _ => writeln!(
                out,
                "{name}: epoch {epoch:016x}, offsets {first} to {head}, {messages} messages, {bytes} bytes"
            ),
        };
    }
    out
}

/// A record as JSON. A body that is no JSON is shown as text.
fn line(shard: u16, found: &Found<'_>) -> String {
    let at = json!({ "shard": shard, "segment": found.at.segment, "block": found.at.block });
    let value = |bytes: &[u8]| match serde_json::from_slice::<&RawValue>(bytes) {
        Ok(raw) => serde_json::to_value(raw).unwrap_or_default(),
        Err(_) => String::from_utf8_lossy(bytes).into(),
    };
    let record = match found.record {
        Record::Name { .. } => json!({}),
        Record::Message { offset, at_ms, seq, from, body, .. } => {
            let (device, seq) = seq.unzip();
            let epoch = format!("{:016x}", found.epoch);
            json!({ "topic": found.name, "epoch": epoch, "offset": offset, "at_ms": at_ms, "from": from,
                    "device": device, "seq": seq, "body": value(body) })
        }
        Record::Fact { key, value: fact, .. } => {
            json!({ "about": found.name, "key": key, "value": fact.map(value) })
        }
    };
    json!({ "at": at, "record": record }).to_string()
}
