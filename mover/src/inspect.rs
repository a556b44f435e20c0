//! Reads everything that a volume holds and sums it up.

use std::{collections::BTreeSet, io, path::Path};

use livmig_proto::{
    control::{Fault, ManifestReport, VerifyLevel},
    ids::MigrationUid,
    name::RelPath,
};

use crate::{destination::state::Destination, fs::volume::Volume};

/// The manifest of `volume`, all content read again: from the device at level `full`, else from
/// wherever the kernel has it. Needs room for temporary files in the directory `state`.
/// What stands at the paths `apart` is passed over, as by the pass that left it as it is.
pub fn inspect(
    volume: Volume,
    state: &Path,
    level: VerifyLevel,
    apart: BTreeSet<RelPath>,
) -> io::Result<Inspection> {
    // Nothing is remembered, so everything is surveyed as if the process had just started.
    let reader = Destination::for_reading(volume, state, MigrationUid([0; 16]), apart)?;
    Ok(Inspection { reader, level })
}

/// An inspection that is ready to run.
#[derive(Debug)]
pub struct Inspection {
    reader: Destination,
    level: VerifyLevel,
}

impl Inspection {
    /// Reads everything.
    pub fn run(&self) -> Result<ManifestReport, Fault> {
        self.reader.survey_everything(self.level)?;
        Ok(self.reader.manifest(self.level))
    }
}
