//! Whether what a volume holds fits the one that will be made.

use crate::kube::{
    objects::quantity::{about, bytes},
    preflight::{context::CheckContext, finding::Finding, select::ClaimMove, size},
};

/// Of a new volume's bytes, what a file system leaves for files, in percent: its own structures
/// and what it reserves for root take the rest.
const FOR_FILES: u64 = 93;

/// Bytes for which a new ext4 has one inode.
const PER_INODE: u64 = 16 << 10;

pub(crate) fn check(case: &CheckContext<'_>) -> Vec<Finding> {
    case.moves
        .iter()
        .flat_map(|one| findings(case, one))
        .collect()
}

fn findings(case: &CheckContext<'_>, one: &ClaimMove<'_>) -> Vec<Finding> {
    let Some(size) = size::of(one) else {
        return vec![
            Finding::error(one.object(), "The claim asks for no size that can be read")
                .hint("look at spec.resources.requests.storage"),
        ];
    };
    let Some(usage) = case.view.usage.get(one.name()) else {
        return vec![
            Finding::info(
                one.object(),
                "How much it holds is not known, so whether it fits is seen in the first pass",
            )
            .hint("df inside a pod tells"),
        ];
    };
    if usage.capacity / 2 > size {
        // A folder of a node's disk: the numbers are the disk's.
        return vec![Finding::info(
            one.object(),
            "It shares its file system with others, so how much it holds is not known",
        )];
    }
    let mut findings = Vec::new();
    if usage.used > size {
        findings.push(
            Finding::error(
                one.object(),
                format!(
                    "It holds {}; the new volume would have {}",
                    about(usage.used),
                    bytes(size)
                ),
            )
            .hint("make room, or let the claim ask for more first"),
        );
    } else if usage.used > size / 100 * FOR_FILES {
        findings.push(
            Finding::warning(
                one.object(),
                format!(
                    "It holds {}; of a new volume of {} a file system may leave less",
                    about(usage.used),
                    bytes(size)
                ),
            )
            .hint("make room, or let the claim ask for more first"),
        );
    }
    if let Some(inodes) = usage.inodes.filter(|inodes| *inodes > size / PER_INODE) {
        findings.push(
            Finding::warning(
                one.object(),
                format!(
                    "It holds {inodes} files and folders; an ext4 of {} has room for about {}",
                    bytes(size),
                    size / PER_INODE
                ),
            )
            .hint("move to a class whose file system makes inodes as needed, such as xfs"),
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::preflight::{
        finding::Severity,
        fixture,
        snapshot::{Snapshot, Usage},
    };

    const GIB: u64 = 1 << 30;

    fn holding(capacity: u64, used: u64, inodes: u64) -> Snapshot {
        let mut view = fixture::view();
        let small = Usage {
            capacity: GIB,
            used: 1,
            inodes: Some(1),
        };
        let given = Usage {
            capacity,
            used,
            inodes: Some(inodes),
        };
        view.usage.insert("data-db-0".to_owned(), given);
        view.usage.insert("data-db-1".to_owned(), small);
        view
    }

    #[test]
    fn what_does_not_fit_is_refused_and_what_hardly_fits_is_told() {
        assert_eq!(
            fixture::found(check, &holding(GIB, GIB / 2, 9), &fixture::wish()),
            []
        );
        fixture::finds(
            check,
            &holding(GIB, GIB + 1, 9),
            Severity::Error,
            "It holds",
        );
        fixture::finds(
            check,
            &holding(GIB, GIB - 1, 9),
            Severity::Warning,
            "may leave less",
        );
        fixture::finds(
            check,
            &holding(GIB, 1, 65_537),
            Severity::Warning,
            "files and folders",
        );
    }

    #[test]
    fn the_numbers_of_a_shared_disk_say_nothing_of_the_volume() {
        fixture::finds(
            check,
            &holding(100 * GIB, 50 * GIB, 9),
            Severity::Info,
            "shares its file",
        );
    }

    #[test]
    fn an_unknown_usage_is_told() {
        let findings = fixture::found(check, &fixture::view(), &fixture::wish());
        assert_eq!(findings.len(), 2);
        assert!(findings.iter().all(|f| f.severity == Severity::Info));
    }
}
