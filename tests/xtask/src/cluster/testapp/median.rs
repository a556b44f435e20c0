//! The middle of several measurements.

/// The median, if there is any number. Of an even number of them the two in the middle count alike.
pub(in crate::cluster) fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let upper = numbers.get(numbers.len() / 2)?;
    let lower = numbers.get((numbers.len().max(1) - 1) / 2)?;
    Some(f64::midpoint(*lower, *upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![10.5, 1.4, 1.5]), Some(1.5));
        assert_eq!(median(vec![1.0, 2.0, 10.0, 3.0]), Some(2.5));
    }
}
