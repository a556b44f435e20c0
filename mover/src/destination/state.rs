//! A destination between passes: the volume, what is known of it, and who may write to it.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering},
    },
};

use livmig_proto::{
    attributes::Carry,
    control::{Fault, FaultCode, Side},
    hex,
    ids::{Epoch, MigrationUid},
    name::RelPath,
    session::{Begin, Ready},
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{
    apart::Apart,
    early::Early,
    links::{DestinationLinks, first_u64},
    touched::Touched,
};
use crate::{
    catalog::{log::Key, store::Store},
    fault,
    fs::{
        attributes,
        metadata::xattr::View,
        mounts::other_end,
        stat::Stat,
        volume::{self, Volume},
        volume_lock,
    },
    random::random,
};

/// A destination: a volume that is written, and what was proven of it.
#[derive(Debug)]
pub struct Destination {
    pub(super) volume: Volume,
    /// What was verified. Lives as long as the process: after a restart all is read again.
    pub(super) catalog: Store,
    pub(super) touched: Touched,
    pub(super) early: Early,
    /// What a pass left to be read back by those that follow.
    pub(super) unread: Mutex<Vec<Key>>,
    pub(super) links: Mutex<DestinationLinks>,
    /// What this pass leaves as it is.
    pub(super) apart: Apart,
    /// Whether it is somebody else's volume, which is only read.
    pub(super) reads_only: bool,
    /// Whether the catalog covers every directory.
    pub(super) complete: AtomicBool,
    /// Whether everything that was read back came from the device.
    pub(super) on_device: AtomicBool,
    /// Whether a flush has failed: the kernel reports that once and forgets, so nobody may
    /// believe this volume again.
    pub(super) poisoned: AtomicBool,
    pub(super) written: AtomicU64,
    /// The attributes that are carried, as [`Carry::bits`].
    carry: AtomicU16,
    /// Whose tree it is.
    pub(super) side: Side,
    migration: MigrationUid,
    state: PathBuf,
    token: Mutex<Option<OwnerToken>>,
    epoch: AtomicU64,
}

/// What says, outside the tree, whose tree it is.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct OwnerToken {
    migration: MigrationUid,
    boot: String,
    #[serde(with = "hex::array")]
    instance: [u8; 16],
    /// The attributes that were carried.
    #[serde(default)]
    carry: Carry,
    /// Whether there were entries before the first pass.
    #[serde(default)]
    adopted: bool,
}

