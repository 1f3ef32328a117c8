//! One line of comma-separated fields, as Go's `encoding/csv` and BuildKit read it.
//!
//! A field that begins with a double quote ends at the next single one; two of them stand for one.
//! So `type=image,"name=a,b"` has two fields.

/// A line is no list of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CsvError {
    /// A quote where no field begins.
    #[error("a `\"` inside a field; quote the whole field and double the quotes in it")]
    BareQuote,
    /// A quote that is not closed, or closed too early.
    #[error("a `\"` without its second one, or with something else than a comma behind it")]
    UnclosedQuote,
}

/// The fields of a line.
pub fn fields(line: &str) -> Result<Vec<String>, CsvError> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let field = &rest[..end];
                if field.contains('"') {
                    return Err(CsvError::BareQuote);
                }
                (field.to_owned(), &rest[end..])
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return Ok(fields),
        }
    }
}

/// A field behind its opening quote, and what follows it: nothing, or a comma and more.
fn quoted_field(text: &str) -> Result<(String, &str), CsvError> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let quote = rest.find('"').ok_or(CsvError::UnclosedQuote)?;
        field.push_str(&rest[..quote]);
        rest = &rest[quote + 1..];
        if let Some(after) = rest.strip_prefix('"') {
            field.push('"');
            rest = after;
        } else if rest.is_empty() || rest.starts_with(',') {
            return Ok((field, rest));
        } else {
            return Err(CsvError::UnclosedQuote);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quotes_keep_commas_together() {
        assert_eq!(
            fields(r#"type=image,"name=a,b",push=true"#).unwrap(),
            ["type=image", "name=a,b", "push=true"]
        );
        assert_eq!(fields(r#""a""b""#).unwrap(), [r#"a"b"#]);
        assert_eq!(fields("").unwrap(), [""]);
        assert_eq!(fields("a,").unwrap(), ["a", ""]);
    }

    #[test]
    fn stray_quotes_are_refused() {
        assert_eq!(fields(r#"name="a,b""#), Err(CsvError::BareQuote));
        assert_eq!(fields(r#""a"#), Err(CsvError::UnclosedQuote));
        assert_eq!(fields(r#""a"b"#), Err(CsvError::UnclosedQuote));
    }

    proptest! {
        #[test]
        fn quoted_fields_come_back(values in prop::collection::vec("[a-c,\"=é]{0,6}", 1..5)) {
            let line = values
                .iter()
                .map(|value| format!("\"{}\"", value.replace('"', "\"\"")))
                .collect::<Vec<_>>()
                .join(",");
            prop_assert_eq!(fields(&line).unwrap(), values);
        }
    }
}
