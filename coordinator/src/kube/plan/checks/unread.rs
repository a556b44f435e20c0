//! What the checks could not look at.

use crate::kube::plan::{case::Case, finding::Finding};

pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
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
    use crate::kube::plan::{finding::Severity, made, view::Unread};

    #[test]
    fn what_was_not_read_is_told() {
        let mut view = made::view();
        view.unread.push(Unread {
            what: "resourcequotas".to_owned(),
            why: "forbidden".to_owned(),
        });
        made::finds(check, &view, Severity::Info, "forbidden");
    }
}
