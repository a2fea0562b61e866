//! Values out of rows, and times into texts.

use serde::de::DeserializeOwned;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::SqlValue;
use crate::{Error, ErrorKind, Result};

/// A row, read by the position of its columns.
#[derive(Clone, Copy)]
pub(super) struct Row<'a>(pub(super) &'a [SqlValue]);

impl<'a> Row<'a> {
    pub(super) fn optional_text(self, column: usize) -> Result<Option<&'a str>> {
        match self.0.get(column) {
            Some(SqlValue::Text(text)) => Ok(Some(text)),
            Some(SqlValue::Null) => Ok(None),
            other => Err(unreadable("a text", other)),
        }
    }

    pub(super) fn text(self, column: usize) -> Result<&'a str> {
        self.optional_text(column)?.ok_or_else(|| unreadable("a text", Some(&SqlValue::Null)))
    }

    /// A column's text as a name, id, digest or URL.
    pub(super) fn parsed<T: std::str::FromStr<Err: Into<Box<dyn std::error::Error + Send + Sync>>>>(
        self,
        column: usize,
    ) -> Result<T> {
        parse(self.text(column)?)
    }

    pub(super) fn optional_parsed<T: std::str::FromStr<Err: Into<Box<dyn std::error::Error + Send + Sync>>>>(
        self,
        column: usize,
    ) -> Result<Option<T>> {
        self.optional_text(column)?.map(parse).transpose()
    }

    pub(super) fn integer(self, column: usize) -> Result<u64> {
        match self.0.get(column) {
            Some(SqlValue::Integer(number)) => {
                u64::try_from(*number).map_err(|_| unreadable("a count", self.0.get(column)))
            }
            other => Err(unreadable("an integer", other)),
        }
    }

    /// A column's text as JSON.
    pub(super) fn json<T: DeserializeOwned>(self, column: usize) -> Result<T> {
        let text = self.text(column)?;
        serde_json::from_str(text).map_err(|source| corrupt("JSON that does not read").with_source(source))
    }

    /// A column's text as one of an enum's words.
    pub(super) fn word<T: DeserializeOwned>(self, column: usize) -> Result<T> {
        let word = serde_json::Value::from(self.text(column)?);
        serde_json::from_value(word).map_err(|source| corrupt("an unknown word").with_source(source))
    }

    pub(super) fn optional_time(self, column: usize) -> Result<Option<OffsetDateTime>> {
        let parse_time = |text| {
            OffsetDateTime::parse(text, &Rfc3339).map_err(|source| corrupt("an unreadable time").with_source(source))
        };
        self.optional_text(column)?.map(parse_time).transpose()
    }

    pub(super) fn time(self, column: usize) -> Result<OffsetDateTime> {
        self.optional_time(column)?.ok_or_else(|| unreadable("a time", Some(&SqlValue::Null)))
    }
}

fn parse<T: std::str::FromStr<Err: Into<Box<dyn std::error::Error + Send + Sync>>>>(text: &str) -> Result<T> {
    text.parse().map_err(|source| corrupt("an invalid name or id").with_source(source))
}

fn unreadable(wanted: &str, found: Option<&SqlValue>) -> Error {
    let found = match found {
        None => "no column",
        Some(SqlValue::Null) => "NULL",
        Some(SqlValue::Integer(_)) => "an integer",
        Some(SqlValue::Real(_)) => "a real number",
        Some(SqlValue::Text(_)) => "a text",
    };
    corrupt(&format!("{found} where {wanted} belongs"))
}

fn corrupt(what: &str) -> Error {
    Error::new(ErrorKind::Unexpected, format!("the database holds {what}"))
}

/// A time as text whose order is the order of times, exact to the nanosecond.
pub(super) fn stamp(time: OffsetDateTime) -> String {
    format!("{}.{:09}Z", whole_seconds(time), time.nanosecond())
}

/// A time as the database's clock writes it.
pub(super) fn clock_stamp(time: OffsetDateTime) -> String {
    format!("{}.{:03}Z", whole_seconds(time), time.millisecond())
}

fn whole_seconds(time: OffsetDateTime) -> String {
    let time = time.to_offset(time::UtcOffset::UTC);
    let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
    let (hour, minute, second) = time.to_hms();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_reads_back_exactly() {
        let time = OffsetDateTime::from_unix_timestamp_nanos(1_763_800_000_012_345_678).unwrap();
        let row = [SqlValue::Text(stamp(time))];
        assert_eq!(Row(&row).time(0).unwrap(), time);
    }

    #[test]
    fn a_value_of_the_wrong_type_is_reported() {
        let row = [SqlValue::Integer(-1)];
        assert_eq!(Row(&row).text(0).unwrap_err().kind(), ErrorKind::Unexpected);
        assert!(Row(&row).integer(0).is_err());
        assert!(Row(&row).text(1).is_err());
    }
}
