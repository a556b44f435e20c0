//! A migration at home in a folder of this machine.

use std::{fs, io};

use livmig_engine::{machine::Machine, outcome::ExitCode, spec::MigrationName};
use livmig_proto::control::Limits;
use rustix::fs::inotify;

use super::{COORDINATOR_LOG, DrivenBy, History, MigrationHome, Section};
use crate::{
    cli::text::trouble::Trouble,
    host::{
        limits,
        readiness::Readiness,
        settings::Settings,
        store::{folder::MigrationFolder, journal},
        symlink::{LinkState, VolumeLink},
    },
};

/// Files below a migration's folder, each with what it holds.
const FILES: [(&str, &str); 4] = [
    (COORDINATOR_LOG, "coordinator"),
    ("commands.log", "stop and start commands"),
    ("source/log", "source mover"),
    ("destination/log", "destination mover"),
];

impl MigrationHome for MigrationFolder {
    type Watch = Readiness;

    fn name(&self) -> &MigrationName {
        self.name()
    }

    async fn history(&self) -> Result<History, Trouble> {
        let loaded = journal::read(&self.journal())?;
        History::of(self.name(), loaded.records)
    }

    async fn watch(&self) -> Result<Readiness, Trouble> {
        let watch = || {
            let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
            let watch = inotify::init(flags)?;
            inotify::add_watch(&watch, self.journal(), inotify::WatchFlags::MODIFY)?;
            Readiness::new(watch)
        };
        watch().map_err(|error| unwatched(self, &error))
    }

    async fn changed(&self, watch: &Readiness, _: &History) -> Result<(), Trouble> {
        watch.drain().await.map_err(|error| unwatched(self, &error))
    }

    fn driver(&self) -> DrivenBy {
        self.holder()
            .map_or(DrivenBy::Nobody, |holder| DrivenBy::Process(holder.pid))
    }

    /// Where PATH leads nowhere, the commands that give it back.
    fn by_hand(&self, machine: &Machine) -> Option<String> {
        let target = machine.spec().target.host()?;
        let settings = Settings::load(self.path()).ok()?;
        let link = VolumeLink::new(
            target.path.clone(),
            settings.link_text,
            target.destination.clone(),
            machine.spec().uid,
        );
        (link.state().ok()? == LinkState::Fenced).then(|| {
            format!(
                "PATH leads nowhere on purpose, so that nothing writes to the source; by hand, \
                 without livmig: {}, then: {}\n",
                link.command(LinkState::Source),
                settings
                    .start_command
                    .as_ref()
                    .unwrap_or(&target.start_command)
            )
        })
    }

    async fn limits(&self, _: &Machine) -> Result<Option<Limits>, String> {
        let place = limits::path(self.path());
        limits::read(self.path()).map_err(|error| format!("{}: {error}", place.display()))
    }

    async fn set_limits(&self, _: &Machine, load: Limits) -> Result<(), Trouble> {
        let place = limits::path(self.path());
        limits::store(self.path(), load).map_err(|error| {
            Trouble::new(
                ExitCode::Failed,
                format!("Could not write {}: {error}", place.display()),
            )
            .with_state("the limits are as before")
        })
    }

    async fn logs(&self) -> Result<Vec<Section>, Trouble> {
        let loaded = journal::read(&self.journal())?;
        let mut sections = vec![Section::Journal {
            place: Some(self.journal()),
            records: loaded.records,
            torn: loaded.torn > 0,
        }];
        for (name, what) in FILES {
            let path = self.path().join(name);
            match fs::read(&path) {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => sections.push(Section::Text {
                    title: format!("{what} ({})", path.display()),
                    text: String::from_utf8_lossy(&bytes).into_owned(),
                }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(Trouble::new(
                        ExitCode::Failed,
                        format!("Could not read {}: {error}", path.display()),
                    ));
                }
            }
        }
        Ok(sections)
    }
}

fn unwatched(folder: &MigrationFolder, error: &io::Error) -> Trouble {
    Trouble::new(
        ExitCode::Failed,
        format!("Could not watch {}: {error}", folder.journal().display()),
    )
}
