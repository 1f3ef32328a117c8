//! Times and tables in the form that people read.

pub(crate) mod age;
pub(crate) mod table;
