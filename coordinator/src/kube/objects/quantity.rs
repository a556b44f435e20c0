//! Amounts as Kubernetes writes them: `1Gi`, `500m`, `1e3`.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The amount in whole units, rounded up; none when the text is no quantity or does not fit.
pub fn amount(quantity: &Quantity) -> Option<u64> {
    let text = quantity.0.trim();
    let split = text
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let (numerator, denominator) = factor(suffix)?;
    let number = number.strip_prefix('+').unwrap_or(number);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.len() > 18 {
        return None;
    }
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let product = digits.checked_mul(numerator)?;
    u64::try_from(product.div_ceil(scale.checked_mul(denominator)?)).ok()
}

/// Bytes as Kubernetes writes them, in the largest unit that divides them.
pub fn bytes(count: u64) -> String {
    let units = [("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];
    let fits = units
        .into_iter()
        .find(|(_, bits)| count > 0 && count.trailing_zeros() >= *bits);
    match fits {
        Some((unit, bits)) => format!("{}{unit}", count >> bits),
        None => count.to_string(),
    }
}

/// Bytes, rounded up to whole mebibytes: for what was measured and not asked for.
pub fn about(count: u64) -> String {
    format!("{}Mi", count.div_ceil(1 << 20))
}

/// A suffix as a fraction.
fn factor(suffix: &str) -> Option<(u128, u128)> {
    Some(match suffix {
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "" => (1, 1),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10u128.checked_pow(exponent.unsigned_abs())?;
            if exponent < 0 { (1, power) } else { (power, 1) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_they_are_read() {
        for (count, text) in [
            (0, "0"),
            (1 << 30, "1Gi"),
            (3 << 29, "1536Mi"),
            (1025, "1025"),
        ] {
            assert_eq!(bytes(count), text);
            assert_eq!(amount(&Quantity(text.to_owned())), Some(count));
        }
        assert_eq!(about((5 << 20) + 1), "6Mi");
    }

    #[test]
    fn amounts_are_read_as_the_api_writes_them() {
        for (text, expected) in [
            ("0", 0),
            ("3", 3),
            ("1Gi", 1 << 30),
            ("1.5Gi", 3 << 29),
            ("500m", 1),
            ("1500m", 2),
            ("1e3", 1000),
            ("2E", 2_000_000_000_000_000_000),
            ("+5k", 5000),
            ("12e-1", 2),
        ] {
            assert_eq!(amount(&Quantity(text.to_owned())), Some(expected), "{text}");
        }
        for text in ["", "Gi", "-1", "1X", "1ee", "1.2.3", "99E", "1e99", "1-2"] {
            assert_eq!(amount(&Quantity(text.to_owned())), None, "{text}");
        }
    }
}
