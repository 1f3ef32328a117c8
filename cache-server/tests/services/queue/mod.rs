//! The farm's queue as clients and workers meet it.

mod farm;
mod here;
mod rights;
mod run;
mod session;
