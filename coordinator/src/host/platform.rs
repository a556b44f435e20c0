//! The steps of a migration on one machine. Every step may be repeated and may be cut off
//! anywhere; see [`crate::platform`] for the contract.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use livmig_engine::{
    result::{MoverFacts, Probe, Proof, StepFailure, StepOutcome, VolumePass},
    spec::{HostTarget, MigrationSpec},
    step::Step,
};
use livmig_proto::{
    control::{PassKind, Side},
    ids::PassNumber,
};

use super::store::file::sync_parent;
use super::{
    failure,
    limits::FolderLimits,
    movers::{Mover, MoverError, Movers, Setup},
    preflight::{self, Volumes},
    proof::{self, Held},
    settings::Settings,
    symlink::{self, LinkState, VolumeLink},
    workload::{UserCommand, Workload, WorkloadError},
};
use crate::{
    movers::{
        failure::control as control_failure,
        pair::{CutOff, Pair, Terms},
    },
    platform::{Context, Platform},
};

/// One migration between two directories of this machine.
pub struct HostPlatform {
    target: HostTarget,
    spec: MigrationSpec,
    state: PathBuf,
    link: VolumeLink,
    link_text: PathBuf,
    movers: Movers,
    load: FolderLimits,
    workload: Workload,
    /// The last final pass, for what a manifest does not tell.
    last_final: Mutex<Vec<VolumePass>>,
}

impl HostPlatform {
    /// The platform of the migration `spec` of `target`, whose state lies in `folder`.
    pub fn new(
        spec: &MigrationSpec,
        target: &HostTarget,
        settings: &Settings,
        folder: &Path,
    ) -> Result<Self, MoverError> {
        let command = |line: &String, limit| UserCommand {
            line: line.clone(),
            limit,
        };
        Ok(Self {
            link: VolumeLink::new(
                target.path.clone(),
                settings.link_text.clone(),
                target.destination.clone(),
                spec.uid,
            ),
            link_text: settings.link_text.clone(),
            movers: Movers::new(Setup {
                program: settings.mover.clone(),
                folder: folder.to_owned(),
                migration: spec.uid,
                source: target.source.clone(),
                destination: target.destination.clone(),
            })?,
            load: FolderLimits {
                folder: folder.to_owned(),
                planned: spec.options.load,
            },
            workload: Workload::new(
                folder,
                command(&target.stop_command, settings.stop_limit),
                command(
                    settings
                        .start_command
                        .as_ref()
                        .unwrap_or(&target.start_command),
                    settings.start_limit,
                ),
            ),
            target: target.clone(),
            spec: spec.clone(),
            state: folder.to_owned(),
            last_final: Mutex::default(),
        })
    }

    fn check(&self) -> Result<StepOutcome, StepFailure> {
        self.expect_link(LinkState::Source)?;
        let volumes = Volumes {
            path: self.target.path.clone(),
            link_text: self.link_text.clone(),
            source: self.target.source.clone(),
            destination: self.target.destination.clone(),
        };
        preflight::check(&volumes, &self.spec.options, &self.state)
            .map_err(|refusal| failure::refused(&refusal))?;
        let mut warnings = Vec::new();
        if !rustix::process::geteuid().is_root() {
            warnings.push(
                "not run as root: processes of other users that still write to the source cannot \
                 be seen"
                    .to_owned(),
            );
        }
        Ok(StepOutcome::Checked { warnings })
    }

