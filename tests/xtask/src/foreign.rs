//! A cluster that this program has not made, to run the tests of clusters on.

use std::{
    path::{Path, PathBuf, absolute},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::machine;

/// Which cluster, and what is called otherwise there.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Run the tests that need a cluster on that of this kubeconfig, instead of making one
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The kubectl to use there [default: the one on the path]
    #[arg(long, value_name = "FILE", requires = "kubeconfig")]
    kubectl: Option<PathBuf>,
    /// The class there that volumes come from [default: `LIVMIG_FROM_CLASS`, or old]
    #[arg(long, value_name = "CLASS", requires = "kubeconfig")]
    from_class: Option<String>,
    /// The class there that volumes go to [default: `LIVMIG_TO_CLASS`, or new]
    #[arg(long, value_name = "CLASS", requires = "kubeconfig")]
    to_class: Option<String>,
    /// The movers' image, which its nodes hold or can pull [default: `LIVMIG_MOVER_IMAGE`, or what
    /// livmig-coord names]
    #[arg(long, value_name = "REF", requires = "kubeconfig")]
    mover_image: Option<String>,
    /// The workloads' image, with bash and coreutils, likewise [default: `LIVMIG_TEST_IMAGE`, or
    /// livmig.io/test/git:1]
    #[arg(long, value_name = "REF", requires = "kubeconfig")]
    test_image: Option<String>,
}

/// Variables that say what is called otherwise.
const FROM_CLASS: &str = "LIVMIG_FROM_CLASS";
const TO_CLASS: &str = "LIVMIG_TO_CLASS";
const MOVER_IMAGE: &str = "LIVMIG_MOVER_IMAGE";
const TEST_IMAGE: &str = "LIVMIG_TEST_IMAGE";

/// All of them, for a cluster where nothing is.
pub(crate) const VARIABLES: [&str; 4] = [FROM_CLASS, TO_CLASS, MOVER_IMAGE, TEST_IMAGE];

/// The cluster.
#[derive(Debug)]
pub(crate) struct Foreign {
    /// How it is reached.
    pub(crate) kubeconfig: PathBuf,
    /// With which kubectl.
    pub(crate) kubectl: PathBuf,
    from_class: String,
    to_class: String,
    mover_image: Option<String>,
    test_image: Option<String>,
}

impl Foreign {
    /// The one that the options ask for, if they do; `variable` is what the environment has.
    pub(crate) fn of(
        options: &Options,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>> {
        let Some(kubeconfig) = &options.kubeconfig else {
            return Ok(None);
        };
        let or = |given: &Option<String>, name: &str| {
            given
                .clone()
                .or_else(|| variable(name).filter(|value| !value.is_empty()))
        };
        Ok(Some(Self {
            // The tests run in another folder. Links stay: by its name, one program may be many.
            kubeconfig: absolute(kubeconfig)?,
            kubectl: match &options.kubectl {
                Some(file) => absolute(file)?,
                None => "kubectl".into(),
            },
            from_class: or(&options.from_class, FROM_CLASS).unwrap_or_else(|| "old".to_owned()),
            to_class: or(&options.to_class, TO_CLASS).unwrap_or_else(|| "new".to_owned()),
            mover_image: or(&options.mover_image, MOVER_IMAGE),
            test_image: or(&options.test_image, TEST_IMAGE),
        }))
    }

    /// What the tests are told.
    pub(crate) fn variables(&self) -> Vec<(&'static str, &str)> {
        let images = [
            (MOVER_IMAGE, &self.mover_image),
            (TEST_IMAGE, &self.test_image),
        ];
        let named = images
            .into_iter()
            .filter_map(|(name, image)| Some((name, image.as_deref()?)));
        [(FROM_CLASS, &*self.from_class), (TO_CLASS, &*self.to_class)]
            .into_iter()
            .chain(named)
            .collect()
    }

    /// What keeps the tests from running there.
    pub(crate) fn problems(&self) -> Result<Vec<String>> {
        if self.kubectl == Path::new("kubectl") && !machine::is_on_path("kubectl") {
            return Ok(vec![
                "kubectl is not on the path: install it, or name one with --kubectl".to_owned(),
            ]);
        }
        let output = Command::new(&self.kubectl)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(["get", "storageclasses", "--request-timeout=30s", "-o"])
            .arg(r#"jsonpath={range .items[*]}{.metadata.name}{"\n"}{end}"#)
            .output()
            .with_context(|| format!("{} could not be started", self.kubectl.display()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            // Before the last line it tells of every attempt.
            let said = said.trim().lines().last().unwrap_or_default();
            return Ok(vec![format!(
                "the cluster of {} does not answer: {said}",
                self.kubeconfig.display()
            )]);
        }
        let said = String::from_utf8_lossy(&output.stdout);
        Ok(self.lacking(&said.lines().collect::<Vec<_>>()))
    }

    /// What a cluster lacks that has these storage `classes`.
    fn lacking(&self, classes: &[&str]) -> Vec<String> {
        if self.from_class == self.to_class {
            return vec![format!(
                "volumes are to come from the class {} and go there: name another one with \
                 --from-class or --to-class",
                self.to_class
            )];
        }
        [
            (&self.from_class, "--from-class"),
            (&self.to_class, "--to-class"),
        ]
        .into_iter()
        .filter(|(class, _)| !classes.contains(&class.as_str()))
        .map(|(class, option)| {
            format!(
                "the cluster of {} has no storage class {class}, only {}: name one with {option}",
                self.kubeconfig.display(),
                classes.join(", ")
            )
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn foreign(words: &[&str]) -> Option<Foreign> {
        let words = ["test"].iter().chain(words);
        let line = Line::try_parse_from(words).unwrap();
        let variable = |name: &str| (name == TO_CLASS).then(|| "fast".to_owned());
        Foreign::of(&line.options, variable).unwrap()
    }

    #[test]
    fn without_a_kubeconfig_there_is_none() {
        assert!(foreign(&[]).is_none());
        assert!(Line::try_parse_from(["test", "--to-class", "fast"]).is_err());
    }

    #[test]
    fn an_option_counts_more_than_a_variable_and_that_more_than_a_default() {
        let by_variable = foreign(&["--kubeconfig", "/k"]).unwrap();
        let told = [(FROM_CLASS, "old"), (TO_CLASS, "fast")];
        assert_eq!(by_variable.variables(), told);
        let by_option = foreign(&[
            "--kubeconfig",
            "/k",
            "--to-class",
            "faster",
            "--mover-image",
            "registry.example/mover:1",
        ]);
        let told = [
            (FROM_CLASS, "old"),
            (TO_CLASS, "faster"),
            (MOVER_IMAGE, "registry.example/mover:1"),
        ];
        assert_eq!(by_option.unwrap().variables(), told);
    }

    #[test]
    fn classes_that_are_not_there_are_named() {
        let cluster = foreign(&["--kubeconfig", "/k"]).unwrap();
        assert!(cluster.lacking(&["fast", "old"]).is_empty());
        let lacking = cluster.lacking(&["standard", "old"]);
        assert_eq!(
            lacking,
            [
                "the cluster of /k has no storage class fast, only standard, old: name one with \
              --to-class"
            ]
        );
        let same = foreign(&["--kubeconfig", "/k", "--from-class", "fast"]).unwrap();
        assert_eq!(same.lacking(&["fast"]).len(), 1);
    }
}
