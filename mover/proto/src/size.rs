//! Sizes as people write them, in every flag of both programs.

/// A size in bytes: `4096`, `512Mi`, `1.5Gi`, `100M`.
///
/// # Errors
/// What is wrong with the text, for whoever wrote it.
pub fn parse(text: &str) -> Result<u64, String> {
    let split = text
        .find(|character: char| character.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor: f64 = match unit.trim_end_matches('B') {
        "" => 1.0,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        "k" | "K" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        _ => return Err(format!("unknown unit {unit:?}; use Ki, Mi, Gi, k, M or G")),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| "expected a number and a unit, as in 512Mi".to_owned())?;
    let bytes = number * factor;
    if !(0.0..1e18).contains(&bytes) {
        return Err("expected a size from 0 to 1e18 bytes".to_owned());
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be in range"
    )]
    Ok(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_parsed() {
        for (text, count) in [
            ("4096", 4096),
            ("512Mi", 512 << 20),
            ("512MiB", 512 << 20),
            ("1.5Gi", 3 << 29),
            ("100M", 100_000_000),
        ] {
            assert_eq!(parse(text), Ok(count), "{text}");
        }
        for text in ["", "Mi", "-1", "1X", "1e30"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