impl Destination {
    /// The destination of `migration` in `volume`, with its state in the directory `state`.
    pub fn new(volume: Volume, state: &Path, migration: MigrationUid) -> io::Result<Self> {
        let empty = volume.is_empty()?;
        let token = match fs::read(state.join(TOKEN)) {
            Ok(bytes) => serde_json::from_slice::<OwnerToken>(&bytes).ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let token = token.filter(|token| token.migration == migration);
        Ok(Self {
            volume,
            catalog: Store::ephemeral(state)?,
            touched: Touched::new(state)?,
            early: Early::default(),
            unread: Mutex::default(),
            links: Mutex::default(),
            apart: Apart::default(),
            reads_only: false,
            complete: AtomicBool::new(empty),
            on_device: AtomicBool::new(true),
            poisoned: AtomicBool::new(false),
            written: AtomicU64::new(0),
            migration,
            state: state.to_owned(),
            carry: AtomicU16::new(token.as_ref().map_or(0, |token| token.carry.bits())),
            side: Side::Destination,
            token: Mutex::new(token),
            epoch: AtomicU64::new(0),
        })
    }

    /// A volume that is only read, of either `side`: the attributes that `carry` says, and not what
    /// stands at the paths `apart`.
    pub fn for_reading(
        volume: Volume,
        state: &Path,
        side: Side,
        carry: Carry,
        apart: BTreeSet<RelPath>,
    ) -> io::Result<Self> {
        let mut reader = Self::new(volume, state, MigrationUid([0; 16]))?;
        reader.complete.store(false, Ordering::SeqCst);
        reader.carry = AtomicU16::new(carry.bits());
        reader.side = side;
        reader.reads_only = true;
        reader.apart = Apart::of(apart);
        Ok(reader)
    }

    /// The attributes that the last pass carried; nothing before the first.
    pub fn carry(&self) -> Option<Carry> {
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        token.as_ref().map(|token| token.carry)
    }

    /// The attributes that count.
    pub(super) fn view(&self) -> View {
        let carry = Carry::from_bits(self.carry.load(Ordering::Relaxed));
        match self.side {
            Side::Source => View::Source(carry),
            Side::Destination => View::Destination(carry),
        }
    }

    /// The number of the group that an entry with several links is in. Inode numbers are one
    /// device's; and in a volume that is only read, which may show several file systems as one, names
    /// that do not agree are no links of one inode.
    pub(super) fn link_number(&self, stat: &Stat) -> u64 {
        if !self.reads_only && stat.identity.device == self.volume.stat().identity.device {
            return stat.identity.ino;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&stat.identity.device.0.to_le_bytes());
        hasher.update(&stat.identity.device.1.to_le_bytes());
        if self.reads_only {
            hasher.update(&stat.identity.bytes());
        } else {
            hasher.update(&stat.identity.ino.to_le_bytes());
        }
        first_u64(&hasher.finalize())
    }

    /// The names that the last pass left as they are.
    pub fn apart(&self) -> BTreeSet<RelPath> {
        self.apart.paths()
    }

    /// The volume.
    pub fn volume(&self) -> &Volume {
        &self.volume
    }

    /// Takes note of an epoch; refuses one that is lower than a coordinator already had.
    pub fn see_epoch(&self, epoch: Epoch) -> Result<(), Fault> {
        let highest = self.epoch.fetch_max(epoch.0, Ordering::SeqCst);
        if epoch.0 < highest {
            return Err(fault::plain(
                Side::Destination,
                FaultCode::StaleEpoch,
                format!(
                    "destination: epoch {epoch} is over; a coordinator with epoch {highest} \
                         has taken over"
                ),
            ));
        }
        Ok(())
    }

    /// Fails when whoever begins a pass has no business here: nothing that is under way has to end for
    /// it.
    pub(super) fn admit(&self, begin: &Begin) -> Result<(), Fault> {
        let refuse =
            |code, message: &str| Err(fault::plain(Side::Destination, code, message.to_owned()));
        if begin.migration != self.migration {
            return refuse(
                FaultCode::BadRequest,
                "destination: the source belongs to another migration",
            );
        }
        self.see_epoch(begin.epoch)?;
        if self.poisoned.load(Ordering::SeqCst) {
            return refuse(
                FaultCode::Io,
                "destination: the volume has failed to store what was written to it and is not \
                 believed any more; migrate to another volume",
            );
        }
        Ok(())
    }

    /// Takes the root directory's lock for a pass.
    pub(super) fn lock(&self) -> Result<(), Fault> {
        volume_lock::lock_root(self.volume.root()).map_err(|taken| {
            fault::plain(
                Side::Destination,
                FaultCode::Busy,
                format!("destination: {taken} the root directory; end it, then go on"),
            )
        })
    }

    /// Gives the root directory's lock back.
    pub(super) fn unlock(&self) {
        volume_lock::unlock_root(self.volume.root());
    }

    /// Accepts a pass, or says why not. From here on the tree is this migration's.
    pub(super) fn accept(&self, begin: &Begin) -> Result<Ready, Fault> {
        // Again: a later coordinator may have come while this one's turn was waited for.
        self.admit(begin)?;
        let failed = |errno| {
            fault::plain(
                Side::Destination,
                fault::code_of(errno),
                format!("destination: could not look at the root directory ({errno})"),
            )
        };
        let empty = self.volume.is_empty().map_err(failed)?;
        let mut token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        if !empty && token.is_none() && !begin.adopt {
            return Err(fault::plain(
                Side::Destination,
                FaultCode::NotEmpty,
                "destination: the directory holds entries that this migration did not write; \
                 nothing was changed (--adopt takes them over and removes what the source does \
                 not have)",
            ));
        }
        self.apart.clear();
        let boot = volume::boot_id();
        other_end::remember(Side::Source, begin.root.clone(), &self.volume.mark());
        let carry = Carry {
            sees: begin.sees,
            stores: attributes::storable(&self.volume, begin.sees),
        };
        let adopted = token.as_ref().map_or(!empty, |token| token.adopted);
        let instance = match &*token {
            // What was applied since the boot still counts; after one, only what is on disk. Nor does
            // it when other attributes were carried.
            Some(token) if token.boot == boot && token.carry == carry => token.instance,
            _ => random(),
        };
        let fresh = OwnerToken {
            migration: self.migration,
            boot,
            instance,
            carry,
            adopted,
        };
        store(&self.state, &fresh).map_err(|error| {
            fault::plain(
                Side::Destination,
                FaultCode::Io,
                format!("destination: could not write to the state directory: {error}"),
            )
        })?;
        self.carry.store(carry.bits(), Ordering::Relaxed);
        *token = Some(fresh);
        let lost_and_found = self.volume.has_lost_and_found();
        Ok(Ready {
            instance,
            empty,
            lost_and_found,
            stores: carry.stores,
            tells_reserved: self.volume.tells_reserved(),
            unlisted: adopted && attributes::hides_trusted(&self.volume),
            root: Some(self.volume.mark()),
        })
    }

    /// The hard links, for as long as nobody else looks at them.
    pub(super) fn links(&self) -> MutexGuard<'_, DestinationLinks> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was verified at and below `path` counts no more.
    pub(super) fn forget(&self, path: &RelPath) -> Result<(), Fault> {
        let gone = self.catalog.forget(path).map_err(Self::state_fault)?;
        let mut links = self.links();
        for path in gone.iter().chain([path]) {
            links.forget(path);
        }
        Ok(())
    }

    /// Makes everything durable.
    pub(super) fn sync(&self) -> Result<(), Fault> {
        self.volume.sync().map_err(|errno| {
            self.poisoned.store(true, Ordering::SeqCst);
            fault::plain(
                Side::Destination,
                FaultCode::Io,
                format!("destination: the volume failed to store what was written to it ({errno})"),
            )
        })
    }

    /// The state directory failed.
    pub(super) fn state_fault(errno: Errno) -> Fault {
        fault::plain(
            Side::Destination,
            fault::code_of(errno),
            format!("destination: could not keep state in the state directory ({errno})"),
        )
    }
}

const TOKEN: &str = "destination.json";

/// Writes the token: temporary file, fsync, rename. A crash leaves the old one or the new one;
/// the directory entry itself may be lost with the machine, which then only costs a reading of
/// the destination.
fn store(state: &Path, token: &OwnerToken) -> io::Result<()> {
    let bytes = serde_json::to_vec(token)?;
    let temporary = state.join("destination.json.new");
    fs::write(&temporary, bytes)?;
    fs::File::open(&temporary)?.sync_all()?;
    fs::rename(temporary, state.join(TOKEN))
}