    async fn start_movers(&self, context: &Context) -> Result<StepOutcome, StepFailure> {
        let destination = &self.target.destination;
        // Nobody else looks into a half-made copy; the mover gives it the source's mode.
        match fs::DirBuilder::new().mode(0o700).create(destination) {
            Ok(()) => sync_parent(destination),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
        .map_err(|error| {
            StepFailure::permanent(format!(
                "Could not create the destination {}: {error}",
                destination.display()
            ))
        })?;
        let (source, destination) = self.both(context).await?;
        let facts = |mover: &Mover| MoverFacts {
            volume: self.target.volume(),
            welcome: mover.welcome.clone(),
            storage: None,
        };
        Ok(StepOutcome::Movers {
            movers: vec![facts(&source), facts(&destination)],
        })
    }

    async fn pass(
        &self,
        number: PassNumber,
        kind: PassKind,
        context: &Context,
    ) -> Result<StepOutcome, StepFailure> {
        let (source, destination) = self.both(context).await?;
        let passed = self
            .run_pass([&source, &destination], (number, kind), context)
            .await?;
        if kind == PassKind::Final {
            *self.last_final() = vec![passed.clone()];
        }
        Ok(StepOutcome::Passed {
            reports: vec![passed],
        })
    }

    async fn run_pass(
        &self,
        movers: [&Mover; 2],
        pass: (PassNumber, PassKind),
        context: &Context,
    ) -> Result<VolumePass, StepFailure> {
        let terms = Terms {
            options: &self.spec.options,
            limits: &self.load,
        };
        let passed = pair(movers)?.pass(pass, &terms, context).await;
        if let Err(CutOff::DestinationGone(_)) = &passed {
            self.movers
                .end(Side::Source)
                .await
                .map_err(|error| failure::mover(&error))?;
        }
        Ok(VolumePass {
            volume: self.target.volume(),
            report: passed?,
        })
    }

    fn last_final(&self) -> MutexGuard<'_, Vec<VolumePass>> {
        self.last_final
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn quiesce(&self) -> Result<StepOutcome, StepFailure> {
        self.run_command(self.workload.stop().await)
    }

    /// Nobody may hold the source before PATH is taken away (a workload that did not stop goes on
    /// undisturbed), and nobody after it.
    async fn fence(&self) -> Result<StepOutcome, StepFailure> {
        self.prove_unheld(true).await?;
        self.set_link(LinkState::Fenced)?;
        let proof = self.prove_unheld(true).await?;
        Ok(StepOutcome::Fenced { proof })
    }

    async fn verify(&self, context: &Context) -> Result<StepOutcome, StepFailure> {
        let (source, destination) = self.both(context).await?;
        let last = self.last_final().clone();
        let options = &self.spec.options;
        let verification = pair([&source, &destination])?
            .compare(self.target.volume(), options, &last, context)
            .await?;
        // The last act: what was proven before the final pass must still hold after it.
        self.expect_link(LinkState::Fenced)?;
        let proof = self.prove_unheld(false).await?;
        Ok(StepOutcome::Verified {
            volumes: vec![verification],
            proof,
        })
    }

    fn swap(&self) -> Result<StepOutcome, StepFailure> {
        self.set_link(LinkState::Destination)?;
        let (path, destination) = (&self.target.path, &self.target.destination);
        match symlink::same_directory(path, destination) {
            Ok(true) => Ok(StepOutcome::Done),
            Ok(false) => Err(StepFailure::undecided(format!(
                "PATH {} was swapped but does not lead to {}",
                path.display(),
                destination.display()
            ))),
            Err(error) => Err(StepFailure::transient(format!(
                "PATH {} was swapped but cannot be followed: {error}",
                path.display()
            ))),
        }
    }

    async fn restart(&self) -> Result<StepOutcome, StepFailure> {
        self.expect_link(LinkState::Source)?;
        self.run_command(self.workload.start().await)
    }

    async fn remove_movers(&self, context: &Context) -> Result<StepOutcome, StepFailure> {
        let (source, destination) = tokio::join!(
            self.movers.shut_down(Side::Source, context.epoch),
            self.movers.shut_down(Side::Destination, context.epoch),
        );
        source
            .and(destination)
            .map_err(|error| failure::mover(&error))?;
        self.movers.remove_traces().map_err(|error| {
            StepFailure::transient(format!(
                "Could not remove the movers' files below {}: {error}",
                self.state.display()
            ))
        })?;
        Ok(StepOutcome::Done)
    }

    /// Both movers, source first.
    async fn both(&self, context: &Context) -> Result<(Arc<Mover>, Arc<Mover>), StepFailure> {
        tokio::try_join!(
            self.movers.ensure(Side::Source, context.epoch),
            self.movers.ensure(Side::Destination, context.epoch),
        )
        .map_err(|error| failure::mover(&error))
    }

    fn run_command(&self, ended: Result<(), WorkloadError>) -> Result<StepOutcome, StepFailure> {
        let log = self.workload.log().display().to_string();
        ended
            .map(|()| StepOutcome::Done)
            .map_err(|error| failure::workload(&error, &log))
    }

    fn set_link(&self, wanted: LinkState) -> Result<(), StepFailure> {
        self.link
            .ensure(wanted)
            .map_err(|error| failure::link(&error, &self.link, wanted))
    }

    fn expect_link(&self, wanted: LinkState) -> Result<(), StepFailure> {
        let found = self
            .link
            .state()
            .map_err(|error| failure::link(&error, &self.link, wanted))?;
        if found == wanted {
            return Ok(());
        }
        Err(StepFailure::permanent(format!(
            "PATH {} leads to {} instead of {}: somebody else changed it",
            self.target.path.display(),
            self.link.text(found).display(),
            self.link.text(wanted).display(),
        ))
        .with_hint(self.link.command(wanted)))
    }

    async fn prove_unheld(&self, patient: bool) -> Result<Proof, StepFailure> {
        let mut except: BTreeSet<u32> = self.movers.processes();
        except.insert(std::process::id());
        let source = &self.target.source;
        let held = if patient {
            proof::wait_until_left(source, &except).await
        } else {
            proof::look(source, &except)
        };
        match held {
            Ok(Held::Nobody(survey)) => Ok(proof::evidence(&survey, source)),
            Ok(Held::By(holders)) => Err(failure::still_held(&holders)),
            Err(error) => Err(StepFailure::permanent(format!(
                "Could not look for processes that use the source: {error}"
            ))),
        }
    }

    /// A live pass whose outcome nobody recorded: still under way, or its report still there?
    async fn probe_pass(
        &self,
        number: PassNumber,
        context: &Context,
    ) -> Result<Probe, StepFailure> {
        let found = tokio::try_join!(
            self.movers.find(Side::Source, context.epoch),
            self.movers.find(Side::Destination, context.epoch),
        )
        .map_err(|error| failure::mover(&error))?;
        let (Some(source), Some(destination)) = found else {
            return Ok(Probe::NotDone);
        };
        let known = [source.welcome.running, source.welcome.reported];
        if !known.contains(&Some(number)) {
            return Ok(Probe::NotDone);
        }
        let pass = (number, PassKind::Live);
        let passed = self
            .run_pass([&source, &destination], pass, context)
            .await?;
        Ok(Probe::Done {
            outcome: StepOutcome::Passed {
                reports: vec![passed],
            },
        })
    }

    fn probe_link(&self, wanted: LinkState) -> Result<Probe, StepFailure> {
        let found = self
            .link
            .state()
            .map_err(|error| failure::link(&error, &self.link, wanted))?;
        if found != wanted {
            return Ok(Probe::NotDone);
        }
        // Seen is not durable yet, and done means that a crash of the machine keeps it.
        symlink::sync_folder(symlink::folder_of(&self.target.path)).map_err(|error| {
            StepFailure::transient(format!("Could not flush the folder of PATH: {error}"))
        })?;
        Ok(Probe::Done {
            outcome: StepOutcome::Done,
        })
    }
}

impl Platform for HostPlatform {
    async fn perform(&self, step: Step, context: &Context) -> Result<StepOutcome, StepFailure> {
        match step {
            Step::Check => self.check(),
            Step::StartMovers => self.start_movers(context).await,
            Step::Pass { number, kind } => self.pass(number, kind, context).await,
            Step::Quiesce => self.quiesce().await,
            Step::Fence => self.fence().await,
            Step::Verify => self.verify(context).await,
            Step::Swap => self.swap(),
            Step::Unquiesce => self.run_command(self.workload.start().await),
            Step::Unswap | Step::Unfence => {
                self.set_link(LinkState::Source).map(|()| StepOutcome::Done)
            }
            Step::Restart => self.restart().await,
            Step::Settle | Step::StopMovers => self.remove_movers(context).await,
        }
    }

    async fn probe(&self, step: Step, context: &Context) -> Result<Probe, StepFailure> {
        match step {
            Step::Pass { number, .. } => self.probe_pass(number, context).await,
            Step::Swap => self.probe_link(LinkState::Destination),
            Step::Unswap | Step::Unfence => self.probe_link(LinkState::Source),
            // Shell commands that may be repeated, and clean-ups: doing them again is the probe.
            _ => Ok(Probe::NotDone),
        }
    }

    async fn stop_pass(&self, pass: PassNumber, _context: &Context) -> Result<(), StepFailure> {
        match self.movers.connected(Side::Source).await {
            Some(source) => source.client.stop_pass(pass).await.map_err(|error| {
                control_failure(&error, &format!("Pass {pass} could not be stopped"))
            }),
            None => Ok(()),
        }
    }
}

/// A source mover and a destination mover, to work together.
fn pair([source, destination]: [&Mover; 2]) -> Result<Pair<'_>, StepFailure> {
    Ok(Pair {
        source: &source.client,
        destination: &destination.client,
        data: destination.welcome.data.ok_or_else(|| {
            StepFailure::permanent("The destination mover does not say where it listens for data")
        })?,
    })
}
