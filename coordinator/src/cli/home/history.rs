//! A migration as its journal tells it.

use livmig_engine::{
    document::{Document, document_of},
    machine::Machine,
    outcome::ExitCode,
    record::Record,
    spec::MigrationName,
};

use crate::{
    cli::text::trouble::Trouble,
    driver::{Clock as _, SystemClock},
};

/// The records of a migration, and the machine that they make: replayed once, asked by many.
pub(crate) struct History {
    records: Vec<Record>,
    machine: Machine,
}

impl History {
    /// Of the migration `name`, with these records.
    pub(crate) fn of(name: &MigrationName, records: Vec<Record>) -> Result<Self, Trouble> {
        let machine = Machine::replay(&records).map_err(|error| {
            Trouble::because(ExitCode::Failed, &error)
                .with_next(format!("look at it: livmig-coord logs {name}"))
        })?;
        Ok(Self { records, machine })
    }

    /// What was written down.
    pub(crate) fn records(&self) -> &[Record] {
        &self.records
    }

    /// What that makes.
    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }

    /// All that is known now.
    pub(crate) fn document(&self) -> Document {
        document_of(&self.machine, &self.records, SystemClock::new().now())
    }

    /// The commands with which it goes on, if it has not ended.
    pub(crate) fn ways_on(&self) -> String {
        ways_on(&self.machine.spec().name, Some(&self.machine))
    }
}

/// The commands with which the migration `name` goes on; `machine` is what its records make, where they
/// make one.
pub(crate) fn ways_on(name: &MigrationName, machine: Option<&Machine>) -> String {
    let past_return = machine.is_some_and(Machine::is_past_return);
    let on_host = machine.is_some_and(|machine| machine.spec().target.host().is_some());
    match (past_return, on_host) {
        (true, true) => {
            format!("livmig-coord resume {name}, if need be with another --start-cmd")
        }
        (true, false) => format!("livmig-coord resume {name}"),
        (false, _) => format!("livmig-coord resume {name}, or livmig-coord rollback {name}"),
    }
}
