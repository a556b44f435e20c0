//! Joins what a directory lists with what is known of it, and tells apart what is gone from what only
//! was not found: gone is what a complete, later listing lacks.

use livmig_proto::{
    control::{Fault, FaultCode, Side},
    name::Name,
};
use rustix::io::Errno;

use super::{
    listing,
    visit::{Looked, Visit, Visitor},
};
use crate::{catalog::segment::Entry, fault, fs::stat::Stat};

/// What came of joining a listing with what is known.
struct Joined {
    /// The entries as they are now.
    entries: Vec<Entry>,
    /// Whether they are those that were known.
    same: bool,
    /// Names that were listed and then not found, and what is known of them.
    missing: Vec<(Name, Option<Entry>)>,
}

/// Which look at one name it is, of those that are taken while it keeps changing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct LookNumber(usize);

impl LookNumber {
    /// How often a name is looked at that never stays what it was.
    const LAST: usize = 7;

    /// One after the other.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..=Self::LAST).map(Self)
    }

    pub(crate) fn is_first(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn is_last(self) -> bool {
        self.0 == Self::LAST
    }
}

impl Visitor<'_> {
    /// Joins the sorted listing with the sorted entries that are known. The entries as they are now,
    /// and whether they are those that were known.
    pub(crate) fn join(
        &mut self,
        visit: &mut Visit,
        names: &[Name],
        known: Vec<Entry>,
    ) -> Result<(Vec<Entry>, bool), Fault> {
        let mut joined = Joined {
            entries: Vec::with_capacity(names.len()),
            same: true,
            missing: Vec::new(),
        };
        let mut known = known.into_iter().peekable();
        for name in names {
            while let Some(unlisted) = known.next_if(|entry| entry.name < *name) {
                self.unlisted(visit, unlisted, &mut joined)?;
            }
            let before = known.next_if(|entry| entry.name == *name);
            self.listed(visit, name, before, &mut joined)?;
        }
        for unlisted in known {
            self.unlisted(visit, unlisted, &mut joined)?;
        }
        if !joined.missing.is_empty() {
            self.find_missing(visit, &mut joined)?;
        }
        Ok((joined.entries, joined.same))
    }

    /// A name that a listing has, and what is known of it.
    fn listed(
        &mut self,
        visit: &mut Visit,
        name: &Name,
        before: Option<Entry>,
        joined: &mut Joined,
    ) -> Result<(), Fault> {
        match (self.entry(visit, name, before.as_ref())?, before) {
            (Looked::AsBefore, before) => joined.entries.extend(before),
            (Looked::Now(entry), before) => {
                joined.same &= before.as_ref() == Some(&entry);
                joined.entries.push(entry);
            }
            (Looked::Absent, Some(before)) => {
                joined.same = false;
                self.remove(visit, &before)?;
            }
            (Looked::Absent, None) => {}
            (Looked::Missing | Looked::Changed, before) => {
                joined.missing.push((name.clone(), before));
            }
        }
        Ok(())
    }

    /// An entry that the destination has and the listing lacks is gone only if a look by name says
    /// so too: a listing may miss what was being replaced.
    fn unlisted(
        &mut self,
        visit: &mut Visit,
        before: Entry,
        joined: &mut Joined,
    ) -> Result<(), Fault> {
        if Stat::of_entry(&visit.dir, &before.name).err() == Some(Errno::NOENT) {
            joined.same = false;
            return self.remove(visit, &before);
        }
        self.listed(visit, &before.name.clone(), Some(before), joined)
    }

    /// Names that were listed and then not found: gone is what a later, complete listing lacks.
    fn find_missing(&mut self, visit: &mut Visit, joined: &mut Joined) -> Result<(), Fault> {
        for _ in LookNumber::all() {
            let missing = std::mem::take(&mut joined.missing);
            if missing.is_empty() {
                break;
            }
            let names = match listing::again(&visit.dir) {
                Ok(names) => names,
                // The directory itself is gone, and its parent's listing will tell.
                Err(Errno::NOENT) => Vec::new(),
                Err(errno) => {
                    self.note(fault::listing(Side::Source, &visit.scope.path, errno));
                    joined
                        .entries
                        .extend(missing.into_iter().filter_map(|(_, before)| before));
                    break;
                }
            };
            for (name, before) in missing {
                if names.binary_search(&name).is_ok() {
                    self.listed(visit, &name, before, joined)?;
                } else if let Some(before) = before {
                    joined.same = false;
                    self.remove(visit, &before)?;
                }
            }
        }
        for (name, before) in std::mem::take(&mut joined.missing) {
            let path = visit.scope.path.child(&name).unwrap_or_default();
            self.shared.unsettle(fault::named(
                Side::Source,
                FaultCode::StillWritten,
                &path,
                "source: the entry is listed, and was not there each time it was looked at",
            ));
            joined.entries.extend(before);
        }
        joined
            .entries
            .sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(())
    }
}
