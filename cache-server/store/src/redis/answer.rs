//! What servers answer.

use bytes::Bytes;
use redis::Value;

use crate::fault::{Fault, FaultKind};

/// The answer is of another kind than the command gives.
fn unexpected(value: &Value) -> Fault {
    let kind = match value {
        Value::Nil => "nothing",
        Value::Int(_) => "a number",
        Value::BulkString(_) => "a string",
        Value::Array(_) => "an array",
        Value::SimpleString(_) | Value::Okay => "a status",
        _ => "something else",
    };
    let message = format!("Redis answered with {kind} where something else was expected");
    Fault::new(FaultKind::Internal, message)
}

/// A string, or nothing.
pub(super) fn bytes(value: Value) -> Result<Option<Bytes>, Fault> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes.into())),
        other => Err(unexpected(&other)),
    }
}

/// Several answers.
pub(super) fn array(value: Value) -> Result<Vec<Value>, Fault> {
    match value {
        Value::Array(values) | Value::Set(values) => Ok(values),
        Value::Nil => Ok(Vec::new()),
        other => Err(unexpected(&other)),
    }
}

/// A number, also one that is written as a string: those of scripts that are larger than 2⁵³.
pub(super) fn integer(value: &Value) -> Result<i64, Fault> {
    match value {
        Value::Int(number) => Ok(*number),
        Value::BulkString(bytes) => std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| unexpected(value)),
        other => Err(unexpected(other)),
    }
}

/// A number that is not negative; 0 for nothing.
pub(super) fn count(value: &Value) -> Result<u64, Fault> {
    if matches!(value, Value::Nil) {
        return Ok(0);
    }
    Ok(u64::try_from(integer(value)?).unwrap_or(0))
}

/// The string of an array's place.
pub(super) fn text(value: Option<&Value>) -> Result<String, Fault> {
    match value {
        Some(Value::BulkString(bytes)) => Ok(String::from_utf8_lossy(bytes).into_owned()),
        Some(Value::SimpleString(text)) => Ok(text.clone()),
        Some(other) => Err(unexpected(other)),
        None => Err(unexpected(&Value::Nil)),
    }
}

/// Strings with their scores, as sorted sets give them.
pub(super) fn scores(value: Value) -> Result<Vec<(Bytes, f64)>, Fault> {
    let mut values = array(value)?.into_iter();
    let mut found = Vec::with_capacity(values.len() / 2);
    while let (Some(member), Some(score)) = (values.next(), values.next()) {
        let score = text(Some(&score))?
            .parse()
            .map_err(|_| unexpected(&score))?;
        found.push((bytes(member)?.unwrap_or_default(), score));
    }
    Ok(found)
}
