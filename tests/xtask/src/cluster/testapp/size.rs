//! How much data a volume holds.

use std::{fmt, str::FromStr};

/// A number of MiB, written as Kubernetes writes quantities: `512Mi`, `1Gi`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::cluster) struct Mebibytes(pub(in crate::cluster) u32);

/// More is no test any more; the volumes lie on this machine twice.
const LARGEST: u32 = 64 * 1024;

impl fmt::Display for Mebibytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}Mi", self.0)
    }
}

impl FromStr for Mebibytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, unit) = text
            .strip_suffix("Gi")
            .map(|number| (number, 1024))
            .or_else(|| text.strip_suffix("Mi").map(|number| (number, 1)))
            .ok_or("write it as 512Mi or 1Gi")?;
        number
            .parse::<u32>()
            .ok()
            .and_then(|number| number.checked_mul(unit))
            .filter(|size| *size <= LARGEST)
            .map(Self)
            .ok_or_else(|| format!("a whole number of at most {}Gi", LARGEST / 1024))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_kubernetes_writes_them() {
        assert_eq!("1Gi".parse(), Ok(Mebibytes(1024)));
        assert_eq!("300Mi".parse(), Ok(Mebibytes(300)));
        assert_eq!("0Mi".parse(), Ok(Mebibytes(0)));
        for wrong in ["1", "Gi", "1G", "-1Gi", "1.5Gi", "65Gi", "4294967295Gi"] {
            assert!(wrong.parse::<Mebibytes>().is_err(), "{wrong}");
        }
    }
}
