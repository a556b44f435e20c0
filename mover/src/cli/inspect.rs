//! `livmig-mover inspect`.

use std::{collections::BTreeSet, fs::File, os::fd::AsFd as _};

use anyhow::Context as _;
use livmig_proto::control::{Side, VerifyLevel};
use serde_json::json;

use super::{Exit, InspectArgs, UNPRINTED, print, print_document, tell};
use crate::{
    fs::{confine, volume::Volume},
    inspect::{self, InspectScope},
    scratch::Scratch,
};

/// Carries the command out.
pub fn run(args: &InspectArgs) -> anyhow::Result<Exit> {
    let volume = match Volume::open(&args.directory) {
        Ok(volume) => volume,
        Err(errno) => {
            tell(&format!(
                "error: could not open {} ({errno})",
                args.directory.display()
            ));
            return Ok(Exit::Usage);
        }
    };
    let state = Scratch::new("livmig-inspect-")?;
    let held = File::open(state.path())?;
    confine::confine(&[volume.root()], &[held.as_fd()]);
    drop(held);
    let all = InspectScope {
        // Of a tree for itself nothing may be passed over that is there.
        side: Side::Destination,
        carry: None,
        apart: BTreeSet::new(),
    };
    let report = match inspect::inspect(volume, state.path(), VerifyLevel::Wire, all)?.run() {
        Ok(report) => report,
        Err(mut fault) => {
            fault.message = fault.message.replace("destination: ", "");
            tell(&format!("error: {fault}"));
            tell("state: nothing was changed; there is no digest of a part");
            return Ok(Exit::Failed);
        }
    };
    if args.json {
        let document = json!({
            "digest": report.digest,
            "entries": report.entries,
            "bytes": report.bytes,
        });
        print_document(&document.to_string()).context(UNPRINTED)?;
    } else {
        print(&format!(
            "{}  {} entries  {} bytes  {}",
            report.digest,
            report.entries,
            report.bytes,
            args.directory.display()
        ))?;
    }
    Ok(Exit::Done)
}
