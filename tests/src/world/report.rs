//! What a mover said of a pass, read as a person's script would.

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::run::Finished;

/// What one run of `sync --json` said.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its exit code.
    pub exit: i32,
    /// Paths of what failed, and how many there are in all.
    pub faults: Named,
    /// What was left out, by reason.
    pub left: Vec<Left>,
    /// What it said to people.
    pub said: String,
}

/// Some paths of all there are.
#[derive(Clone, Debug, Default)]
pub struct Named {
    /// Those that are listed.
    pub paths: Vec<Vec<u8>>,
    /// How many there are.
    pub total: u64,
}

/// What was left out for one reason.
#[derive(Clone, Debug)]
pub struct Left {
    /// The reason's name.
    pub reason: String,
    /// Whether it needs consent.
    pub is_grave: bool,
    /// Whether it has that.
    pub is_consented: bool,
    /// The entries.
    pub named: Named,
}

impl Report {
    /// Reads what a run printed.
    pub fn of(finished: &Finished) -> Result<Self> {
        let exit = finished
            .status
            .code()
            .with_context(|| format!("{} was killed: {}", finished.command, finished.stderr))?;
        let json = finished.json().with_context(|| finished.stderr.clone())?;
        let list = |name: &str| json.get(name).and_then(Value::as_array).cloned();
        let faults = list("faults").context("no faults")?;
        let left = list("leftOut").context("no leftOut")?;
        Ok(Self {
            exit,
            faults: Named {
                paths: faults
                    .iter()
                    .filter_map(|fault| fault.get("path").and_then(Value::as_str))
                    .map(unescape)
                    .collect(),
                total: number(&json, "faultsTotal")?,
            },
            left: left.iter().map(Left::of).collect::<Result<_>>()?,
            said: finished.stderr.clone(),
        })
    }
}

impl Left {
    fn of(json: &Value) -> Result<Self> {
        let text = |name: &str| json.get(name).and_then(Value::as_str);
        let paths = json.get("paths").and_then(Value::as_array);
        Ok(Self {
            reason: text("reason").context("no reason")?.to_owned(),
            is_grave: text("gravity").context("no gravity")? == "grave",
            is_consented: json.get("consented") == Some(&Value::Bool(true)),
            named: Named {
                paths: paths
                    .context("no paths")?
                    .iter()
                    .filter_map(Value::as_str)
                    .map(unescape)
                    .collect(),
                total: number(json, "total")?,
            },
        })
    }
}

fn number(json: &Value, name: &str) -> Result<u64> {
    json.get(name)
        .and_then(Value::as_u64)
        .with_context(|| format!("no number {name} in {json}"))
}

/// The bytes of a path that is shown as text: what is not printable is written as Rust does.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        rest = rest.get(character.len_utf8()..).unwrap_or_default();
        let (byte, length) = if character == '\\' {
            escaped(rest)
        } else {
            (None, 0)
        };
        match byte {
            Some(byte) => bytes.extend(byte),
            None => bytes.extend(character.to_string().bytes()),
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    bytes
}

/// What stands after a backslash: the bytes that it means, and its length.
fn escaped(rest: &str) -> (Option<Vec<u8>>, usize) {
    let one = |byte: u8| (Some(vec![byte]), 1);
    match rest.as_bytes().first() {
        Some(b'n') => one(b'\n'),
        Some(b't') => one(b'\t'),
        Some(b'r') => one(b'\r'),
        Some(b'x') => {
            let byte = rest
                .get(1..3)
                .and_then(|hex| u8::from_str_radix(hex, 16).ok());
            (byte.map(|byte| vec![byte]), 3)
        }
        Some(b'u') => {
            let code = rest.get(2..).and_then(|rest| rest.split('}').next());
            let character = code
                .and_then(|code| u32::from_str_radix(code, 16).ok())
                .and_then(char::from_u32);
            let length = code.map_or(0, |code| code.len() + 3);
            (character.map(|c| c.to_string().into_bytes()), length)
        }
        Some(other) => one(*other),
        None => (None, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::unescape;

    #[test]
    fn paths_are_read_back() {
        let shown = "a\\nb\\u{1b}[2J\\xff\\\\/größe \\u{202e}x";
        let bytes = [
            b"a\nb\x1b[2J\xff\\/".as_slice(),
            "größe \u{202e}x".as_bytes(),
        ]
        .concat();
        assert_eq!(unescape(shown), bytes);
    }
}
