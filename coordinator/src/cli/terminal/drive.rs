//! Drives a migration from a terminal or a script: shows what happens, takes Ctrl-C and answers,
//! and prints the result.

use std::{
    io::{self, BufRead as _, Write as _},
    path::PathBuf,
    sync::PoisonError,
    thread,
    time::Duration,
};

use livmig_engine::{
    document::Document,
    machine::{Machine, Question},
    outcome::{ExitCode, Outcome},
    request::Request,
    spec::MigrationName,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

use super::{log, progress::Printer};
use crate::cli::{
    flags::values::Output,
    home::{History, history::ways_on},
    text::{
        advice::MadeBy,
        output, summary,
        trouble::{self, Trouble},
    },
};
use crate::{
    driver::{Driver, Handle, RequestError, Start, Status, SystemClock},
    host::store::folder::Lock,
    journal::{Journal, Recorded},
    movers::failure::chain,
    platform::Platform,
};

/// How long a wish may take to be heard until somebody is told.
const HEARD_MAX: Duration = Duration::from_secs(2);

/// A migration that is about to be driven.
pub(crate) struct TerminalRun<P, J> {
    /// What people call it.
    pub(crate) name: MigrationName,
    /// Where its log goes.
    pub(crate) folder: PathBuf,
    /// Where its records go.
    pub(crate) journal: J,
    /// Held until the first record is stored.
    pub(crate) registration: Option<Lock>,
    /// What carries it out.
    pub(crate) platform: P,
    /// How it begins.
    pub(crate) start: Start,
    /// The command that made it.
    pub(crate) made_by: MadeBy,
}

/// How it ended.
pub(crate) struct Driven {
    /// The outcome.
    pub(crate) outcome: Outcome,
    /// All of it.
    pub(crate) document: Document,
    /// The command that made it.
    pub(crate) made_by: MadeBy,
}

/// Drives until there is an outcome.
pub(crate) async fn drive<P, J>(drive: TerminalRun<P, J>) -> Result<Driven, Trouble>
where
    P: Platform + 'static,
    J: Journal + 'static,
{
    let TerminalRun {
        name,
        folder,
        journal,
        registration,
        platform,
        start,
        made_by,
    } = drive;
    if let Err(error) = log::open(&folder) {
        return Err(Trouble::new(
            ExitCode::Failed,
            format!("Could not open the log below {}: {error}", folder.display()),
        ));
    }
    let (journal, records) = Recorded::new(journal);
    let (driver, handle) = Driver::new(platform, journal, SystemClock::new());
    // On a task of its own: a request waits for the driver's answer.
    let mut driver = tokio::spawn(driver.run(start));
    let mut terminal = Terminal::new(handle, name.clone(), registration)?;
    let ended = loop {
        tokio::select! {
            biased;
            ended = &mut driver => break ended,
            () = terminal.attend() => {}
        }
    };
    terminal.finish();
    let records = records.lock().unwrap_or_else(PoisonError::into_inner);
    let outcome = ended
        .map_err(|error| {
            Trouble::new(ExitCode::Halted, format!("The driver broke off: {error}"))
                .with_state("everything up to then is in the journal")
                .with_next(format!("livmig-coord resume {name}"))
        })?
        .map_err(|error| {
            tracing::error!(error = %chain(&error), "driver stopped");
            let machine = Machine::replay(&records).ok();
            trouble::of_driver(&error, &ways_on(&name, machine.as_ref()))
        })?;
    Ok(Driven {
        document: History::of(&name, records.clone())?.document(),
        outcome,
        made_by,
    })
}

/// Prints the result; the exit code says it too.
pub(crate) fn conclude(driven: &Driven, output: Output) -> Result<ExitCode, Trouble> {
    let printed = match output {
        Output::Json => {
            let printed = output::json(&driven.document);
            // What refuses a migration is for people too, whatever the output at the end is.
            let refused = summary::unaccepted(&driven.document.status);
            let _ = write!(io::stderr(), "{refused}");
            printed
        }
        Output::Text => output::text(&format!(
            "{}{}",
            summary::text(&driven.document),
            summary::leftover(&driven.document)
        )),
    };
    // How the migration ended says more than that this could not be told.
    if let Some(trouble) = trouble::of_outcome(&driven.outcome, &driven.document, driven.made_by) {
        return Err(trouble);
    }
    let name = &driven.document.metadata.name;
    printed.map(|()| ExitCode::Done).map_err(|unwritten| {
        unwritten
            .with_state("the migration is done; only its report is lost")
            .with_next(format!("livmig-coord status {name}"))
    })
}

/// The person or script in front of it.
struct Terminal {
    handle: Handle,
    name: MigrationName,
    registration: Option<Lock>,
    printer: Printer,
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    /// Whether the journal could not be written when that was last told.
    doubt: bool,
    interrupts: u32,
    asked: Option<Question>,
    answers: (
        mpsc::UnboundedSender<String>,
        mpsc::UnboundedReceiver<String>,
    ),
    status: tokio::sync::watch::Receiver<Status>,
    ended: bool,
}

impl Terminal {
    fn new(
        handle: Handle,
        name: MigrationName,
        registration: Option<Lock>,
    ) -> Result<Self, Trouble> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Trouble::new(
                    ExitCode::Failed,
                    format!("Could not listen for signals: {error}"),
                )
            })
        };
        Ok(Self {
            status: handle.status(),
            handle,
            name,
            registration,
            printer: Printer::new(),
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            // A terminal that goes away must not leave a workload down.
            hangup: listen(SignalKind::hangup())?,
            doubt: false,
            interrupts: 0,
            asked: None,
            answers: mpsc::unbounded_channel(),
            ended: false,
        })
    }

    /// Waits for one thing to happen and sees to it.
    async fn attend(&mut self) {
        tokio::select! {
            changed = self.status.changed(), if !self.ended => match changed {
                Ok(()) => self.show(),
                Err(_) => self.ended = true,
            },
            _ = self.interrupt.recv() => self.interrupted().await,
            _ = self.terminate.recv() => self.interrupted().await,
            _ = self.hangup.recv() => self.interrupted().await,
            Some(answer) = self.answers.1.recv() => self.answered(&answer).await,
        }
    }

    fn show(&mut self) {
        let status = self.status.borrow_and_update().clone();
        self.printer.show(&status);
        if self.doubt != status.doubt.is_some() {
            self.doubt = status.doubt.is_some();
            self.printer.line(&match &status.doubt {
                Some(doubt) => format!("waiting, for up to ten minutes: {doubt}"),
                None => "going on: the journal can be written again".to_owned(),
            });
        }
        let Some(migration) = status.migration else {
            return;
        };
        // The first record is stored: whoever plans now finds this migration.
        self.registration = None;
        if migration.question != self.asked {
            self.asked.clone_from(&migration.question);
            if let Some(question) = &migration.question {
                self.ask(question);
            }
        }
    }

    fn ask(&self, question: &Question) {
        let total = question.prediction.total();
        self.printer.clear();
        self.printer.line(&format!(
            "The predicted downtime of {:.1} s ({:.1} to {:.1} s) exceeds the budget of {:.1} s.\n\
             Type p to proceed, w to wait and keep passing, a to abort (the workload is untouched):",
            total.expected,
            total.low,
            total.high,
            question.budget.as_secs_f64()
        ));
        let answers = self.answers.0.clone();
        // A thread of its own, left behind at the end: nothing can cut off a read of a terminal.
        thread::spawn(move || {
            let mut line = String::new();
            if io::stdin().lock().read_line(&mut line).is_ok() {
                // Nobody waits for it any more.
                let _ = answers.send(line);
            }
        });
    }

    async fn answered(&mut self, answer: &str) {
        let request = match answer.trim() {
            "p" | "proceed" => Request::Proceed,
            "w" | "wait" => Request::KeepPassing,
            // Also at the end of the input: nobody is there to accept a longer downtime.
            "a" | "abort" | "" => Request::RollBack,
            _ => {
                if let Some(question) = self.asked.clone() {
                    self.ask(&question);
                }
                return;
            }
        };
        if let Err(error) = self.handle.request(request).await {
            self.printer.line(&error.to_string());
        }
    }

    /// Ctrl-C: leaves a state that can be resumed, or rolls back; never a workload that is down.
    async fn interrupted(&mut self) {
        self.interrupts += 1;
        let phase = self
            .status
            .borrow()
            .migration
            .as_ref()
            .map(|migration| migration.phase.to_string());
        if self.interrupts > 1 {
            self.printer.line(&format!(
                "still busy ({}): a workload that was stopped is not left down; to break off \
                 nevertheless: kill -9 {}, then livmig-coord resume {}",
                phase.unwrap_or_default(),
                std::process::id(),
                self.name
            ));
            return;
        }
        // What waits for its journal takes the wish once that can be written.
        let asked = tokio::time::timeout(HEARD_MAX, self.handle.request(Request::Interrupt));
        let Ok(heard) = asked.await else {
            self.printer
                .line("to be interrupted as soon as the journal can be written");
            return;
        };
        match heard {
            Ok(()) => self.printer.line("interrupted: ending what is under way"),
            Err(RequestError::Refused(refusal)) => {
                self.printer.line(&format!("not interrupted: {refusal}"));
            }
            Err(RequestError::Gone) => {}
        }
    }

    fn finish(&mut self) {
        let status = self.status.borrow_and_update().clone();
        self.printer.show(&status);
        self.printer.clear();
    }
}
