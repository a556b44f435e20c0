//! Reads everything that a volume holds and sums it up.

use std::{collections::BTreeSet, io, path::Path};

use livmig_proto::{
    attributes::{AttributeKind, Carry},
    control::{Fault, ManifestReport, Side, VerifyLevel},
    name::RelPath,
};

use crate::{
    destination::state::Destination,
    fs::{attributes, volume::Volume},
};

/// The manifest of `volume`, all content read again: from the device at level `full`, else from
/// wherever the kernel has it. Needs room for temporary files in the directory `state`.
pub fn inspect(
    volume: Volume,
    state: &Path,
    level: VerifyLevel,
    scope: InspectScope,
) -> io::Result<Inspection> {
    // Nothing is remembered, so everything is surveyed as if the process had just started.
    let InspectScope { side, carry, apart } = scope;
    let carry = carry
        .unwrap_or_else(|| Carry::among(attributes::seen(&volume).without(AttributeKind::Label)));
    let reader = Destination::for_reading(volume, state, side, carry, apart)?;
    Ok(Inspection { reader, level })
}

/// What of a volume is summed up.
#[derive(Debug)]
pub struct InspectScope {
    /// Which end of a pass it is.
    pub side: Side,
    /// The attributes that the pass carried. Without a pass, all that this process can see but labels.
    pub carry: Option<Carry>,
    /// What the pass left as it is: passed over.
    pub apart: BTreeSet<RelPath>,
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
