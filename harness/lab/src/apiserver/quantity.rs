//! Quantities of resources: `500m`, `1Gi`, `2e3`.

/// What is wrong with a quantity.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "quantities must match the regular expression \
     '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)]
pub(crate) struct Malformed;

/// The quantity as a number; precise enough to compare and to add, not to print.
pub(crate) fn parse(text: &str) -> Result<f64, Malformed> {
    let digits = |character: char| !character.is_ascii_digit() && !"+-.".contains(character);
    let end = text.find(digits).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let plain = number.chars().any(|character| character.is_ascii_digit());
    let number: f64 = number.parse().ok().filter(|_| plain).ok_or(Malformed)?;
    Ok(number * factor(suffix)?)
}

fn factor(suffix: &str) -> Result<f64, Malformed> {
    if let Some((_, factor)) = SUFFIXES.iter().find(|(known, _)| *known == suffix) {
        return Ok(*factor);
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or(Malformed)?;
    exponent
        .parse::<i32>()
        .map(|exponent| 10_f64.powi(exponent))
        .or(Err(Malformed))
}

const SUFFIXES: [(&str, f64); 16] = [
    ("", 1.0),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_scale() {
        for (text, value) in [
            ("1", 1.0),
            ("500m", 0.5),
            ("1Ki", 1024.0),
            ("2e3", 2000.0),
            ("-1k", -1000.0),
            (".5", 0.5),
        ] {
            assert_eq!(parse(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "m", "1 Gi", "1gi", "1.2.3", "one", "1e", "+", "inf"] {
            assert_eq!(parse(text), Err(Malformed), "{text}");
        }
    }
}
