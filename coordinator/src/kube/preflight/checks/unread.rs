//! What the checks could not look at.

use crate::kube::preflight::{context::CheckContext, finding::Finding};

pub(crate) fn check(case: &CheckContext<'_>) -> Vec<Finding> {
    case.view
        .unread
        .iter()
        .map(|unread| {
            Finding::info(
                unread.what.clone(),
                format!("Could not be read, so it was not checked: {}", unread.why),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::preflight::{finding::Severity, fixture, snapshot::Unread};

    #[test]
    fn what_was_not_read_is_told() {
        let mut view = fixture::view();
        view.unread.push(Unread {
            what: "resourcequotas".to_owned(),
            why: "forbidden".to_owned(),
        });
        fixture::finds(check, &view, Severity::Info, "forbidden");
    }
}
